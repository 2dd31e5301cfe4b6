"""Semantic ids: items as short strings of new tokens, which a model can write and read back.

Source: released code of GREAM. The code of a level is a token with the level's letter, `<|a_17|>`, and items with the
same codes get one token more, each of them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from reason4rec.errors import InputError

TOKEN = re.compile(r"<\|[a-z]_[1-9][0-9]{0,5}\|>")
MOST_LEVELS = 10  # up to which the reward pays an answer with all levels right more than one with all but the last


@dataclass(frozen=True)
class SemanticIds:
    """The tokens of every item: one for each of `levels`, and one more where several items have the same codes.

    A level has the numbers from 1 to `codes`. InputError unless every item has tokens of that form, no two items the
    same ones, and none those that another begins with.
    """

    levels: int
    codes: int
    by_item: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_LEVELS or self.codes < 2:
            raise InputError(
                f"semantic ids of {self.levels} levels and {self.codes} codes: there are 1 to {MOST_LEVELS} levels, "
                f"and 2 codes or more"
            )
        known = set(self.all_tokens())
        for item, tokens in self.by_item.items():
            letters = "".join(token[2:3] for token in tokens)
            if letters not in (self._letters[:-1], self._letters) or not known.issuperset(tokens):
                raise InputError(
                    f"semantic id of item {item[:40]!r}: {''.join(tokens)[:120]!r} is no id of {self.levels} levels "
                    f"and {self.codes} codes, with or without one token more"
                )
        if len(self._items) < len(self.by_item):
            twice = next(item for item, tokens in self.by_item.items() if self._items[tokens] != item)
            raise InputError(f"semantic id {self.text_of(twice)}: is that of two items, {twice[:40]!r} is one of them")
        for tokens, item in self._items.items():
            if len(tokens) > self.levels and (other := self._items.get(tokens[:-1])) is not None:
                raise InputError(
                    f"semantic id of item {other[:40]!r}: that of item {item[:40]!r} begins with it, so that both need "
                    f"one token more"
                )

    @classmethod
    def from_codes(cls, item_ids: Sequence[str], assigned: np.ndarray, codes: int) -> "SemanticIds":
        """The ids of items, from (n, levels) `assigned` numbers of 1 to `codes` in the same order.

        In a group of items with the same numbers, the last tokens are 1, 2, ... in the order of the sorted item ids.
        InputError where a group is larger than `codes`, or an item comes twice.
        """
        if assigned.ndim != 2 or len(assigned) != len(item_ids):
            raise InputError(f"{len(item_ids)} items and codes of the form {assigned.shape}: give a row for each item")
        by_codes = sorted(zip(map(tuple, assigned.tolist()), item_ids))
        found: dict[str, tuple[str, ...]] = {}
        for numbers, rows in groupby(by_codes, key=lambda row: row[0]):
            group = [item for _, item in rows]
            begun = tuple(map(token, ascii_lowercase, numbers))
            if len(group) > codes:
                raise InputError(
                    f"{len(group)} items have the codes {''.join(begun)}, and one more token tells {codes} of them "
                    f"apart; use more codes or levels, or other texts"
                )
            letter = ascii_lowercase[len(numbers)]
            for number, item in enumerate(group, start=1):
                if item in found:
                    raise InputError(f"semantic ids: item {item[:40]!r} comes twice; keep one")
                found[item] = (*begun, token(letter, number)) if len(group) > 1 else begun
        if len(found) < len(item_ids):
            raise InputError(f"semantic ids: {len(item_ids) - len(found)} items come twice; keep one of each")
        return cls(assigned.shape[1], codes, {item: found[item] for item in item_ids})

    def __len__(self) -> int:
        return len(self.by_item)

    def tokens_of(self, item_id: str) -> tuple[str, ...]:
        """The tokens of an item; InputError where there is none."""
        if item_id not in self.by_item:
            raise InputError(f"item {item_id[:40]!r}: has no semantic id; make the ids of the same items again")
        return self.by_item[item_id]

    def text_of(self, item_id: str) -> str:
        """The tokens of an item in one, as a model reads and writes them; InputError where there are none."""
        return "".join(self.tokens_of(item_id))

    def item_of(self, tokens: Sequence[str]) -> str | None:
        """The item of these tokens and no others; None where there is none."""
        return self._items.get(tuple(tokens))

    def all_tokens(self) -> list[str]:
        """Every token that an id could have, (levels + 1) x codes of them, by level and number."""
        return [token(letter, number) for letter in self._letters for number in range(1, self.codes + 1)]

    def numbers(self) -> np.ndarray:
        """(items, levels) int64 numbers of the codes, from 1, in the order of `by_item`."""
        rows = [[int(token[4:-2]) for token in one[: self.levels]] for one in self.by_item.values()]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.levels)

    def as_dict(self) -> dict[str, object]:
        """The ids as `read` reads them from a JSON file."""
        items = {item: "".join(tokens) for item, tokens in self.by_item.items()}
        return {"levels": self.levels, "codes": self.codes, "items": items}

    @cached_property
    def _items(self) -> dict[tuple[str, ...], str]:
        return {tokens: item for item, tokens in self.by_item.items()}

    @cached_property
    def _letters(self) -> str:
        return ascii_lowercase[: self.levels + 1]


def read(path: Path) -> SemanticIds:
    """The semantic ids in a file; InputError where it is missing, damaged or holds what are none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        levels, codes, items = found["levels"], found["codes"], found["items"]
        if not (type(levels) is type(codes) is int and isinstance(items, dict)):
            raise TypeError("levels and codes are whole numbers, and items a table")
        by_item = {item: _tokens(text) for item, text in items.items()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the semantic ids first") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: no semantic ids can be read ({reason}); make them again") from error
    try:
        return SemanticIds(levels, codes, by_item)
    except InputError as error:
        raise InputError(f"{path}: {error}; make the semantic ids again") from error


def _tokens(text: str) -> tuple[str, ...]:
    """The tokens that a text consists of."""
    found = tuple(TOKEN.findall(text))
    if "".join(found) != text:
        raise ValueError(f"{text[:60]!r} is no run of tokens")
    return found


def token(letter: str, number: int) -> str:
    """The token of a level's letter and a number from 1."""
    return f"<|{letter}_{number}|>"
