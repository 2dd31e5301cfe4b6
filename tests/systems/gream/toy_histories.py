"""Users, their sequences and items whose titles, descriptions, reviews and semantic ids stand in no text by chance."""

from collections.abc import Sequence

import pandas as pd
from hypothesis import strategies as st

from reason4rec.data.sequences import ITEM_COLUMNS, SEQUENCE_COLUMNS
from reason4rec.systems.gream.texts import UserTexts
from reason4rec.systems.twice_rec.catalogue import Catalogue

ITEMS = [f"B{k:02d}" for k in range(12)]
ASPECTS = ("melody", "chorus", "voice", "guitar")
IDS = {item_id: f"<|a_{k % 4 + 1}|><|b_{k // 4 + 1}|>" for k, item_id in enumerate(ITEMS)}
SAID = UserTexts("likes melody", "lasting melody", "late melody", "I want melody", "it has melody")


def title(item_id: str) -> str:
    """A title of two words that no other item has."""
    return f"Title{item_id} Of{item_id}"


def item_table(without: Sequence[str] = ()) -> pd.DataFrame:
    """The items, some of them without a description."""
    rows = [
        (one, title(one), "" if one in without else f"{ASPECTS[k % 4]} and {ASPECTS[k % 3]}, about{one}", "")
        for k, one in enumerate(ITEMS)
    ]
    return pd.DataFrame(rows, columns=ITEM_COLUMNS)


def items(without: Sequence[str] = ()) -> Catalogue:
    """The catalogue of `item_table`."""
    return Catalogue(item_table(without))


def review(user: int, item_id: str) -> str:
    """A review that names its user and item."""
    return f"The melody is superb, says mark{user}of{item_id} here."


def sequences(chosen: Sequence[Sequence[str]]) -> pd.DataFrame:
    """The table of the sequences of users U0, U1, ..., each with a review of every item."""
    rows = [
        (f"U{user}", item_id, place, 5.0, review(user, item_id))
        for user, one in enumerate(chosen)
        for place, item_id in enumerate(one)
    ]
    return pd.DataFrame(rows, columns=SEQUENCE_COLUMNS)


some_users = st.lists(
    st.permutations(ITEMS).flatmap(lambda p: st.integers(4, 12).map(lambda n: p[:n])), min_size=1, max_size=3
)
"""What some users chose: 4 to 12 items each, no item twice."""


def traces(user: int, held_out: Sequence[str]) -> list[str]:
    """What would give away the held-out items of a user in a text: semantic ids, titles, descriptions and reviews."""
    found = [f"mark{user}of{one}" for one in held_out]
    for one in held_out:
        found += [IDS[one], f"Title{one}", f"about{one}", title(one)]
    return found
