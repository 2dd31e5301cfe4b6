"""The targets that are learned from: which reviews of those with a history, and how many for whom.

With a limit only the reviews that its targets need are summarised, so that its targets are always of the same few.

Source: paper, preference matching; sizes, seed and disjointness are those of the released code.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.history import HistoryIndex
from reason4rec.errors import InputError
from reason4rec.systems.reason4rec.artifacts import NOT_SUMMARISED, SUMMARY

SEED = 0  # released code
LEAST_HISTORY = 5  # earlier reviews of user and item; released code


def numbers(wanted: Sequence[int], eligible: int, limit: int | None) -> tuple[int, int]:
    """How many targets each of two samples gets: as `wanted`, or, of fewer eligible ones, all in that proportion."""
    size = min(sum(wanted), eligible, limit or sum(wanted))
    first = round(size * wanted[0] / sum(wanted))
    return first, size - first


def draw(
    reviews: pd.DataFrame, wanted: Sequence[int], least: int, limit: int | None, seed: int, sampling: str = "one-draw"
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Two disjoint samples of the reviews that have `least` earlier ones, and how many have; rows keep their labels.

    With a limit only as many reviews are looked at, those of a trial.

    In `one-draw` the pool of both is drawn in the order in which it is then divided. The `released` code draws the
    first sample from the pool in a draw of its own, and shuffles both, all with the same seed.
    """
    enough = _have(reviews, least)
    if limit:
        enough &= reviews.index.isin(_of_trial(reviews, limit))
    first, second = numbers(wanted, int(enough.sum()), limit)
    pool = reviews[enough].sample(n=first + second, random_state=seed)
    if sampling == "one-draw":
        return pool.iloc[:first], pool.iloc[first:], int(enough.sum())
    drawn = pool.sample(n=first, random_state=seed)
    parts = drawn, pool.drop(drawn.index)
    shuffled = (part.sample(frac=1, random_state=seed) for part in parts)
    return *shuffled, int(enough.sum())


def shown_in_trial(reviews: pd.DataFrame, test: pd.DataFrame, history_length: int, limit: int) -> list[int]:
    """The labels, in ascending order, of the reviews that the histories of a trial's test rows and targets show."""
    index = HistoryIndex(reviews, None, history_length)
    chosen = reviews.loc[_of_trial(reviews, limit)]
    return sorted({*index.rows_shown(test), *index.rows_shown(chosen)})


def index_of(reviews: pd.DataFrame, history_length: int) -> HistoryIndex:
    """The index of summarised reviews, in which those that a trial left out count, and are not shown."""
    return HistoryIndex(reviews, SUMMARY, history_length, hidden=NOT_SUMMARISED)


def with_summaries(reviews: pd.DataFrame, targets: pd.DataFrame, history_length: int) -> pd.DataFrame:
    """The targets of whose histories no review was left out by a trial; all of them where there was no limit."""
    if not (reviews[SUMMARY] == NOT_SUMMARISED).any():
        return targets
    whole = HistoryIndex(reviews, None, history_length).of_rows(targets)
    shown = index_of(reviews, history_length).of_rows(targets)
    counts = [[(len(one.user), len(one.item)) for one in histories] for histories in (whole, shown)]
    # A list without rows would choose columns.
    return targets[np.array([of_all == of_shown for of_all, of_shown in zip(*counts)], dtype=bool)]


def check_summaries(reviews: pd.DataFrame, targets: pd.DataFrame, source: Path) -> None:
    """InputError where the last review of a target's user was left out by a trial with another limit."""
    hidden = reviews[SUMMARY] == NOT_SUMMARISED
    if not hidden.any() or hidden.all():
        return
    missing = sum(not history.user for history in index_of(reviews, 1).of_rows(targets))
    if missing:
        raise InputError(
            f"{source}: {missing:,} of {len(targets):,} targets have earlier reviews without a summary, as after a "
            f"smaller --limit; give this step the --limit of 1_Summarizer/4_summarizer_generation.py, or run that again"
        )


def _of_trial(reviews: pd.DataFrame, limit: int) -> pd.Index:
    """The labels of the targets that a trial may learn from, the same whatever the seed of a step is."""
    enough = reviews.index[_have(reviews, LEAST_HISTORY)]
    return enough.to_series().sample(n=min(limit, len(enough)), random_state=SEED).index


def _have(reviews: pd.DataFrame, least: int) -> np.ndarray:
    """Which reviews have at least so many earlier ones of their user and item."""
    histories = HistoryIndex(reviews, None).of_rows(reviews)
    return np.array([history.is_at_least(least) for history in histories], dtype=bool)
