"""Policies written by hand, scored by the reward before a training: one that beats honest reasons cheats it."""

from collections.abc import Mapping, Sequence

import numpy as np

from reason4rec.data.catalog import nearest_star
from reason4rec.data.history import History
from reason4rec.training.rollouts import Part, Rollout, scores_of, total

OWN = "the Reasoner's own"
ALWAYS = "The user will love it."
ORACLE = "the true verdict alone"  # what the reward gives for a verdict without a reason
VERDICTS = (
    "The user will hate it.",
    "The user will dislike it.",
    "The user will find it average.",
    "The user will like it.",
    ALWAYS,
)


def policies(ratings: Sequence[float], histories: Sequence[History], own: Sequence[str]) -> dict[str, list[str]]:
    """The reasons of each hand-written policy for the targets, and the Reasoner's `own`, by the policy's name."""
    stars = nearest_star(np.asarray(ratings)).tolist()
    others = {"another target's": [*own[1:], *own[:1]]} if len(own) > 1 else {}
    return {
        OWN: list(own),
        **others,
        "always the same": [ALWAYS] * len(own),
        ORACLE: [VERDICTS[star - 1] for star in stars],
        "states the true rating": [f"The user will rate it {star} out of 5." for star in stars],
        "copies the item's history": ["\n".join(entry.text for entry in one.item) for one in histories],
        "copies the user's history": ["\n".join(entry.text for entry in one.user) for one in histories],
        "empty": [""] * len(own),
    }


def scored(
    parts: Sequence[Part], written: Mapping[str, Sequence[str]], numbers: Sequence[int], endless: float = 0.0
) -> list[dict]:
    """A row for each policy: its name, `n`, the mean `reward`, and the mean of each part without its weight.

    `endless` is the share of the Reasoner's own reasons that had to be stopped, which their texts no longer show.
    """
    rows = []
    for name, reasons in written.items():
        rollouts = [Rollout({"number": number}, reason, (), True) for number, reason in zip(numbers, reasons)]
        means = scores_of(parts, rollouts).mean(axis=0)
        if name == OWN:
            means = np.array([endless if part.name == "endless" else mean for part, mean in zip(parts, means)])
        reward = round(float(total(parts, means[None])[0]), 4)
        of_parts = dict(zip((part.name for part in parts), means.round(4).tolist()))
        rows.append({"policy": name, "n": len(rollouts), "reward": reward} | of_parts)
    return rows


def cheats(rows: Sequence[Mapping]) -> list[str]:
    """The policies that the reward prefers to the Reasoner's own reasons, but for the verdict that nobody can know."""
    own = next(row["reward"] for row in rows if row["policy"] == OWN)
    return [row["policy"] for row in rows if row["reward"] > own and row["policy"] != ORACLE]


def as_text(rows: Sequence[Mapping]) -> str:
    """The table for a terminal."""
    names = [name for name in rows[0] if name not in ("policy", "n")]
    width = max(len(row["policy"]) for row in rows)
    lines = [f"{'reasons':<{width}}  " + "  ".join(f"{name:>8}" for name in names)]
    lines += [f"{row['policy']:<{width}}  " + "  ".join(f"{row[name]:8.3f}" for name in names) for row in rows]
    return "\n".join(lines)
