"""Completions written by hand, scored by the reward before a training: one that pays a cheat as the truth fails.

Our decision.
"""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import numpy as np

from reason4rec.systems.gream.replies import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK
from reason4rec.systems.gream.semantic_ids import token
from reason4rec.training.rollouts import Part, Rollout, scores_of, total

EXACT, NO_THINK = "the target, with thoughts", "the target, without thoughts"
PREFIX, COLLISION = "all levels but the last", "all levels, and another item of these codes"
POPULAR, SEEN = "the most popular item", "the last item of the history"
NOT_CLOSED, EMPTY = "the target, answer not closed", "an empty text"
THOUGHTS = "The items before point to what goes with them."
REWARD = "reward"

Tokens = tuple[str, ...]


def policies(targets: Sequence[Tokens], last: Sequence[Tokens], popular: Tokens, levels: int) -> dict[str, list[str]]:
    """What each policy writes for each case, by the policy's name.

    `targets` and `last` are the tokens of each case's target and of the last item of its history, `popular` those of
    the item that was chosen most often.
    """
    answers = [_answer(target) for target in targets]
    return {
        EXACT: [_thought(answer) for answer in answers],
        NO_THINK: answers,
        PREFIX: [_thought(_answer(target[: levels - 1])) for target in targets],
        COLLISION: [_thought(_answer(_other(target, levels))) for target in targets],
        POPULAR: [_thought(_answer(popular))] * len(targets),
        SEEN: [_thought(_answer(one)) for one in last],
        NOT_CLOSED: [_thought(answer.removesuffix(CLOSE_ANSWER)) for answer in answers],
        EMPTY: [""] * len(targets),
    }


def scored(parts: Sequence[Part], written: Mapping[str, Sequence[str]]) -> list[dict]:
    """A row for each policy: its name, `n`, the mean of the reward, and that of each part by its name."""
    rows = []
    for policy, texts in written.items():
        rollouts = [Rollout({"number": number}, text, (), True) for number, text in enumerate(texts)]
        scores = scores_of(parts, rollouts)
        row = {"policy": policy, "n": len(texts), REWARD: round(float(np.mean(total(parts, scores))), 4)}
        rows.append(row | {part.name: round(float(mean), 4) for part, mean in zip(parts, scores.mean(axis=0))})
    return rows


def cheats(rows: Sequence[Mapping]) -> list[str]:
    """The policies that are paid as much as the target with thoughts, or more."""
    truth = next(row[REWARD] for row in rows if row["policy"] == EXACT)
    return [row["policy"] for row in rows if row[REWARD] >= truth and row["policy"] != EXACT]


def as_text(rows: Sequence[Mapping]) -> str:
    """The table for a terminal, and a warning for each cheat that is paid as the truth."""
    names = [name for name in rows[0] if name not in ("policy", "n")]
    width = max(len(row["policy"]) for row in rows)
    lines = [f"{'policy':<{width}}  " + "  ".join(f"{name:>6}" for name in names)]
    for row in rows:
        cells = (f"{row[name]:{max(6, len(name))}.3f}" for name in names)
        lines.append(f"{row['policy']:<{width}}  {'  '.join(cells)}")
    lines += [f"warning: the reward pays {name!r} as much as the truth" for name in cheats(rows)]
    return "\n".join(lines)


def _answer(tokens: Sequence[str]) -> str:
    return f"{OPEN_ANSWER}{''.join(tokens)}{CLOSE_ANSWER}"


def _thought(answer: str) -> str:
    return f"{OPEN_THINK}\n{THOUGHTS}\n{CLOSE_THINK}\n\nNext is {answer}"


def _other(target: Tokens, levels: int) -> Tokens:
    """The tokens of another item with the codes of a target, were there one."""
    first, second = (token(ascii_lowercase[levels], number) for number in (1, 2))
    return (*target[:levels], second if target[levels:] == (first,) else first)
