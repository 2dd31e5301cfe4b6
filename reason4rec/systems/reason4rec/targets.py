"""The targets that are learned from: which reviews of those with a history, and how many for whom.

Source: paper, preference matching; sizes, seed and disjointness are those of the released code.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reason4rec.data.history import HistoryIndex

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

    In `one-draw` the pool of both is drawn in the order in which it is then divided. The `released` code draws the
    first sample from the pool in a draw of its own, and shuffles both, all with the same seed.
    """
    enough = np.array([history.is_at_least(least) for history in HistoryIndex(reviews, None).of_rows(reviews)])
    first, second = numbers(wanted, int(enough.sum()), limit)
    pool = reviews[enough].sample(n=first + second, random_state=seed)
    if sampling == "one-draw":
        return pool.iloc[:first], pool.iloc[first:], int(enough.sum())
    drawn = pool.sample(n=first, random_state=seed)
    parts = drawn, pool.drop(drawn.index)
    shuffled = (part.sample(frac=1, random_state=seed) for part in parts)
    return *shuffled, int(enough.sum())


def of_trial(reviews: pd.DataFrame, test: pd.DataFrame, history_length: int, limit: int, seed: int) -> list[int]:
    """The labels of the reviews that a trial is about, in ascending order.

    They are those in the histories of its test rows, and of as many targets to learn from, with these targets.
    """
    index = HistoryIndex(reviews, None, max(history_length, LEAST_HISTORY))  # fewer would leave no target
    enough = reviews[[history.is_at_least(LEAST_HISTORY) for history in index.of_rows(reviews)]]
    targets = enough.sample(n=min(limit, len(enough)), random_state=seed)
    return sorted({*index.rows_shown(test), *index.rows_shown(targets), *targets.index})
