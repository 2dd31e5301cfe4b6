"""Who and what a dataset knows: users, items and their titles, and how a person finds one of them."""

import difflib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from reason4rec.errors import InputError

NEAREST = 3  # ids that an error names
COMPARED = 2_000  # ids that are compared with one that is not known: those next to it in order


@dataclass(frozen=True)
class Known:
    """The users and items of a dataset: titles of the items by id, training reviews of each user and item by id.

    Those that stand only in the validation or the test rows have 0 reviews.
    """

    titles: Mapping[str, str]
    users: Mapping[str, int]
    items: Mapping[str, int]

    def user(self, user_id: str) -> str:
        """The id of a user, without space around it; InputError names the nearest ids if there is none such."""
        return _checked(user_id, self.users, self._sorted_users, "user")

    def item(self, item_id: str) -> str:
        """The id of an item, as `user` does."""
        return _checked(item_id, self.items, self._sorted_items, "item")

    def found_users(self, words: str, most: int = 20) -> list[dict]:
        """`id` and `reviews` of users whose ids hold a text, in any case; those with most reviews first."""
        wanted = words.strip().lower()
        hits = (user for user in self._popular_users if wanted in user.lower())
        return [{"id": user, "reviews": self.users[user]} for user, _ in zip(hits, range(most))]

    def found_items(self, words: str, most: int = 20) -> list[dict]:
        """`id`, `title` and `reviews` of items whose titles or ids hold all words, those with most reviews first."""
        wanted = words.lower().split()
        hits = (item for item in self._popular_items if all(word in self._folded[item] for word in wanted))
        found = (item for item, _ in zip(hits, range(most)))
        return [{"id": item, "title": self.titles[item], "reviews": self.items[item]} for item in found]

    def item_called(self, title: str) -> str:
        """The id of the item with a title, in any case, the most reviewed of several; empty if there is none."""
        return self._by_title.get(title.strip().lower(), "")

    @cached_property
    def _by_title(self) -> dict[str, str]:
        return {self.titles[item].strip().lower(): item for item in reversed(self._popular_items)}

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {item: f"{title}\n{item}".lower() for item, title in self.titles.items()}

    @cached_property
    def _popular_users(self) -> list[str]:
        return sorted(self.users, key=lambda user: (-self.users[user], user))

    @cached_property
    def _popular_items(self) -> list[str]:
        return sorted(self.items, key=lambda item: (-self.items[item], self.titles[item], item))

    @cached_property
    def _sorted_users(self) -> list[str]:
        return sorted(self.users)

    @cached_property
    def _sorted_items(self) -> list[str]:
        return sorted(self.items)


def known_in(train: pd.DataFrame, others: Iterable[pd.DataFrame]) -> Known:
    """The users and items of the training reviews and of other splits."""
    titles: dict[str, str] = {}
    users = train["user_id"].value_counts(sort=False).to_dict()
    items = train["item_id"].value_counts(sort=False).to_dict()
    for frame in (*others, train):
        titles |= zip(frame["item_id"].tolist(), frame["title"].tolist())
        for counts, column in ((users, "user_id"), (items, "item_id")):
            for one in frame[column].unique().tolist():
                counts.setdefault(one, 0)
    return Known(titles, users, items)


def _checked(given: object, known: Mapping[str, int], ordered: Sequence[str], what: str) -> str:
    if not isinstance(given, str):
        raise InputError(f"{what} {ascii(given)[:60]}: expected the id as a text")
    if given in known:
        return given
    if (stripped := given.strip()) in known:
        return stripped
    near = _nearest(stripped, ordered)
    hint = f"the nearest ids are {', '.join(near)}" if near else f"ids are like {ordered[len(ordered) // 2]}"
    raise InputError(f"no {what} {ascii(given[:60])} in the data; {hint}")


def _nearest(given: str, ordered: Sequence[str]) -> list[str]:
    """Ids like one that is not known, the likest first: among those next to it in order, or with its other case."""
    near: dict[str, None] = {}
    for spelling in (given, given.upper(), given.lower()):
        place = bisect_left(ordered, spelling)
        near |= dict.fromkeys(ordered[max(0, place - COMPARED // 2) : place + COMPARED // 2])
    folded = {one.lower(): one for one in near}
    return [folded[one] for one in difflib.get_close_matches(given.lower()[:60], folded, n=NEAREST, cutoff=0.5)]
