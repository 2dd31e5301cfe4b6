"""An unpickler that builds frames, lists, dicts, texts, numbers and dates, and nothing else.

It reads what pandas 2.2.2 to 3.x and numpy 1.26 to 2.x write. The names in a pickle stand for functions of this module
that check what they are given, so no file gets hold of a class or function of another library.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from datetime import date, datetime
from types import FunctionType
from typing import NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray


class _Part:
    """What a pickle names first and fills later: its `content` comes from the one state that follows."""

    def __init__(self, fill: Callable[[object], object]):
        self.fill, self.content = fill, self


def _refuse(reason: str) -> NoReturn:
    raise pickle.UnpicklingError(reason)


def _content(value: object) -> object:
    return value.content if type(value) is _Part else value


def _checked(value: object, *kinds: type) -> object:
    """The value or the content of a part, if it is of one of the kinds."""
    value = _content(value)
    return value if isinstance(value, kinds) else _refuse("it is not put together as pandas does it")


def _one_of(value: object, *allowed: object) -> object:
    # The type first: to compare or hash a value of a hostile file can take for ever.
    return value if type(value) is type(allowed[0]) and value in allowed else _refuse("it has an unknown setting")


def _dtype(name: str, *_: object) -> _Part:
    if not re.fullmatch("[biuf][1248]|O8|M8|U[0-9]{1,4}", _checked(name, str)):
        _refuse("it holds a numpy type that a table of reviews does not need")

    def fill(state: tuple) -> np.dtype:
        unit = ""
        if name == "M8":
            steps = _one_of(state[8][1], *((unit, 1, 1, 1) for unit in (b"ns", b"us", b"ms", b"s")))
            unit = f"[{steps[0].decode()}]"
        return np.dtype(_one_of(state[1], "<", "|", ">") + name + unit)

    return _Part(fill)


def _filled(data: bytes | list, dtype: _Part, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not _checked(dtype, np.dtype).hasobject:
        return _numbers(data, dtype).reshape(shape, order=order)
    # The bytes of a file are never taken for the pointers of an object array. Objects are always written row by row.
    return np.fromiter(_checked(data, list), object, len(data)).reshape(shape)


def _numbers(data: bytes, dtype: _Part) -> np.ndarray:
    return np.frombuffer(_checked(data, bytes), _checked(dtype, np.dtype))


def _array(*_: object) -> _Part:
    return _Part(lambda state: _filled(state[4], state[2], state[1], "F" if state[3] is True else "C"))


def _scalar(dtype: _Part, data: bytes) -> np.generic:
    (value,) = _numbers(data, dtype)
    return value


def _flat(values: np.ndarray | ExtensionArray) -> np.ndarray | ExtensionArray:
    """Labels or texts: one row, in which nothing takes for ever to hash or to print."""
    if values.ndim != 1 or (values.dtype == object and not set(map(type, values)) <= _LEAVES):
        _refuse("its labels or texts hold something else")
    return values


def _string_type(*settings: object) -> pd.StringDtype | _Part:
    if not settings:  # pandas 2.2 gives the storage later
        return _Part(lambda state: pd.StringDtype(_one_of(state["storage"], "python", "pyarrow")))
    storage, missing = settings
    return pd.StringDtype(_one_of(storage, "python", "pyarrow"), _checked(missing, float, type(pd.NA)))


def _strings_or_times(kind: object, *_: object) -> _Part:
    def fill(state: tuple) -> np.ndarray | ExtensionArray:
        values = _checked(state[1], np.ndarray)
        return values if kind is _TIMES else pd.array(_flat(values), dtype=_checked(state[0], pd.StringDtype))

    return _Part(fill)


def _arrow_strings() -> _Part:
    def fill(state: dict) -> ExtensionArray:
        return _checked(state["_dtype"], pd.StringDtype).__from_arrow__(_checked(state["_pa_array"], pa.Array))

    return _Part(fill)


def _arrow_array(state: tuple) -> pa.Array:
    kind, length, _, offset, buffers, *_ = state
    values = pa.Array.from_buffers(_checked(kind, pa.DataType), length, _checked(buffers, list), -1, offset)
    values.validate(full=True)  # no text lies outside its buffer
    return values


def _index(kind: object, fields: dict) -> pd.Index:
    name = _checked(fields["name"], str, int, type(None))
    if kind is _RANGE:
        return pd.RangeIndex(*(_checked(fields[key], int) for key in ("start", "stop", "step")), name=name)
    values = _flat(_checked(fields["data"], np.ndarray, ExtensionArray))
    return pd.Index(values, dtype=values.dtype, name=name)


def _block(values: object, places: object, _: int) -> tuple:
    return _checked(values, np.ndarray, ExtensionArray), _checked(places, range, np.ndarray)


def _frame(blocks: tuple, axes: list) -> pd.DataFrame:
    """The frame of these columns, put together one by one, because pandas believes the places and lengths it reads."""
    names, index = (_checked(axis, pd.Index) for axis in axes)
    columns = {}
    for values, places in blocks:
        rows = values if isinstance(values, np.ndarray) else [values]
        if not len(rows) == len(places) <= len(names):
            _refuse("its columns are not as many as their places")
        for place, row in zip(places, rows):
            if int(place) in columns or len(row) != len(index):
                _refuse("its columns do not fit together")
            columns[int(place)] = pd.Series(row, index=index, dtype=row.dtype, copy=False)
    if sorted(columns) != list(range(len(names))):
        _refuse("its columns are not as many as their names")
    frame = pd.DataFrame(dict(sorted(columns.items())), index=index, copy=False)
    frame.columns = names
    return frame


def _data_frame() -> _Part:
    return _Part(lambda state: _checked(state["_mgr"], pd.DataFrame))


def _timestamp(value: int, _: None, zone: None, unit: int = 10) -> pd.Timestamp:
    unit = {10: "ns", 9: "us", 8: "ms", 7: "s"}[_one_of(unit, 10, 9, 8, 7)]
    return pd.Timestamp(np.datetime64(_checked(value, int), unit), tz=_checked(zone, type(None)))


# Plain data that holds no other.
_LEAVES = {*map(type, (None, True, 1, 1.0, "", b"", pd.NA, pd.NaT)), date, datetime, pd.Timestamp}
# What the names in a pickle stand for: functions that check what they are given, and words that are given to them.
# No file gets hold of a class or function of pandas, numpy or pyarrow, so that it can neither call nor change one.
_RANGE, _TIMES, _OTHER = object(), object(), object()
_NAMES = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _filled for core in ("core", "_core")},
    ("numpy", "ndarray"): _OTHER,
    ("numpy", "dtype"): _dtype,
    **{(module, "DataFrame"): _data_frame for module in ("pandas.core.frame", "pandas")},
    ("pandas.core.internals.managers", "BlockManager"): _frame,
    ("pandas._libs.internals", "_unpickle_block"): _block,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    **{(module, "Index"): _OTHER for module in ("pandas.core.indexes.base", "pandas")},
    **{(module, "RangeIndex"): _RANGE for module in ("pandas.core.indexes.range", "pandas")},
    **{(module, "StringDtype"): _string_type for module in ("pandas.core.arrays.string_", "pandas")},
    **{(module, "NA"): pd.NA for module in ("pandas._libs.missing", "pandas")},
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _strings_or_times,
    **{(module, "StringArray"): _OTHER for module in ("pandas.core.arrays.string_", "pandas.arrays")},
    ("pandas.core.arrays.string_", "StringArrayNumpySemantics"): _OTHER,  # pandas 2.3
    **{(module, "DatetimeArray"): _TIMES for module in ("pandas.core.arrays.datetimes", "pandas.arrays")},
    **{(module, "ArrowStringArray"): _arrow_strings for module in ("pandas.core.arrays.string_arrow", "pandas.arrays")},
    ("pandas.core.arrays.string_arrow", "ArrowStringArrayNumpySemantics"): _arrow_strings,  # pandas 2.3
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): _timestamp,
    ("pyarrow.lib", "_restore_array"): _arrow_array,
    ("pyarrow.lib", "type_for_alias"): lambda name: pa.type_for_alias(_one_of(name, "large_string", "string")),
    ("pyarrow.lib", "py_buffer"): lambda data: pa.py_buffer(_checked(data, bytes)),
    ("builtins", "slice"): lambda start, stop, step: range(start, stop, step),
    ("builtins", "bytearray"): lambda data=b"": _checked(data, bytes),
    ("datetime", "datetime"): lambda data: datetime(_checked(data, bytes)),
    ("datetime", "date"): lambda data: date(_checked(data, bytes)),
}
# The codes that pickles of plain data and of frames have since protocol 3. Not among them: sets and whole numbers of
# more than 255 bytes, which can take for ever to hash or to print, and objects that are registered or kept elsewhere.
_CODES = (
    "PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 "
    "LONG1 BINFLOAT SHORT_BINBYTES BINBYTES BINBYTES8 SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST EMPTY_DICT "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL"
).split()
_TEXTS = (pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8)


def _whole(text: str) -> str:
    """The text with pairs of half characters joined and `?` for a half alone, as in the reader of raw dumps."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return joined.encode("utf-8", "replace").decode()


def _refused(code: int) -> Callable[["SafeUnpickler"], NoReturn]:
    known = pickletools.code2op.get(chr(code))
    kind = known.name if known else f"byte {code}"
    return lambda self: _refuse(f"it holds a {kind}, a code that no table of reviews has; write it as a plain table")


class SafeUnpickler(pickle._Unpickler):
    """Reads plain data and frames.

    It is Python's own unpickler, not the one in C: that one hashes whatever a file gives as a key, sets attributes of
    whatever it names, and makes room for as many bytes or objects as it announces.
    """

    def __init__(self, file: bytes):
        super().__init__(io.BytesIO(file))
        # Far more than honest arrays need; an array that a file uses a thousand times does not fit.
        self.room = 64 * len(file)

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            # Quoted and cut off: it goes to a terminal, and a file may call it as it likes.
            _refuse(f"it holds {ascii(f'{module}.{name}'[:200])}, which a table of reviews does not need")
        return _NAMES[module, name]

    def load(self) -> object:
        result = _content(super().load())
        _check_plain(result)
        # Until now the frame's arrays are bytes of the file, which cannot be written to.
        return result.copy() if isinstance(result, pd.DataFrame) else result

    def made(self, value: object) -> object:
        self.room -= getattr(value, "nbytes", 0) + 8 * getattr(value, "size", 0)
        return value if self.room >= 0 else _refuse("its arrays are larger than the file")

    def load_call(self) -> None:
        given, make = self.stack.pop(), self.stack.pop()
        self.append(self.made(_checked(make, FunctionType)(*_checked(given, tuple))))

    def load_state(self) -> None:
        state, part = self.stack.pop(), self.stack[-1]
        if type(part) is not _Part or part.content is not part:
            _refuse("it changes what it has not made")
        part.content = self.made(part.fill(state))

    def load_text(self, code: int) -> None:
        pickle._Unpickler.dispatch[code](self)
        self.stack[-1] = _whole(self.stack[-1])

    def load_items(self, items: list) -> None:
        _checked(self.stack[-1], list).extend(items)

    def load_entries(self, entries: list) -> None:
        if not set(map(type, entries[::2])) <= {str, int}:
            _refuse("it holds keys that are neither texts nor whole numbers")
        _checked(self.stack[-1], dict).update(zip(entries[::2], entries[1::2], strict=True))

    dispatch = {
        **{code: _refused(code) for code in range(256)},
        **{code: pickle._Unpickler.dispatch[code] for (code,) in (getattr(pickle, name) for name in _CODES)},
        **{code: lambda self, code=code: self.load_text(code) for (code,) in _TEXTS},
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,
        pickle.REDUCE[0]: load_call,
        pickle.NEWOBJ[0]: load_call,
        pickle.BUILD[0]: load_state,
        pickle.APPEND[0]: lambda self: self.load_items([self.stack.pop()]),
        pickle.APPENDS[0]: lambda self: self.load_items(self.pop_mark()),
        pickle.SETITEM[0]: lambda self: self.load_entries([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self.load_entries(self.pop_mark()),
    }


def _check_plain(result: object) -> None:
    """UnpicklingError if a list, a dict or a cell of a frame holds anything but plain data."""
    seen, found = set(), [result]
    while found:
        value = found.pop()
        if type(value) in _LEAVES or isinstance(value, np.generic) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, pd.DataFrame):
            found += [cell for _, column in value.items() if column.dtype == object for cell in column]
        elif type(value) in (list, dict):
            found += value.values() if type(value) is dict else value
        else:
            kind = type(_content(value)).__name__
            _refuse(f"it holds a value of type {kind}, which a table of reviews does not need")
