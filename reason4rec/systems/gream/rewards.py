"""The reward of a reasoned recommendation: how much of the target's semantic ID the answer begins with.

Levels go from coarse to fine, so that an answer that shares the first ones is of the same kind, and is paid in part
(RSVR, "residual-sensitive verifiable reward"). Each part of the reward is a plain function of rollouts whose row has
the `number` of their target. Source: Hong et al., arXiv 2510.20815, and its released code, which has four levels.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from reason4rec.errors import InputError
from reason4rec.systems.gream.artifacts import ADVANTAGES
from reason4rec.systems.gream.replies import read
from reason4rec.systems.gream.semantic_ids import MOST_LEVELS
from reason4rec.training.rollouts import Part, Rollout

ALL_LEVELS = 0.95  # of an answer with all levels right that is another item; released code
SRPO, GRPO, NO_BONUS = ADVANTAGES
SCORE, MATCH, EXACT, FORMAT, VALID = "score", "match", "exact", "format", "valid"

Tokens = tuple[str, ...]


def prefix(said: Sequence[str], target: Sequence[str]) -> int:
    """How many tokens at the beginning of both are the same."""
    return next((k for k, (one, other) in enumerate(zip(said, target)) if one != other), min(len(said), len(target)))


def match(said: Sequence[str], target: Sequence[str], levels: int) -> float:
    """0 to 1: 1 for the target itself, 0.95 where all levels are right, else sqrt(right levels from the first / all).

    Source: paper's figure (two levels) and released code (four); any other number is our generalisation.
    """
    if tuple(said) == tuple(target):
        return 1.0
    right = prefix(said, target)
    return ALL_LEVELS if right >= levels else math.sqrt(right / levels)


def weights_of(variant: str) -> dict[str, float]:
    """The weight of each part of the reward of a variant, by its name; parts that weigh 0 are watched.

    `srpo` and `no_bonus` learn from the graded score, `grpo` from whether the item is right, as plain GRPO with a
    verifiable reward does. What plain GRPO had in the paper's ablation is not told, so that this is our decision.
    InputError for no such variant.
    """
    rewarded = {SRPO: SCORE, NO_BONUS: SCORE, GRPO: EXACT}
    if variant not in rewarded:
        raise InputError(f"--advantage {variant}: there are {', '.join(rewarded)}")
    return {name: float(name == rewarded[variant]) for name in (SCORE, MATCH, EXACT, FORMAT, VALID)}


def parts_of(
    variant: str, targets: Sequence[Tokens], levels: int, item_of: Callable[[Tokens], str | None]
) -> list[Part]:
    """The parts of the reward of a variant, all of 0 to 1.

    `format` is 1 where thoughts and answer are closed, `match` is that of a closed answer whatever its form, `score`
    the match where the form is right and 0 else, `exact` 1 where the score is 1, and `valid` 1 where the answer is an
    item, for which `item_of` gives the id of some tokens or None. `targets` are the tokens of each case's target,
    `levels` the number of levels without the token that tells items of equal codes apart. InputError where they do not
    fit together.
    """
    weights = weights_of(variant)
    _check(targets, levels)

    def graded(one: Rollout) -> float:
        said = read(one.text)
        return match(said.answer, targets[one.row["number"]], levels) if said.closed else 0.0

    def form(one: Rollout) -> float:
        return float(read(one.text).well_formed)

    def valid(one: Rollout) -> float:
        said = read(one.text)
        return float(said.closed and item_of(said.answer) is not None)

    scores: Mapping[str, Callable[[Rollout], float]] = {
        SCORE: lambda one: graded(one) * form(one),
        MATCH: graded,
        EXACT: lambda one: float(graded(one) == 1.0) * form(one),
        FORMAT: form,
        VALID: valid,
    }
    return [Part(name, weight, _each(scores[name])) for name, weight in weights.items()]


def _check(targets: Sequence[Tokens], levels: int) -> None:
    if not 1 <= levels <= MOST_LEVELS:
        raise InputError(
            f"{levels} levels of semantic IDs: the reward is for 1 to {MOST_LEVELS}; with more, an item of equal codes "
            f"would be paid less than one that differs in the last"
        )
    for number, target in enumerate(targets):
        if len(target) not in (levels, levels + 1):
            raise InputError(
                f"rewards: target {number} is {''.join(target)[:80]!r}, and an item has {levels} or {levels + 1} "
                f"tokens; make the semantic IDs and the cases of the same data"
            )


def _each(score: Callable[[Rollout], float]) -> Callable[[Sequence[Rollout]], list[float]]:
    return lambda rollouts: [score(one) for one in rollouts]
