"""Advantages of SRPO: those of GRPO, and a bonus for the exact item that is larger the rarer it is in its group.

The bonus is the closed form of Pass@k training (arXiv 2508.10751), which GREAM adds to the z-scores of the graded
reward (BGAE, "bonus-calibrated group advantage estimation"; arXiv 2510.20815 and released code, with groups of 10 and
k = 4). It pushes most where one draw of a group hits, and not at all where any k draws would hold a hit.
"""

from collections.abc import Mapping
from math import comb, sqrt

import numpy as np

from reason4rec.errors import InputError
from reason4rec.systems.gream.rewards import GRPO, NO_BONUS, SRPO
from reason4rec.training.rollouts import LEAST_SPREAD, Advantages, z_scores

AT_K = 4  # released code
ROUNDING = 1e-6  # rewards come through 32 bits


def bonus_calibrated(rewards: np.ndarray, least: float = LEAST_SPREAD) -> np.ndarray:
    """(groups, rollouts) z-scores of the rewards plus the bonus, where a reward of 1 is a hit and any below it none.

    k is 4, or one less than the rollouts of a smaller group. Released code adds 1e-6 to each deviation before it
    divides; here a group without spread has no z-score, as everywhere in this project, and a bonus whose deviation is 0
    is none. That changes the sixth digit.
    """
    n = rewards.shape[1]
    return z_scores(rewards, least) + bonus(rewards > 1 - ROUNDING, min(AT_K, n - 1))


def bonus(hits: np.ndarray, k: int) -> np.ndarray:
    """(groups, rollouts) the bonus of each rollout of groups of which `hits` says which are right.

    It sums to 0 over each group. InputError unless 1 <= k <= rollouts.
    """
    n = hits.shape[1]
    by_hits = np.array([bonus_of(n, right, k) for right in range(n + 1)])
    of_group = by_hits[hits.sum(axis=1)]
    return np.where(hits, of_group[:, :1], of_group[:, 1:])


def bonus_of(n: int, right: int, k: int) -> tuple[float, float]:
    """The bonus of a right and of a wrong rollout, in a group of n of which so many are right.

    rho is the chance that k of them, drawn without replacement, hold a right one. A right one lifts what it is drawn
    with to 1, and a wrong one leaves it to the k - 1 others; both less rho, over the deviation sqrt(rho (1 - rho)).
    """
    if not 1 <= k <= n:
        raise InputError(f"Pass@{k} of groups of {n} rollouts: k is 1 to {n}; draw larger groups")
    if right in (0, n):
        return 0.0, 0.0
    rho = 1 - comb(n - right, k) / comb(n, k)
    if rho == 1:
        return 0.0, 0.0
    deviation = sqrt(rho * (1 - rho))
    of_others = comb(n - right - 1, k - 1) / comb(n - 1, k - 1)
    return (1 - rho) / deviation, (1 - rho - of_others) / deviation


ADVANTAGES: Mapping[str, Advantages] = {SRPO: bonus_calibrated, GRPO: z_scores, NO_BONUS: z_scores}
"""The advantages of each variant of the reward."""
