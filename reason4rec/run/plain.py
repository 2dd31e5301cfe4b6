"""Plain data in a pickle, and what stands for the rest.

Plain data is lists, dicts, texts, bytes, numbers, truth values, dates and what marks something missing.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import NoReturn

import numpy as np
import pandas as pd

LEAVES = {*map(type, (None, True, 1, 1.0, "", b"", pd.NA, pd.NaT)), date, datetime, pd.Timestamp}  # hold no other data


@dataclass(frozen=True, eq=False)
class Foreign:
    """Stands for something in a file that is not understood; `kind` says what, on one line."""

    kind: str

    def __str__(self) -> str:
        return f"it holds {self.kind}"


class NeededColumnError(Exception):
    """A column that is needed holds what is not plain data; the message says which and what."""


class Part:
    """What a pickle names first and fills later: its `content` comes from the one state that follows."""

    def __init__(self, fill: Callable[[object], object]):
        self.fill, self.content = fill, self


def refuse(reason: str | Foreign) -> NoReturn:
    """Raises UnpicklingError."""
    raise pickle.UnpicklingError(reason)


def content(value: object) -> object:
    """The content of a part, or else the value."""
    return value.content if type(value) is Part else value


def checked(value: object, *kinds: type) -> object:
    """The value or the content of a part; UnpicklingError if it is of none of the kinds."""
    value = content(value)
    if isinstance(value, kinds):
        return value
    return refuse(value if type(value) is Foreign else "it is not put together as pandas does it")


def one_of(value: object, *allowed: object) -> object:
    """The value; UnpicklingError if it is none of those allowed."""
    # The type first: to compare or hash a value of a hostile file can take for ever.
    return value if type(value) is type(allowed[0]) and value in allowed else refuse("it has an unknown setting")


def called(make: Callable | Foreign, given: tuple) -> object:
    """What one of our functions makes of what a file gives, or a Foreign if it cannot."""
    if type(make) is Foreign:
        return make
    try:
        return make(*given)
    except MemoryError:
        raise
    except Exception as error:
        # What is given can fail in any function there, with any exception.
        cause = error.args[0] if error.args else ""
        return cause if type(cause) is Foreign else Foreign(f"a part that cannot be read ({one_line(str(error))})")


def one_line(text: str) -> str:
    """The text as it can be shown on a terminal: a file may call things as it likes."""
    text = " ".join(text[:1_000].split())[:100]
    return text if text.isprintable() else ascii(text)


def cost(value: object) -> int:
    """Bytes that an array or labels take; of texts that rows share, as if each had its own."""
    groups: list[tuple[pd.Index, np.ndarray]] = []
    if isinstance(value, pd.Categorical):
        groups = [(value.categories, value.codes)]
    elif isinstance(value, pd.MultiIndex):
        groups = list(zip(value.levels, value.codes))
    shared = 0
    for labels, codes in groups:
        lengths = np.fromiter((len(label) if type(label) in (str, bytes) else 0 for label in labels), int, len(labels))
        shared += int(lengths[codes[codes >= 0]].sum())
    return getattr(value, "nbytes", 0) + 8 * getattr(value, "size", 0) + shared


def whole(text: str) -> str:
    """The text with pairs of half characters joined and `?` for a half alone, as in the reader of raw dumps."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return joined.encode("utf-8", "replace").decode()


class Search:
    """Looks for what is not plain data; what many lists and dicts share is gone through once."""

    def __init__(self) -> None:
        self.clean: set[int] = set()  # lists and dicts that hold nothing foreign
        self.others: dict[int, Foreign] = {}  # those that were seen beside something foreign

    def in_column(self, column: pd.Series) -> tuple[int, Foreign] | tuple[None, None]:
        """The row of the first cell that is not plain data and what it holds, if there is one."""
        for row, cell in enumerate(column):
            if type(cell) not in LEAVES and (foreign := self.foreign_in(cell)):
                return row, foreign
        return None, None

    def foreign_in(self, value: object) -> Foreign | None:
        """Something in a value that is not plain data, if there is."""
        seen, waiting = set(), [value]
        while waiting:
            value = content(waiting.pop())
            if type(value) in LEAVES or isinstance(value, np.generic) or id(value) in self.clean or id(value) in seen:
                continue
            if type(value) not in (list, dict) or id(value) in self.others:
                foreign = self.others.get(id(value)) or (value if type(value) is Foreign else _kind(value))
                self.others |= dict.fromkeys(seen, foreign)
                return foreign
            seen.add(id(value))
            waiting += value.values() if type(value) is dict else value
        self.clean |= seen
        return None


def _kind(value: object) -> Foreign:
    name = type(value).__name__.lower()
    return Foreign(f"{'an' if name[0] in 'aeiou' else 'a'} {name}")
