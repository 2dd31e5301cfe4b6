"""An unpickler that builds frames, lists, dicts, texts, numbers and dates, and nothing else.

It reads what pandas 1.x to 3.x and numpy 1.x and 2.x write, in any protocol. The names in a pickle stand for functions
of this module that check what they are given, so no file gets hold of a class or function of another library. What is
not understood becomes a `Foreign`, which is never called: it can only be left out with its column.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from types import FunctionType

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray

from reason4rec.run.pickle_codes import Codes
from reason4rec.run.plain import (
    LEAVES,
    Foreign,
    NeededColumnError,
    Part,
    Search,
    called,
    checked,
    content,
    one_line,
    one_of,
    refuse,
)


@dataclass(frozen=True, eq=False)
class Table:
    """A frame of the columns that are understood, and the labels of those that are not."""

    frame: pd.DataFrame
    foreign: list[tuple[object, Foreign]]

    @property
    def size(self) -> int:
        return self.frame.size


def _dtype(name: str, *_: object) -> Part:
    if not re.fullmatch("[biuf][1248]|O8|M8|U[0-9]{1,4}", checked(name, str)):
        refuse(Foreign(one_line(f"numpy's type {name}")))

    def fill(state: tuple) -> np.dtype:
        unit = ""
        if name == "M8":
            steps = one_of(state[8][1], *((unit, 1, 1, 1) for unit in (b"ns", b"us", b"ms", b"s", b"D")))
            unit = f"[{steps[0].decode()}]"
        return np.dtype(one_of(state[1], "<", "|", ">") + name + unit)

    return Part(fill)


def _filled(data: bytes | list, dtype: Part, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not checked(dtype, np.dtype).hasobject:
        return _numbers(data, dtype).reshape(shape, order=order)
    # The bytes of a file are never taken for the pointers of an object array. Objects are always written row by row.
    return np.fromiter(checked(data, list), object, len(data)).reshape(shape)


def _numbers(data: bytes, dtype: Part) -> np.ndarray:
    return np.frombuffer(checked(data, bytes), checked(dtype, np.dtype))


def _array(*_: object) -> Part:
    return Part(lambda state: _filled(state[4], state[2], state[1], "F" if state[3] is True else "C"))


def _scalar(dtype: Part, data: bytes) -> np.generic:
    (value,) = _numbers(data, dtype)
    return value


def _flat(values: np.ndarray | ExtensionArray) -> np.ndarray | ExtensionArray:
    """Labels or texts: one row, in which nothing takes for ever to hash or to print."""
    if values.ndim != 1 or (values.dtype == object and not set(map(type, values)) <= LEAVES):
        refuse("its labels or texts hold something else")
    return values


def _string_type(*settings: object) -> pd.StringDtype | Part:
    if not settings:  # pandas 2.2 gives the storage later
        return Part(lambda state: pd.StringDtype(one_of(state["storage"], "python", "pyarrow")))
    storage, missing = settings
    return pd.StringDtype(one_of(storage, "python", "pyarrow"), checked(missing, float, type(pd.NA)))


def _backed(kind: object, *_: object) -> Part:
    """Texts, times or categories, which lie in an array of numpy's; times with a zone are those of UTC without one."""

    def fill(state: tuple | dict) -> np.ndarray | ExtensionArray:
        if type(kind) is Foreign:
            refuse(kind)
        if type(state) is dict:  # pandas before 1.3
            state = state["_dtype"], next(state[key] for key in ("_ndarray", "_codes", "_data") if key in state)
        values = checked(state[1], np.ndarray)
        if kind is _times:
            return values
        if kind is _categories:
            return pd.Categorical.from_codes(_flat(values), dtype=checked(state[0], pd.CategoricalDtype))
        return pd.array(_flat(values), dtype=checked(state[0], pd.StringDtype))

    return Part(fill)


def _texts() -> Part:
    return _backed(_texts)


def _times() -> Part:
    return _backed(_times)


def _categories() -> Part:
    return _backed(_categories)


def _category_type() -> Part:
    def fill(state: dict) -> pd.CategoricalDtype:
        categories, ordered = checked(state["categories"], pd.Index), checked(state["ordered"], bool, type(None))
        return pd.CategoricalDtype(refuse("nested categories") if categories.nlevels > 1 else categories, ordered)

    return Part(fill)


def _nullable(make: Callable[[np.ndarray, np.ndarray], ExtensionArray]) -> Callable[[], Part]:
    """Numbers or truth values of which some are missing."""

    def fill(state: dict) -> ExtensionArray:
        return make(*(_flat(checked(state[key], np.ndarray)) for key in ("_data", "_mask")))

    return lambda: Part(fill)


def _arrow_values() -> Part:
    def fill(state: dict) -> np.ndarray | ExtensionArray:
        values = checked(state["_pa_array"], pa.Array)
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            kind = content(state["_dtype"])
            # A type of pyarrow's own says nothing that its texts do not.
            return (kind if isinstance(kind, pd.StringDtype) else pd.StringDtype()).__from_arrow__(values)
        return values.to_numpy(zero_copy_only=False)[None]

    return Part(fill)


def _arrow_array(state: tuple) -> pa.Array:
    kind, length, _, offset, buffers, *_ = state
    values = pa.Array.from_buffers(checked(kind, pa.DataType), length, checked(buffers, list), -1, offset)
    values.validate(full=True)  # no text lies outside its buffer
    return values


def _index(kind: object, fields: dict) -> pd.Index:
    if kind is _LEVELS:
        levels = [pd.Index(_flat(checked(level, pd.Index).array)) for level in checked(fields["levels"], list)]
        codes = [checked(of_level, np.ndarray) for of_level in checked(fields["codes"], list)]
        return pd.MultiIndex(levels, codes, names=list(map(_name, fields["names"])))
    if type(kind) is Foreign:
        refuse(kind)
    name = _name(fields["name"])
    if kind is _RANGE:
        return pd.RangeIndex(*(checked(fields[key], int) for key in ("start", "stop", "step")), name=name)
    values = _flat(checked(fields["data"], np.ndarray, ExtensionArray))
    return pd.Index(values, dtype=values.dtype, name=name)


def _name(name: object) -> str | int | None:
    return name if type(name) in (str, int) else None


def _block(values: object, places: object, _: int = 2) -> tuple:
    return checked(values, np.ndarray, ExtensionArray, Foreign), checked(places, range, np.ndarray)


def _manager(*given: object) -> Table | Part:
    if given:
        return _frame(*given)

    def fill(state: tuple) -> Table:  # pandas before 1.3
        parts = state[3]["0.14.1"]
        return _frame([_block(block["values"], block["mgr_locs"]) for block in parts["blocks"]], parts["axes"])

    return Part(fill)


def _frame(blocks: tuple | list, axes: list) -> Table:
    """The frame of these columns, put together one by one, because pandas believes the places and lengths it reads."""
    names, index = checked(axes[0], pd.Index), checked(axes[1], pd.Index, Foreign)
    foreign = []
    if type(index) is Foreign:
        foreign.append(("its index", index))
        index = pd.RangeIndex(next(values.shape[-1] for values, _ in blocks if isinstance(values, np.ndarray)))
    columns = {}
    for values, places in blocks:
        if not len(places) <= len(names):
            refuse("its columns are more than their names")
        rows = values if isinstance(values, np.ndarray) else [values]
        if type(values) is Foreign:
            rows = [values] * len(places)
        if len(rows) != len(places):
            refuse("its columns are not as many as their places")
        for place, row in zip(places, rows):
            if int(place) in columns or (type(row) is not Foreign and len(row) != len(index)):
                refuse("its columns do not fit together")
            columns[int(place)] = row
    if sorted(columns) != list(range(len(names))):
        refuse("its columns are not as many as their names")
    foreign += [(names[place], row) for place, row in columns.items() if type(row) is Foreign]
    known = {
        place: pd.Series(row, index=index, dtype=row.dtype, copy=False)
        for place, row in sorted(columns.items())
        if type(row) is not Foreign
    }
    frame = pd.DataFrame(known, index=index, copy=False)
    frame.columns = names[list(known)] if foreign else names
    return Table(frame, foreign)


def _data_frame() -> Part:
    return Part(lambda state: checked(state["_mgr"] if "_mgr" in state else state["_data"], Table))


def _timestamp(value: int, _: None, zone: object, unit: int = 10) -> pd.Timestamp:
    unit = {10: "ns", 9: "us", 8: "ms", 7: "s"}[one_of(unit, 10, 9, 8, 7)]
    checked(zone, type(None), tzinfo, Foreign)  # the value is that of UTC whatever the zone
    return pd.Timestamp(np.datetime64(checked(value, int), unit))


def _moment(data: bytes, zone: tzinfo | None = None) -> datetime:
    moment = datetime(checked(data, bytes), checked(zone, tzinfo, type(None)))
    return moment.astimezone(UTC).replace(tzinfo=None) if zone else moment


def _decimal(text: str) -> int | float:
    # Never a Decimal: one of a few characters can be a number of a billion digits.
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,30})?", checked(text, str)):
        refuse(Foreign("decimal.Decimal"))
    return float(text) if "." in text else int(text)


def _empty_bytes() -> bytes:
    return b""


def _instance(kind: object, _: object, __: object) -> object:
    """A part as protocols 0 and 1 name it."""
    return called(kind if type(kind) is Foreign else checked(kind, FunctionType), ())


# What the names in a pickle stand for: functions that check what they are given, and words that are given to them.
# No file gets hold of a class or function of pandas, numpy or pyarrow, so that it can neither call nor change one.
_RANGE, _LEVELS, _OTHER = object(), object(), object()
_ARROW_NAMES = ("large_string", "string", "int64", "double", "bool")
_NAMES = {
    (module, name): meaning
    for modules, name, meaning in (
        ("numpy.core.multiarray numpy._core.multiarray", "_reconstruct", _array),
        ("numpy.core.multiarray numpy._core.multiarray", "scalar", _scalar),
        ("numpy.core.numeric numpy._core.numeric", "_frombuffer", _filled),
        ("numpy", "ndarray", _OTHER),
        ("numpy", "dtype", _dtype),
        ("pandas.core.frame pandas", "DataFrame", _data_frame),
        ("pandas.core.internals.managers", "BlockManager", _manager),
        ("pandas._libs.internals", "_unpickle_block", _block),
        ("pandas.core.indexes.base", "_new_Index", _index),
        ("pandas.core.indexes.datetimes", "_new_DatetimeIndex", _index),
        ("pandas.core.indexes.base pandas", "Index", _OTHER),
        ("pandas.core.indexes.numeric", "Int64Index", _OTHER),  # this and the next two of pandas 1.x
        ("pandas.core.indexes.numeric", "UInt64Index", _OTHER),
        ("pandas.core.indexes.numeric", "Float64Index", _OTHER),
        ("pandas.core.indexes.range pandas", "RangeIndex", _RANGE),
        ("pandas.core.indexes.multi pandas", "MultiIndex", _LEVELS),
        ("pandas.core.indexes.datetimes pandas", "DatetimeIndex", _OTHER),
        ("pandas.core.indexes.category pandas", "CategoricalIndex", _OTHER),
        ("pandas.core.arrays.string_ pandas", "StringDtype", _string_type),
        ("pandas.core.dtypes.dtypes pandas", "CategoricalDtype", _category_type),
        ("pandas._libs.missing pandas", "NA", pd.NA),
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked", _backed),
        ("pandas.core.arrays.string_ pandas.arrays", "StringArray", _texts),
        ("pandas.core.arrays.string_", "StringArrayNumpySemantics", _texts),  # pandas 2.3
        ("pandas.core.arrays.datetimes pandas.arrays", "DatetimeArray", _times),
        ("pandas.core.arrays.categorical pandas", "Categorical", _categories),
        ("pandas.core.arrays.integer pandas.arrays", "IntegerArray", _nullable(pd.arrays.IntegerArray)),
        ("pandas.core.arrays.floating pandas.arrays", "FloatingArray", _nullable(pd.arrays.FloatingArray)),
        ("pandas.core.arrays.boolean pandas.arrays", "BooleanArray", _nullable(pd.arrays.BooleanArray)),
        ("pandas.core.arrays.string_arrow pandas.arrays", "ArrowStringArray", _arrow_values),
        ("pandas.core.arrays.string_arrow", "ArrowStringArrayNumpySemantics", _arrow_values),  # pandas 2.3
        ("pandas.core.arrays.arrow.array pandas.arrays", "ArrowExtensionArray", _arrow_values),
        ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp", _timestamp),
        ("pyarrow.lib", "_restore_array", _arrow_array),
        ("pyarrow.lib", "type_for_alias", lambda name: pa.type_for_alias(one_of(name, *_ARROW_NAMES))),
        ("pyarrow.lib", "py_buffer", lambda data: pa.py_buffer(checked(data, bytes))),
        ("builtins", "slice", lambda start, stop, step: range(start, stop, step)),
        ("builtins", "bytearray", lambda data=b"": checked(data, bytes)),
        ("builtins", "bytes", _empty_bytes),
        ("builtins", "object", _OTHER),
        ("_codecs", "encode", lambda text, form: checked(text, str).encode(one_of(form, "latin1"))),
        ("copyreg", "_reconstructor", _instance),
        ("datetime", "datetime", _moment),
        ("datetime", "date", lambda data: date(checked(data, bytes))),
        ("datetime", "timedelta", lambda *parts: timedelta(*(checked(part, int) for part in parts))),
        ("datetime", "timezone", lambda offset: timezone(checked(offset, timedelta))),
        ("pytz", "_UTC", lambda: UTC),
        ("decimal", "Decimal", _decimal),
    )
    for module in modules.split()
}
UNNEEDED = ", which a table of reviews does not need"
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # protocols 0 to 2


class SafeUnpickler(Codes):
    """Reads plain data and frames from the bytes of a file, which was `size` bytes long before it was unpacked.

    `left_out` says after `load` which columns were left out and what is in them.
    """

    def __init__(self, file: bytes, size: int | None = None):
        # Far more than honest arrays need; an array that a file uses a thousand times does not fit.
        super().__init__(file, room=64 * len(file) if size is None else max(64 * size, 24 * len(file)))
        self.left_out: dict[str, str] = {}
        self.unknown = ""  # the first name in the file that stands for nothing here

    def load(self, needed: Collection[str] | None = None) -> object:
        """The frame, list, dict or value of the file; UnpicklingError if it is none or holds what is not plain data.

        Where it is known which columns are needed, the others may hold anything and are left out if they do;
        NeededColumnError if one that is needed does.
        """
        try:
            result = content(super().load())
            if type(result) is Table:
                return self._frame(result, needed)
            foreign = Search().foreign_in(result)
            return refuse(f"it holds {foreign.kind}{UNNEEDED}") if foreign else result
        except NeededColumnError:
            raise
        except Exception as error:
            if not self.unknown or self.unknown in str(error):
                raise
            reason = str(error) or "it ends too early"
            why = "" if UNNEEDED in reason else UNNEEDED
            refuse(f"{reason}; it also holds {self.unknown}{why}")

    def _frame(self, table: Table, needed: Collection[str] | None) -> pd.DataFrame:
        search, kept = Search(), []
        found = [(label, foreign, None) for label, foreign in table.foreign]
        for place, (label, column) in enumerate(table.frame.items()):
            row, foreign = search.in_column(column) if column.dtype == object else (None, None)
            found += [(label, foreign, row)] if foreign else []
            kept += [] if foreign else [place]
        for label, foreign, row in found:
            where = f"{one_line(str(label))} holds {foreign.kind}" + ("" if row is None else f" in row {row}")
            if needed is None:
                refuse(f"its column {where}{UNNEEDED}")
            if isinstance(label, str) and label in needed:
                raise NeededColumnError(where)
            self.left_out[one_line(str(label))] = foreign.kind
        # Until now the frame's arrays are bytes of the file, which cannot be written to.
        return (table.frame.iloc[:, kept] if found else table.frame).copy()

    def find_class(self, module: str, name: str) -> object:
        module = _RENAMED.get(module, module)
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        shown = ascii(f"{module}.{name}"[:100])
        self.unknown = self.unknown or shown
        return Foreign(shown)
