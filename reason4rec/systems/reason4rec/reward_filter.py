"""The rule by which a reason is accepted: it brings the prediction nearer to the true rating than no reason does.

    score = |rating - prediction with the reason| - |rating - prediction of the baseline|, accepted below tau

Source: paper, preference matching; released code.
"""

from dataclasses import dataclass

import numpy as np

HINTED_DRAWS = 10  # released code
GIVEAWAYS = ("1.0", "2.0", "3.0", "4.0", "5.0", "rating ", "star ", "stars ")  # released code


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
