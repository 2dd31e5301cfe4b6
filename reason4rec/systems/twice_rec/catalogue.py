"""The items that can be recommended, found by id or by title.

An id names one item. A title may be that of several: 15 titles of Grocery and Gourmet Food (Amazon 2023) are each used
by two of its 6,149 items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from reason4rec.data.sequences import ITEM_COLUMNS
from reason4rec.errors import InputError
from reason4rec.systems.twice_rec.replies import ANY_TAG

ELLIPSES = ("…", "...")


@dataclass(frozen=True)
class Item:
    """One item: its id, its title on one line and without tags, and two texts that may be empty."""

    item_id: str
    title: str
    description: str
    details: str


class Catalogue:
    """Items by id, in the order of the table, and ids by title.

    `items` has the columns item_id, title, description and details, all texts; a missing text is an empty one. Tags are
    taken out of titles, which stand between tags in answers, and an item without a title is called by its id.
    InputError names a column that is missing, or the row of an id that is empty, has spaces or tags in it, or is that
    of an earlier row.
    """

    def __init__(self, items: pd.DataFrame):
        if missing := [name for name in ITEM_COLUMNS if name not in items]:
            raise InputError(f"catalogue: no column {missing[0]}; it needs {', '.join(ITEM_COLUMNS)}")
        self._items: dict[str, Item] = {}
        columns = ([_text(value) for value in items[name]] for name in ITEM_COLUMNS)
        for row, (item_id, title, description, details) in enumerate(zip(*columns)):
            if item_id.split() != [item_id] or ANY_TAG.search(item_id):
                raise InputError(
                    f"catalogue, row {row}: item_id {item_id[:40]!r} is no id, which has no spaces and tags: "
                    f"give the items others"
                )
            if item_id in self._items:
                raise InputError(f"catalogue, row {row}: item_id {item_id[:40]} is that of an earlier row; keep one")
            self._items[item_id] = Item(item_id, _title(title) or item_id, description, details)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def __getitem__(self, item_id: str) -> Item:
        """The item of an id; InputError where the catalogue has none."""
        if item_id not in self._items:
            raise InputError(f"item {item_id[:40]!r}: not in the catalogue; build both from the same data")
        return self._items[item_id]

    def ids(self, title: str) -> tuple[str, ...]:
        """The ids of the items with a title, as `clean_title` compares them; none where it is unknown."""
        return self._ids.get(clean_title(title), ())

    def is_title_of(self, title: str, item_id: str) -> bool:
        """Whether a title is that of the item with an id, as `clean_title` compares them."""
        return item_id in self._items and clean_title(title) == clean_title(self._items[item_id].title)

    def id_of_exact(self, title: str) -> str | None:
        """The id of a title, which must be the same character by character; of several the last one.

        Source: released code, where a dictionary of titles keeps the last.
        """
        return self._exact.get(title)

    @cached_property
    def _ids(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for item in self:
            found.setdefault(clean_title(item.title), []).append(item.item_id)
        return {title: tuple(ids) for title, ids in found.items()}

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {item.title: item.item_id for item in self}


def clean_title(title: str) -> str:
    """What two writings of a title have in common.

    Case is folded, white space of any kind and number is one space, and ellipses at the end are dropped, which mark
    where a shop cut a long title.
    """
    title = " ".join(title.casefold().split())
    while cut := next((one for one in ELLIPSES if title.endswith(one)), None):
        title = title.removesuffix(cut).rstrip()
    return title


def _title(text: str) -> str:
    """A title on one line and without tags; what is left of a tag in a tag is none either."""
    while ANY_TAG.search(text):
        text = ANY_TAG.sub(" ", text)
    return " ".join(text.split())


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value).strip()
