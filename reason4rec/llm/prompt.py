"""A prompt as text with parts that may be cut, made from a template that a user can replace.

A template is a text file that names its fields in braces. Fields are filled once: braces inside a review are text like
any other.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path

from reason4rec.errors import InputError

WORDS_PER_CUT = 64
CHARACTERS_PER_CUT = 512  # where words are longer, as in writing without spaces


class TooLong(InputError):  # noqa: N818
    """A prompt does not fit, even without all that may be cut from it."""


@dataclass(frozen=True)
class Prompt:
    """A filled template: its text and the spans (start, end) in it that may be cut, the first to go first.

    The first `head` characters are those of every prompt on the same target, so that they are read once.
    """

    text: str
    optional: tuple[tuple[int, int], ...] = ()
    head: int = 0

    def without(self, n: int) -> str:
        """The text without its first `n` optional spans."""
        parts, position = [], 0
        for start, end in sorted(self.optional[:n]):
            parts.append(self.text[position:start])
            position = end
        return "".join([*parts, self.text[position:]])


class OnDemand(Sequence):
    """Prompts, or texts, each made whenever it is looked at: those of a whole dataset would fill the memory.

    `make` makes one from the values at its place in `columns`. ValueError if those are not of one length.
    """

    def __init__(self, make: Callable, *columns: Iterable):
        self.make = make
        self.columns = [column if isinstance(column, Sequence) else list(column) for column in columns]
        if len({len(column) for column in self.columns}) != 1:
            raise ValueError("columns of different lengths")

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int | slice) -> object:
        if isinstance(place, slice):
            return list(map(self.make, *(column[place] for column in self.columns)))
        return self.make(*(column[place] for column in self.columns))

    def __iter__(self) -> Iterator:
        # That of Sequence takes an IndexError of `make` for the end.
        return map(self.make, *self.columns)


def texts_of(prompts: Sequence[Prompt]) -> Sequence[str]:
    """The texts of prompts, each when it is looked at."""
    return OnDemand(attrgetter("text"), prompts)


def shorten(prompt: Prompt, fits: Callable[[str], bool]) -> tuple[str, int]:
    """The prompt with the fewest optional spans cut so that `fits(text)`, and how many were cut.

    TooLong if it does not fit even without all of them: the instruction is never cut.
    """
    low, high = 0, len(prompt.optional)
    if not fits(prompt.without(high)):
        raise TooLong(
            "a prompt is too long even without its histories: train with a larger --max_length, or ask for a smaller "
            "--max_new_tokens"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(prompt.without(middle)) else (middle + 1, high)
    return prompt.without(low), low


def training_row(prompt: Prompt, answer: str) -> dict:
    """An instruct row: the messages, and the spans of the user's message that the trainer may cut to make it fit."""
    messages = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "optional": [list(span) for span in prompt.optional]}


@cache
def template(name: str, folder: Path) -> str:
    try:
        return (folder / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
    except FileNotFoundError:
        raise InputError(f"--prompts {folder}: no {name}.txt there; copy all the templates that are shipped") from None


def fill(name: str, fields: dict[str, str], folder: Path) -> tuple[str, dict[str, int]]:
    """The filled template and where in it each field starts. InputError names an unknown field or a lone brace."""
    path = folder / f"{name}.txt"
    parts, offsets, length = [], {}, 0
    for literal, field, _, _ in _pieces(name, folder):
        parts.append(literal)
        length += len(literal)
        if field is not None:
            if field not in fields:
                raise InputError(f"{path}: no field {{{field}}} here, only {', '.join(sorted(fields))}")
            offsets[field] = length
            parts.append(fields[field])
            length += len(fields[field])
    return "".join(parts), offsets


def fields_of(name: str, folder: Path) -> set[str]:
    """The fields that a template names; InputError as of `fill`."""
    return {field for _, field, _, _ in _pieces(name, folder) if field is not None}


def _pieces(name: str, folder: Path) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(template(name, folder)))
    except ValueError as error:
        raise InputError(f"{folder / name}.txt: {error}; a brace that is meant as text is written twice") from error


def read_back(name: str, text: str, folder: Path) -> dict[str, str] | None:
    """The fields of a text that `fill` made from a template; None if it is of another one.

    A field ends where the template first goes on as it should, and the last field at the end of the text.
    """
    found = _pattern(name, folder).fullmatch(text)
    return found and found.groupdict()


@cache
def _pattern(name: str, folder: Path) -> re.Pattern:
    parts: list[str] = []
    for literal, field, _, _ in _pieces(name, folder):
        parts.append(re.escape(literal))
        if field is not None:
            parts.append(f"(?P={field})" if f"(?P<{field}>" in "".join(parts) else f"(?P<{field}>.*?)")
    return re.compile("".join(parts), re.DOTALL)


def cuts_from_the_end(text: str, start: int) -> tuple[tuple[int, int], ...]:
    """Spans of a text that stands at `start` of a prompt, the last words first; its first words are in none."""
    edges, last, words = [], 0, -1
    for k, character in enumerate(text):
        words += character == " "
        if (character == " " and words == WORDS_PER_CUT) or k - last == CHARACTERS_PER_CUT:
            edges.append(start + k)
            last, words = k, 0
    edges.append(start + len(text))
    return tuple(zip(edges[:-1], edges[1:]))[::-1]
