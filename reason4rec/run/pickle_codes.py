"""The codes of pickles, each of which does no more than plain data and frames need."""

import io
import pickle
import pickletools
from collections.abc import Callable
from types import FunctionType
from typing import NoReturn

from reason4rec.run.plain import Foreign, Part, called, checked, cost, refuse, whole

# The codes that pickles of plain data and of frames have. Not among them: whole numbers of more than 255 bytes, which
# can take for ever to print, objects that are registered or kept elsewhere, and texts and objects as Python 2 writes
# them.
_CODES = (
    "PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 "
    "BININT2 LONG1 FLOAT BINFLOAT SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_LIST LIST EMPTY_DICT EMPTY_TUPLE TUPLE "
    "TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL"
).split()
_TEXTS = (pickle.UNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8)
_DIGITS = 620  # of a whole number of 255 bytes


def _refused(code: int) -> Callable[["Codes"], NoReturn]:
    known = pickletools.code2op.get(chr(code))
    kind = known.name if known else f"byte {code}"
    return lambda self: refuse(f"it holds a {kind}, a code that no table of reviews has; write it as a plain table")


class Codes(pickle._Unpickler):
    """Follows the codes of a pickle; only functions that `find_class` gives are called, and what is foreign never.

    It is Python's own unpickler, not the one in C: that one hashes whatever a file gives as a key, sets attributes of
    whatever it names, and makes room for as many bytes or objects as it announces. `room` is how many bytes the arrays
    that it makes may have together.
    """

    def __init__(self, file: bytes, room: int):
        super().__init__(io.BytesIO(file))
        self.room = room

    def made(self, value: object) -> object:
        self.room -= cost(value)
        return value if self.room >= 0 else refuse("its arrays are larger than the file")

    def load_call(self) -> None:
        given, make = self.stack.pop(), self.stack.pop()
        self.append(self.made(called(checked(make, FunctionType, Foreign), checked(given, tuple))))

    def load_call_with_names(self) -> None:
        self.stack.pop()
        self.stack[-2:] = [Foreign("an object that is made by named arguments")]

    def load_state(self) -> None:
        state, part = self.stack.pop(), self.stack[-1]
        if type(part) is Foreign:
            return
        if type(part) is not Part or part.content is not part:
            refuse("it changes what it has not made")
        part.content = self.made(called(part.fill, (state,)))

    def load_text(self, code: int) -> None:
        pickle._Unpickler.dispatch[code](self)
        self.stack[-1] = whole(self.stack[-1])

    def load_number(self) -> None:
        text = self.readline()[:-1]
        if len(text) > _DIGITS:
            refuse("it holds a whole number of more than 255 bytes")
        self.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text.rstrip(b"L")))

    def load_items(self, items: list) -> None:
        if type(self.stack[-1]) is not Foreign:
            checked(self.stack[-1], list).extend(items)

    def load_entries(self, entries: list) -> None:
        if type(self.stack[-1]) is Foreign:
            return
        into, keys = checked(self.stack[-1], dict), entries[::2]
        if set(map(type, keys)) <= {str, int} and all(type(key) is str or key.bit_length() < 65 for key in keys):
            into.update(zip(keys, entries[1::2], strict=True))
        else:
            # To hash another key can take for ever. What stands for it cannot be overwritten by another entry.
            foreign = Foreign("a dict with keys that are neither texts nor whole numbers of 64 bits")
            into[foreign] = foreign

    def load_frozen_set(self) -> None:
        self.pop_mark()
        self.append(Foreign("a frozenset"))

    def load_dict(self) -> None:
        entries = self.pop_mark()
        self.append({})
        self.load_entries(entries)

    dispatch = {
        **{code: _refused(code) for code in range(256)},
        **{code: pickle._Unpickler.dispatch[code] for (code,) in (getattr(pickle, name) for name in _CODES)},
        **{code: lambda self, code=code: self.load_text(code) for (code,) in _TEXTS},
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,
        pickle.INT[0]: load_number,
        pickle.LONG[0]: load_number,
        pickle.REDUCE[0]: load_call,
        pickle.NEWOBJ[0]: load_call,
        pickle.NEWOBJ_EX[0]: load_call_with_names,
        pickle.BUILD[0]: load_state,
        pickle.APPEND[0]: lambda self: self.load_items([self.stack.pop()]),
        pickle.APPENDS[0]: lambda self: self.load_items(self.pop_mark()),
        pickle.SETITEM[0]: lambda self: self.load_entries([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self.load_entries(self.pop_mark()),
        pickle.DICT[0]: load_dict,
        # The members of a set are never hashed.
        pickle.EMPTY_SET[0]: lambda self: self.append(Foreign("a set")),
        pickle.ADDITEMS[0]: lambda self: self.load_items(self.pop_mark()),
        pickle.FROZENSET[0]: load_frozen_set,
    }
