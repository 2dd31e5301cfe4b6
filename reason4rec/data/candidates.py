"""Lists of candidates: for each user and split the target among items that the user never chose.

They are drawn once and written, so that every model ranks the same lists. In the released data the lists for training
are uniform while those of the test share one pool of popular items, and both hold other items of the user now and then.
Here one rule draws all lists, and `check_candidates` refuses such leaks. Our decision.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from reason4rec.data.schema import check_columns
from reason4rec.data.sequences import SPLITS, check_texts, numbered, training_parts
from reason4rec.errors import InputError

CANDIDATE_COLUMNS = ("user_id", "split", "place", "item_id")
N = 30  # candidates of a list, the target among them; released data

Sampling = Literal["uniform", "popular"]


def draw(
    sequences: pd.DataFrame,
    item_ids: Sequence[str],
    n: int = N,
    sampling: Sampling = "uniform",
    seed: int = 42,
) -> pd.DataFrame:
    """A table with CANDIDATE_COLUMNS: for each split and user the target, at any place from 0, and n - 1 negatives.

    A negative is an item of `item_ids` that is nowhere in the user's whole sequence. "uniform" draws all of them with
    the same chance. "popular" draws one after another with chances in proportion to 1 + how often an item stands in the
    training part of all sequences, which is what comes before the valid targets. What a user is given depends on the
    seed, the split, the user's id, and with "popular" on those counts, but not on the order or number of the other
    users. InputError if the catalogue is too small for a user.
    """
    chosen = numbered(sequences, item_ids)
    users = sequences["user_id"].unique().tolist()
    if n < 2:
        raise InputError(f"{n} candidates are no list to choose from; ask for 2 or more")
    for user, items in zip(users, chosen):
        if len(item_ids) - len(items) < n - 1:
            raise InputError(
                f"user {user[:40]!r} chose {len(items)} of the {len(item_ids)} items of the catalogue, so that no "
                f"{n - 1} others are left; ask for {len(item_ids) - len(items) + 1} candidates or fewer"
            )
    weights = np.ones(len(item_ids), dtype=int)
    if sampling == "popular":
        weights += training_counts(chosen, len(item_ids))
    drawn = [
        _list(items[split - len(SPLITS)], items, weights, n, _generator(seed, name, user))
        for split, name in enumerate(SPLITS)
        for user, items in zip(users, chosen)
    ]
    return pd.DataFrame(
        {
            "user_id": pd.Series(users * len(SPLITS), dtype="str").repeat(n).reset_index(drop=True),
            "split": pd.Series(SPLITS, dtype="str").repeat(n * len(users)).reset_index(drop=True),
            "place": np.tile(np.arange(n), len(drawn)),
            "item_id": pd.Series(item_ids, dtype="str").take(np.concatenate(drawn) - 1).reset_index(drop=True),
        }
    )


def training_counts(chosen: Sequence[np.ndarray], n_items: int) -> np.ndarray:
    """(n_items,) how often each item stands before the valid targets of whole sequences in numbers from 1."""
    return np.bincount(np.concatenate(training_parts(chosen)), minlength=n_items + 1)[1:]


def lists(candidates: pd.DataFrame, split: str) -> dict[str, tuple[str, ...]]:
    """The candidates of each user in a split, by their places."""
    of_split = candidates[candidates["split"] == split]
    items, starts = of_split["item_id"].tolist(), np.flatnonzero(of_split["place"] == 0)
    users = of_split["user_id"].iloc[starts].tolist()
    return {user: tuple(items[start:end]) for user, start, end in zip(users, starts, [*starts[1:], len(items)])}


def numbered_lists(candidates: pd.DataFrame, split: str, users: Sequence[str], item_ids: Sequence[str]) -> np.ndarray:
    """(users, n) the candidates of a split in numbers from 1, their places in `item_ids`, for users in this order."""
    of_split = candidates[candidates["split"] == split]
    n = int(of_split["place"].max()) + 1
    numbers = pd.Index(item_ids).get_indexer(pd.Index(of_split["item_id"])).reshape(-1, n) + 1
    return numbers[pd.Index(of_split["user_id"].iloc[::n]).get_indexer(pd.Index(users))]


def check_candidates(candidates: pd.DataFrame, sequences: pd.DataFrame, where: str) -> None:
    """InputError unless each user has one list in each split, with the target once and none of the user's other items.

    All lists are of the same length. `sequences` are those of all the users, as `check_sequences` passes them. The
    message names file and row.
    """
    check_columns(candidates, CANDIDATE_COLUMNS, where)
    check_texts(candidates, ("user_id", "split", "item_id"), where)
    users, splits = candidates["user_id"].to_numpy(dtype=object), candidates["split"].to_numpy(dtype=object)
    starts = np.append(True, (users[1:] != users[:-1]) | (splits[1:] != splits[:-1]))
    lengths = np.diff(np.append(np.flatnonzero(starts), len(candidates)))
    expected = np.arange(len(candidates)) - np.repeat(np.flatnonzero(starts), lengths)
    given = sequences["user_id"].unique()
    _refuse(~candidates["split"].isin(SPLITS), candidates, where, f"is in a split that is none of {', '.join(SPLITS)}")
    _refuse(~candidates["user_id"].isin(given), candidates, where, "is of a user that has no sequence")
    _refuse(candidates["place"].to_numpy() != expected, candidates, where, "is not at the next place, from 0 on")
    of_list = ["user_id", "split"]
    _refuse(starts & candidates.duplicated(of_list), candidates, where, "begins another list of its user and split")
    _refuse(candidates.duplicated([*of_list, "item_id"]), candidates, where, "is in its list already")
    uneven = np.repeat(lengths != lengths[0], lengths)
    _refuse(uneven, candidates, where, f"is of a list that is not as long as the first one ({lengths[0]})")
    if starts.sum() < len(SPLITS) * len(given):
        there = candidates.loc[starts, of_list].groupby("split")["user_id"].agg(set)
        split, user = next((s, u) for s in SPLITS for u in given if u not in there.get(s, ()))
        raise InputError(f"{where}: user {user[:40]!r} has no list in {split}; draw the candidates again")
    from_end = sequences.groupby("user_id", sort=False).cumcount(ascending=False)
    found = candidates[list(CANDIDATE_COLUMNS)].merge(
        sequences[["user_id", "item_id"]].assign(from_end=from_end), how="left", on=["user_id", "item_id"]
    )
    is_target = found["from_end"] == len(SPLITS) - 1 - found["split"].map(SPLITS.index)
    _refuse(found["from_end"].notna() & ~is_target, candidates, where, "is another item of its user's sequence: a leak")
    of_lists = np.add.reduceat(is_target.to_numpy(dtype=int), np.flatnonzero(starts))
    lacking = np.zeros(len(candidates), dtype=bool)
    lacking[np.flatnonzero(starts)[of_lists == 0]] = True
    _refuse(lacking, candidates, where, "begins a list without its target; draw the candidates again")


def _refuse(wrong: pd.Series | np.ndarray, candidates: pd.DataFrame, where: str, why: str) -> None:
    if wrong.any():
        row = int(np.asarray(wrong).argmax())
        raise InputError(f"{where}: item {candidates['item_id'].iloc[row][:40]!r} in row {row} {why}")


def _generator(seed: int, split: str, user: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{split}/{user}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16])))


def _list(target: int, chosen: np.ndarray, weights: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """(n,) numbers of items from 1: the target and negatives that are drawn one after another by weight, shuffled."""
    left = weights.copy()
    left[chosen - 1] = 0
    negatives: list[int] = []
    while len(negatives) < n - 1:
        # `random` alone: numpy keeps what it gives from version to version, but not what `choice` does.
        cumulative = np.cumsum(left)
        drawn = generator.random(n - 1 - len(negatives)) * cumulative[-1]
        places = list(dict.fromkeys(np.searchsorted(cumulative, drawn, side="right").tolist()))
        negatives += places
        left[places] = 0
    return np.array([target - 1, *negatives])[np.argsort(generator.random(n), kind="stable")] + 1
