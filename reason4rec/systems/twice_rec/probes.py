"""Policies written by hand, scored by each reward before a training: a reward that prefers one to honest choices fails.

Each writes a well-formed text with the same neutral rationale, but for the two that write none. Our decision.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from reason4rec.systems.twice_rec.catalogue import Catalogue, Item
from reason4rec.systems.twice_rec.prompts import answer
from reason4rec.systems.twice_rec.rewards import Evidence
from reason4rec.training.rollouts import Part, Rollout, scores_of, total

GOLD, RANDOM = "the true next item", "a candidate at random"
POPULAR_CANDIDATE = "the most popular candidate"
POPULAR = "the most popular item of all"
RIGHT_ID = "right id, title of the most popular item"
RIGHT_TITLE = "right title, id of another candidate"
OUTSIDE = "an item outside the list"
FORM, TAGS, EMPTY = "the form with a made-up item", "the tags alone", "an empty text"
MORE = "more_when_wrong"
RATIONALE = "This goes well with the items that the user took before."


def policies(evidence: Evidence, popularity: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    """What each policy writes for each case, by the policy's name.

    `popularity` has how often users of the training data took an item; one that it lacks was never taken, and of
    equally popular ones the first counts.
    """
    rng = random.Random(seed)
    catalogue, lists = evidence.catalogue, evidence.candidates
    targets = [case.target.item_id for case in evidence.cases]
    top = max((item.item_id for item in catalogue), key=lambda one: popularity.get(one, 0))
    popular = [max(listed, key=lambda one: popularity.get(one, 0)) for listed in lists]
    others = [rng.choice([one for one in listed if one != target]) for listed, target in zip(lists, targets)]
    ids = [item.item_id for item in catalogue]
    outside = [_drawn_outside(ids, listed, rng) for listed in lists]

    def written(named: Sequence[str]) -> list[str]:
        return [answer(catalogue[one], RATIONALE) for one in named]

    return {
        GOLD: written(targets),
        RANDOM: written([rng.choice(listed) for listed in lists]),
        POPULAR_CANDIDATE: written(popular),
        POPULAR: written([top] * len(lists)),
        RIGHT_ID: [_mixed(catalogue, top, target) for target in targets],
        RIGHT_TITLE: [_mixed(catalogue, target, other) for target, other in zip(targets, others)],
        OUTSIDE: written(outside),
        FORM: [answer(Item("0", "something good", "", ""), RATIONALE)] * len(lists),
        TAGS: ["<think></think><item_nm></item_nm><item_id></item_id>"] * len(lists),
        EMPTY: [""] * len(lists),
    }


def scored(rewards: Mapping[str, Sequence[Part]], written: Mapping[str, Sequence[str]]) -> list[dict]:
    """A row for each policy: its name, `n`, and its mean under each reward, by the reward's name.

    That of the most popular candidate also has, by reward, by how much it is paid more than one at random on the cases
    where both are wrong, and the standard error: `more_when_wrong`, if there are two such cases.
    """
    paid = {}
    for policy, texts in written.items():
        rollouts = [Rollout({"number": number}, text, (), True) for number, text in enumerate(texts)]
        paid[policy] = {name: np.asarray(total(parts, scores_of(parts, rollouts))) for name, parts in rewards.items()}
    rows = [
        {"policy": policy, "n": len(written[policy])}
        | {name: round(float(np.mean(one)), 4) for name, one in of.items()}
        for policy, of in paid.items()
    ]
    chosen = zip(written[RANDOM], written[POPULAR_CANDIDATE], written[GOLD])
    wrong = [k for k, (drawn, popular, target) in enumerate(chosen) if target not in (drawn, popular)]
    if len(wrong) > 1:
        more = {name: (paid[POPULAR_CANDIDATE][name] - paid[RANDOM][name])[wrong] for name in rewards}
        means = {name: [float(of.mean()), float(of.std(ddof=1) / len(of) ** 0.5)] for name, of in more.items()}
        next(row for row in rows if row["policy"] == POPULAR_CANDIDATE)[MORE] = means
    return rows


def cheats(rows: Sequence[Mapping], reward: str) -> list[str]:
    """The policies that a reward pays as much as candidates at random or more, but for those that are no cheats.

    Popular candidates are right more often, and may be paid for it. They are a cheat where the reward pays them more
    than others when neither is right, by more than two standard errors.
    """
    of = {row["policy"]: row for row in rows}
    least = of[RANDOM][reward]
    found = [name for name, row in of.items() if row[reward] >= least and name not in (GOLD, RANDOM, POPULAR_CANDIDATE)]
    more, error = of[POPULAR_CANDIDATE].get(MORE, {}).get(reward, (0.0, 0.0))
    return [POPULAR_CANDIDATE, *found] if more > 2 * error else found


def as_text(rows: Sequence[Mapping]) -> str:
    """The table for a terminal."""
    names = [name for name in rows[0] if name not in ("policy", "n", MORE)]
    width = max(len(row["policy"]) for row in rows)
    columns = [max(8, len(name)) for name in names]
    lines = [f"{'policy':<{width}}  " + "  ".join(f"{name:>{size}}" for name, size in zip(names, columns))]
    for row in rows:
        cells = "  ".join(f"{row[name]:{size}.3f}" for name, size in zip(names, columns))
        lines.append(f"{row['policy']:<{width}}  {cells}")
    return "\n".join(lines)


def _mixed(catalogue: Catalogue, titled: str, named: str) -> str:
    return answer(Item(named, catalogue[titled].title, "", ""), RATIONALE)


def _drawn_outside(ids: Sequence[str], listed: Sequence[str], rng: random.Random) -> str:
    """An item that is no candidate; of a list that holds the whole catalogue its first."""
    inside = set(listed)
    if len(inside) >= len(ids):
        return listed[0]
    while (drawn := rng.choice(ids)) in inside:
        pass
    return drawn
