"""The reward filter: of the teacher's reasons for a target, keep the first that makes its rating predictable enough.

    score = |rating - prediction with the reason| - |rating - prediction of the baseline|, accepted below tau

First one unhinted reason for every target, then, for those still without one, up to ten reasons hinted with the true
rating, one round at a time. A hinted reason that gives the rating away is skipped. A target without an accepted
reason is dropped. Source: paper, preference matching; released code.

This is the rule alone. `distillation` runs it on many targets at once, and `rating_gain` is the same rule as a reward.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

HINTED_DRAWS = 10  # released code
GIVEAWAYS = ("1.0", "2.0", "3.0", "4.0", "5.0", "rating ", "star ", "stars ")  # released code

Ask = Callable[[Sequence[int], int], Sequence[str | None]]
"""The teacher's reason for each target, unhinted in draw 0 and hinted from 1 on; None where it gives none."""
Predict = Callable[[Sequence[int], Sequence[str | None]], np.ndarray]
"""The reward model's rating of each target with a reason in its prompt; with None, with none."""


@dataclass(frozen=True)
class Accepted:
    """The accepted reason of a target: its text, its score (lower is better) and its draw (0: the unhinted one)."""

    reason: str
    score: float
    draw: int


def score(ratings: np.ndarray, with_reason: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """(n,) stars by which a reason leaves the prediction farther from the true rating than the baseline.

    All three are (n,) ratings of 1 to 5; lower is better.
    """
    return np.abs(ratings - with_reason) - np.abs(ratings - baseline)


def rating_gain(ratings: np.ndarray, with_reason: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """(n,) stars by which a reason brings the prediction nearer to the true rating than the baseline: a reward."""
    return -score(ratings, with_reason, baseline)


def gives_away(reason: str) -> bool:
    """Whether a hinted reason says the rating that it was hinted with."""
    return any(giveaway in reason for giveaway in GIVEAWAYS)


def first_accepted(
    targets: Sequence[int],
    ratings: np.ndarray,
    baseline: Sequence[str | None],
    tau: float,
    draws: int,
    ask: Ask,
    predict: Predict,
) -> tuple[dict[int, Accepted], Counter]:
    """The first accepted reason of each of the targets that get one, and how often what happened.

    `targets` are places in `ratings` and in `baseline`, which says what stands in a reason's place in the prediction to
    beat. The counter holds `accepted on draw K`, `gave the rating away` and `dropped`.
    """
    accepted: dict[int, Accepted] = {}
    counts: Counter = Counter()
    to_beat: dict[int, float] = {}
    for draw in range(1 + draws):
        pending = [target for target in targets if target not in accepted]
        if not pending:
            break
        replies = [pair for pair in zip(pending, ask(pending, draw), strict=True) if pair[1] is not None]
        usable = [(target, reason) for target, reason in replies if draw == 0 or not gives_away(reason)]
        counts["gave the rating away"] += len(replies) - len(usable)
        asked, reasons = [target for target, _ in usable], [reason for _, reason in usable]
        if draw == 0:
            # Together with the first reasons, because they share their histories.
            predictions = predict([*targets, *asked], [*(baseline[k] for k in targets), *reasons])
            to_beat, predictions = dict(zip(targets, predictions)), predictions[len(targets) :]
        else:
            predictions = predict(asked, reasons) if asked else np.empty(0)
        scores = score(ratings[asked], predictions, np.array([to_beat[k] for k in asked]))
        for (target, reason), value in zip(usable, scores, strict=True):
            if value < tau:
                accepted[target] = Accepted(reason, float(value), draw)
                counts[f"accepted on draw {draw}"] += 1
    counts["dropped"] += len(targets) - len(accepted)
    return accepted, counts
