"""The history of a target: the last reviews of its user and of its item, and their averages.

An index over the training reviews is built once; a lookup is a binary search, hardly slower where a user or an item
has many reviews (measured by tests/benchmarks/histories.py). Only reviews strictly earlier than the target are seen,
so neither the target nor anything after it can leak. Source: released code.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

WARM = 5  # earlier reviews of user and item together; paper's test rows


@dataclass(frozen=True, slots=True)
class Entry:
    """One earlier review in a history: the item's title, the rating (1 to 5) and the text shown (review or summary)."""

    title: str
    rating: float
    text: str


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a user and an item before a target: entries oldest first, averages over all earlier ratings.

    The item's entries are by other users. An average is None, and a count 0, where there is no earlier rating (a
    cold user or item); counts are of all earlier reviews, shown or not.
    """

    user: tuple[Entry, ...]
    item: tuple[Entry, ...]
    user_average: float | None
    item_average: float | None
    user_count: int = 0
    item_count: int = 0

    @property
    def warm(self) -> bool:
        """Whether the target is warm: an earlier review on either side and 5 in all."""
        return self.is_at_least(WARM)

    def is_at_least(self, reviews: int) -> bool:
        """Whether there is an earlier review on either side and at least `reviews` in all."""
        return min(self.user_count, self.item_count) >= 1 and self.user_count + self.item_count >= reviews


class _Group:
    """The reviews of one user or of one item, oldest first: rows of the index, times, running sums of the ratings."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.times: list[int] = []
        self.sums = [0.0]

    def count(self, before: int) -> int:
        """How many of the reviews are earlier than a time."""
        return bisect_left(self.times, before)

    def average(self, count: int) -> float | None:
        """The mean of the first ratings; exact for stars and half stars, because their sums are."""
        return self.sums[count] / count if count else None


_NONE = _Group()


def _grouped(keys: list[str], times: list[int], ratings: list[float]) -> dict[str, _Group]:
    groups: defaultdict[str, _Group] = defaultdict(_Group)
    for row, (key, time, rating) in enumerate(zip(keys, times, ratings)):
        group = groups[key]
        group.rows.append(row)
        group.times.append(time)
        group.sums.append(group.sums[-1] + rating)
    return groups


def _keys(targets: pd.DataFrame) -> Iterator[tuple[str, str, int]]:
    # A column as a list is several times quicker to go through than the column.
    return zip(*(targets[column].tolist() for column in ("user_id", "item_id", "unixReviewTime")))


class HistoryIndex:
    """Looks up histories in a frame of training reviews; ties in time keep the order of the frame.

    `text` names the column that entries show; None where only averages and counts are wanted. A review whose text is
    `hidden` is in the averages and counts, and no history shows it. An entry is made once, and all histories that show
    it share it.
    """

    def __init__(self, train: pd.DataFrame, text: str | None, length: int = 10, hidden: str | None = None):
        ordered = train.sort_values("unixReviewTime", kind="stable")
        # Lists, not arrays: a lookup takes few elements at a time, at which numpy is slow.
        times = ordered["unixReviewTime"].tolist()
        ratings = ordered["ratings"].to_numpy(dtype=float).tolist()
        titles = ordered["title"].tolist()
        self.length, self.hidden = length, hidden
        self.labels = ordered.index.tolist()
        self.users = ordered["user_id"].tolist()
        self.entries = list(map(Entry, titles, ratings, ordered[text].tolist() if text else titles))
        self.by_user = _grouped(self.users, times, ratings)
        self.by_item = _grouped(ordered["item_id"].tolist(), times, ratings)

    def of(self, user_id: str, item_id: str, before: int) -> History:
        """The history of a user and an item before a time in unix seconds."""
        by_user, by_item = self.by_user.get(user_id, _NONE), self.by_item.get(item_id, _NONE)
        user_count, item_count = by_user.count(before), by_item.count(before)
        return History(
            user=self._entries(self._last(by_user, user_count)),
            item=self._entries(self._last_by_others(by_item, item_count, user_id)),
            user_average=by_user.average(user_count),
            item_average=by_item.average(item_count),
            user_count=user_count,
            item_count=item_count,
        )

    def of_rows(self, targets: pd.DataFrame) -> list[History]:
        """The history of every row of a frame, in its order."""
        return [self.of(*target) for target in _keys(targets)]

    def rows_shown(self, targets: pd.DataFrame) -> list[int]:
        """The labels, in ascending order, of all training rows that the histories of a frame's targets show."""
        shown: set[int] = set()
        for user_id, item_id, before in _keys(targets):
            by_user, by_item = self.by_user.get(user_id, _NONE), self.by_item.get(item_id, _NONE)
            shown.update(self._last(by_user, by_user.count(before)))
            shown.update(self._last_by_others(by_item, by_item.count(before), user_id))
        return sorted(self.labels[row] for row in shown)

    def _last(self, group: _Group, count: int) -> list[int]:
        return group.rows[max(0, count - self.length) : count]

    def _last_by_others(self, group: _Group, count: int, user_id: str) -> list[int]:
        # Backwards, and no further than needed: a popular item has thousands of reviews.
        rows: list[int] = []
        while count and len(rows) < self.length:
            count -= 1
            if self.users[group.rows[count]] != user_id:
                rows.append(group.rows[count])
        return rows[::-1]

    def _entries(self, rows: list[int]) -> tuple[Entry, ...]:
        found = [self.entries[row] for row in rows]
        return tuple(found if self.hidden is None else [entry for entry in found if entry.text != self.hidden])
