"""The history of a target: the last reviews of its user and of its item, and their averages.

An index over the training reviews is built once; a lookup is a binary search. Only reviews strictly earlier than the
target are seen, so neither the target nor anything after it can leak. Source: released code.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

WARM = 5  # earlier reviews of user and item together; paper's test rows


@dataclass(frozen=True)
class Entry:
    """One earlier review in a history: the item's title, the rating (1 to 5) and the text shown (review or summary)."""

    title: str
    rating: float
    text: str


@dataclass(frozen=True)
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


class HistoryIndex:
    """Looks up histories in a frame of training reviews; ties in time keep the order of the frame.

    `text` names the column that entries show; None where only averages and counts are wanted.
    """

    def __init__(self, train: pd.DataFrame, text: str | None, length: int = 10):
        ordered = train.sort_values("unixReviewTime", kind="stable")
        self.length = length
        self.labels = ordered.index.to_numpy()
        self.times = ordered["unixReviewTime"].to_numpy()
        self.ratings = ordered["ratings"].to_numpy(dtype=float)
        self.users = ordered["user_id"].to_numpy()
        self.titles = ordered["title"].to_numpy()
        self.texts = ordered[text].to_numpy() if text else self.titles
        self.by_user = ordered.groupby("user_id", sort=False).indices
        self.by_item = ordered.groupby("item_id", sort=False).indices

    def of(self, user_id: str, item_id: str, before: int) -> History:
        """The history of a user and an item before a time in unix seconds."""
        user_rows = self._earlier(self.by_user.get(user_id), before)
        item_rows = self._earlier(self.by_item.get(item_id), before)
        return History(
            user=self._entries(self._last(user_rows)),
            item=self._entries(self._last(self._by_others(item_rows, user_id))),
            user_average=self._average(user_rows),
            item_average=self._average(item_rows),
            user_count=len(user_rows),
            item_count=len(item_rows),
        )

    def of_rows(self, targets: pd.DataFrame) -> list[History]:
        """The history of every row of a frame, in its order."""
        rows = zip(targets["user_id"], targets["item_id"], targets["unixReviewTime"])
        return [self.of(*row) for row in rows]

    def rows_shown(self, targets: pd.DataFrame) -> list[int]:
        """The labels, in ascending order, of all training rows that the histories of a frame's targets show."""
        shown: set[int] = set()
        for user_id, item_id, before in zip(targets["user_id"], targets["item_id"], targets["unixReviewTime"]):
            user_rows = self._earlier(self.by_user.get(user_id), before)
            item_rows = self._earlier(self.by_item.get(item_id), before)
            for rows in (user_rows, self._by_others(item_rows, user_id)):
                shown.update(self.labels[self._last(rows)].tolist())
        return sorted(shown)

    def _earlier(self, rows: np.ndarray | None, before: int) -> np.ndarray:
        if rows is None:
            return np.empty(0, dtype=np.intp)
        return rows[: np.searchsorted(self.times[rows], before, side="left")]

    def _by_others(self, rows: np.ndarray, user_id: str) -> np.ndarray:
        return rows[self.users[rows] != user_id]

    def _last(self, rows: np.ndarray) -> np.ndarray:
        return rows[max(0, len(rows) - self.length) :]

    def _entries(self, rows: np.ndarray) -> tuple[Entry, ...]:
        return tuple(Entry(self.titles[k], float(self.ratings[k]), self.texts[k]) for k in rows)

    def _average(self, rows: np.ndarray) -> float | None:
        return float(self.ratings[rows].mean()) if len(rows) else None
