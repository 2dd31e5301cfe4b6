"""The columns of a table as the steps use them: ids and texts as texts, ratings as numbers, times as unix seconds.

A column that is in order is returned as it is. InputError names the file, the column, the row and the value of what
cannot be converted. Our decisions, as in the reader of raw dumps.
"""

import calendar
import re
from collections.abc import Callable
from datetime import date, datetime

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_datetime64_dtype, is_float_dtype, is_integer_dtype

from reason4rec.errors import InputError
from reason4rec.run.plain import one_line

NUMBER = re.compile(r"\s*[+-]?([0-9]{1,40}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*")
EXACT = 2**53  # a whole number with a point above this may be another one
MILLISECONDS, MICROSECONDS, NANOSECONDS = (
    10**11,
    10**14,
    10**17,
)  # a time above this is in such; finer ones in a file of such
UNDATED = 10**8  # a text of digits below this, such as 20140501, is no time


class UnfitError(ValueError):
    """A value that cannot be converted."""


def texts(column: pd.Series, where: str) -> pd.Series:
    """A column of texts; bytes are read as UTF-8."""
    return column if _is_text(column) else _converted(column, _text, where, "a text").astype("str")


def ids(column: pd.Series, where: str) -> pd.Series:
    """A column of texts in which whole numbers are written out: 17, 17.0 and "17" are one user."""
    if _is_text(column):
        return column
    return _converted(column, _id, where, "a text or a whole number").astype("str")


def ratings(column: pd.Series, where: str) -> pd.Series:
    """A column of numbers; texts of numbers are read as those."""
    if _is_number(column):
        return column
    return _converted(column, _number, where, "a number").astype("float64")


def predictions(column: pd.Series, where: str) -> pd.Series:
    """A column of numbers of which some may be missing; one with texts is returned as it is."""
    if _is_number(column) or (column.dtype == object and any(isinstance(value, str) for value in column)):
        return column
    return column if infer_dtype(column) == "string" else ratings(column, where)


def times(column: pd.Series, where: str) -> pd.Series:
    """A column of whole unix seconds, from numbers, datetimes, or texts such as `2014-05-01 12:00:00`.

    Milliseconds are told by their size and cut to seconds, and so is a whole column of microseconds or nanoseconds; a
    time without a zone is one of UTC.
    """
    if isinstance(column.dtype, np.dtype) and is_integer_dtype(column) and column.max() < 2**63:
        return _in_seconds(column)
    if is_datetime64_dtype(column) and column.notna().all():
        seconds = column.to_numpy("datetime64[s]").astype("int64")
        return pd.Series(seconds, index=column.index, name=column.name)
    converted = _converted(column, _seconds, where, "a time in unix seconds or as 2014-05-01 12:00:00")
    return converted if converted.isna().any() else _in_seconds(converted.astype("int64"))


def is_of_times(column: pd.Series) -> bool:
    """Whether a column holds datetimes and nothing else."""
    return is_datetime64_dtype(column) or infer_dtype(column) in ("datetime", "datetime64", "date")


def _is_text(column: pd.Series) -> bool:
    return infer_dtype(column) in ("string", "empty")


def _is_number(column: pd.Series) -> bool:
    known = isinstance(column.dtype, np.dtype) and not is_bool_dtype(column)
    return known and (is_integer_dtype(column) or is_float_dtype(column))


def _converted(column: pd.Series, convert: Callable[[object], object], where: str, expected: str) -> pd.Series:
    """The converted values, None where one is missing."""
    values = column.astype(object)
    result = []
    for row, (value, missing) in enumerate(zip(values, values.isna())):
        try:
            result.append(None if missing else convert(value))
        except (ValueError, OverflowError):
            raise InputError(
                f"{where}: column {one_line(str(column.name))} holds {_shown(value)} in row {row}, not {expected}; "
                f"convert the column and write the file again"
            ) from None
    return pd.Series(result, index=column.index, name=column.name, dtype=object)


def _shown(value: object) -> str:
    # To print a list of lists can take for ever.
    kind = type(value).__name__
    return f"a {kind}" if isinstance(value, (list, dict)) else one_line(f"{value!r}"[:60])


def _text(value: object) -> str:
    if not isinstance(value, (str, bytes)):
        raise UnfitError
    return value.decode() if isinstance(value, bytes) else str(value)


def _id(value: object) -> str:
    return _text(value) if isinstance(value, (str, bytes)) else str(_whole(value))


def _number(value: object) -> float:
    if isinstance(value, (str, bytes)):
        value = _text(value)
        fits = NUMBER.fullmatch(value)
    else:
        fits = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not fits:
        raise UnfitError
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    number = _number(value)
    if not number.is_integer() or abs(number) > EXACT:
        raise UnfitError
    return int(number)


def _seconds(value: object) -> int:
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, (str, bytes)):
        text = _text(value).strip()
        if NUMBER.fullmatch(text):
            value = _whole(text)
            if value < UNDATED:
                raise UnfitError
        else:
            value = datetime.fromisoformat(text)
    if isinstance(value, datetime):
        return calendar.timegm(value.utctimetuple())
    if isinstance(value, date):
        return calendar.timegm(value.timetuple())
    seconds = _whole(value)
    if abs(seconds) >= 2**63:
        raise UnfitError
    return seconds


def _in_seconds(times: pd.Series) -> pd.Series:
    """Whole numbers as seconds; the times themselves where they all are."""
    finer = times > MILLISECONDS
    if not finer.any():
        return times
    least = times.min()
    if least > MICROSECONDS:
        return times // (10**9 if least > NANOSECONDS else 10**6)
    # One time above those of milliseconds among others says nothing, and stays what it is.
    finer &= times <= MICROSECONDS
    return times.where(~finer, times // 1000) if finer.any() else times
