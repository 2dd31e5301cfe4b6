"""Reward-filtered reasons: keep those of the teacher's reasons that bring the reward model nearer to the rating.

    score = |rating - prediction with the reason| - |rating - prediction of the baseline|, accepted below tau

First one unhinted reason for every target, then, for those still without one, up to ten reasons hinted with the true
rating, one round at a time. A hinted reason that gives the rating away is skipped. A target without an accepted
reason is dropped. Source: paper, preference matching; released code.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

HINTED_DRAWS = 10  # released code
GIVEAWAYS = ("1.0", "2.0", "3.0", "4.0", "5.0", "rating ", "star ", "stars ")  # released code

Ask = Callable[[Sequence[int], int], Sequence[str]]
Predict = Callable[[Sequence[int], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Accepted:
    """The accepted reason of a target: its text, its score (lower is better) and its draw (0: the unhinted one)."""

    reason: str
    score: float
    draw: int


def gives_away(reason: str) -> bool:
    """Whether a hinted reason tells the rating that it was hinted with."""
    return any(giveaway in reason for giveaway in GIVEAWAYS)


def score(ratings: np.ndarray, with_reason: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """How much farther from the rating a reason leaves the prediction than the baseline does; lower is better."""
    return np.abs(ratings - with_reason) - np.abs(ratings - baseline)


def filter_reasons(
    ratings: np.ndarray, baseline: np.ndarray, tau: float, ask: Ask, predict: Predict, draws: int = HINTED_DRAWS
) -> tuple[list[Accepted | None], Counter]:
    """The accepted reason of each target, None for a dropped one, and what happened.

    `ask(targets, draw)` gives the teacher's reason for each of the targets (positions), unhinted for draw 0 and
    hinted from 1 to `draws`; `predict(targets, reasons)` the reward model's ratings with them; `baseline` its ratings
    that reasons must nearly reach. The counter holds `accepted on draw K`, `gave the rating away` and `dropped`.
    """
    accepted: list[Accepted | None] = [None] * len(ratings)
    counts: Counter = Counter()
    pending = list(range(len(ratings)))
    for draw in range(1 + draws):
        if not pending:
            break
        asked = list(zip(pending, ask(pending, draw), strict=True))
        usable = [(target, reason) for target, reason in asked if draw == 0 or not gives_away(reason)]
        counts["gave the rating away"] += len(asked) - len(usable)
        if usable:
            targets = [target for target, _ in usable]
            predictions = predict(targets, [reason for _, reason in usable])
            scores = score(ratings[targets], predictions, baseline[targets])
            for (target, reason), value in zip(usable, scores, strict=True):
                if value < tau:
                    accepted[target] = Accepted(reason, float(value), draw)
                    counts[f"accepted on draw {draw}"] += 1
        pending = [target for target in pending if accepted[target] is None]
    counts["dropped"] = len(pending)
    return accepted, counts
