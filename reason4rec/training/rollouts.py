"""Rewards and advantages of rollouts: plain functions over what a policy wrote, which every system brings its own of.

A reward is a weighted sum of named parts. Advantages are a function of the rewards in groups: all rollouts of one
prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reason4rec.errors import InputError

LEAST_SPREAD = 1e-6  # of rewards in a group: a smaller one is what rounding leaves, and is none


@dataclass(frozen=True)
class Rollout:
    """What a policy wrote on one prompt: the `row` of the prompt, the text as replies are decoded, and its token ids.

    `ended` says whether it came to an end of its own, `special` whether it wrote other special tokens, which stand in
    `ids` and not in the text.
    """

    row: Mapping[str, object]
    text: str
    ids: tuple[int, ...]
    ended: bool
    special: bool = False


@dataclass(frozen=True)
class Part:
    """One part of a reward: its name in logs and records, its weight, and the score of each of some rollouts.

    A penalty has scores of 0 and more and a weight below 0.
    """

    name: str
    weight: float
    scores: Callable[[Sequence[Rollout]], Sequence[float]]


Advantages = Callable[[np.ndarray, float], np.ndarray]
"""(groups, rollouts) advantages from (groups, rollouts) rewards, given the least spread that counts as one."""


def scores_of(parts: Sequence[Part], rollouts: Sequence[Rollout]) -> np.ndarray:
    """(rollouts, parts) scores, without weights.

    InputError where a part gives another number of scores, or one that is not finite: it would spoil its whole group.
    """
    found = np.zeros((len(rollouts), len(parts)))
    for place, part in enumerate(parts):
        scores = np.asarray(part.scores(rollouts), dtype=float)
        if scores.shape != (len(rollouts),):
            raise InputError(f"reward {part.name}: {len(rollouts)} rollouts got scores of the shape {scores.shape}")
        if not np.isfinite(scores).all():
            bad = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"reward {part.name}: {scores[bad]} for {rollouts[bad].text[:80]!r}; no number to learn from"
            )
        found[:, place] = scores
    return found


def total(parts: Sequence[Part], scores: np.ndarray) -> np.ndarray:
    """(rollouts,) rewards: the weighted sum of the scores of the parts."""
    return scores @ np.array([part.weight for part in parts], dtype=float)


def has_spread(rewards: np.ndarray, least: float = LEAST_SPREAD) -> np.ndarray:
    """(groups,) whether the rewards of a group differ by more than `least`; a group of equal ones teaches nothing."""
    return rewards.max(axis=1) - rewards.min(axis=1) > least


def z_scores(rewards: np.ndarray, least: float = LEAST_SPREAD) -> np.ndarray:
    """Each reward less its group's mean, over its group's standard deviation; 0 in a group without spread.

    The deviation is that of a sample. Source: GRPO (Shao et al., 2024, arXiv 2402.03300); that a spread of rounding
    counts as none is our decision.
    """
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    deviation = rewards.std(axis=1, ddof=1, keepdims=True)
    return np.where(has_spread(rewards, least)[:, None], centred / np.where(deviation > 0, deviation, 1.0), 0.0)


def centred(rewards: np.ndarray, least: float = LEAST_SPREAD) -> np.ndarray:
    """Each reward less its group's mean, so that a hard prompt weighs no more than an easy one. Source: Dr. GRPO."""
    return np.where(has_spread(rewards, least)[:, None], rewards - rewards.mean(axis=1, keepdims=True), 0.0)
