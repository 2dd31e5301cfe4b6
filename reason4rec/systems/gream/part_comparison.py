"""What each part of the training teaches: a generator of each kind and seed, and its lists in both modes.

The order of the rows (curriculum or shuffled) and the variants of the reward each have an adapter of their own for
every seed. A policy starts from the generator of its seed, so that what differs between seeds is the whole training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.evaluation import ranking
from reason4rec.run import markdown
from reason4rec.run.files import Artifact
from reason4rec.run.options import Resolved
from reason4rec.run.step import Common
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import evaluation, evaluation_runs, recommending, recommending_runs, rl_train, train
from reason4rec.systems.gream.options import Comparison, Order, Reinforcement, Reward
from reason4rec.systems.gream.prompts import DIRECT, REASONED
from reason4rec.systems.gream.rewards import SRPO
from reason4rec.systems.gream.step import GeneratorStep
from reason4rec.systems.twice_rec.options import Split
from reason4rec.systems.twice_rec.reward_comparison import by_step
from reason4rec.training.options import Training
from reason4rec.training.policy import recorded

if TYPE_CHECKING:
    from reason4rec.systems.gream.full_ranking import Ranked

MODES = (DIRECT, REASONED)
GENERATOR, SHUFFLED = "generator", "shuffled"
ADAPTERS = (a.GENERATOR, a.SHUFFLED, *a.BY_ADVANTAGE.values())
CURVES = ("exact", "match", "format")


class OfSeed(GeneratorStep):
    """A step of the run of one seed: it has adapters and lists of its own, and all else is that of the dataset.

    The adapters lie among the others, since that is where their base is looked for.
    """

    def _own(self, item: Artifact | Path) -> Artifact | Path:
        if isinstance(item, Path):
            return item
        ending = f"_seed_{self[Comparison].seeds[0]}"
        if item in ADAPTERS:
            return replace(item, path=f"{item.path}{ending}")
        return replace(item, path=item.path.replace(f"{a.RANKED.path}/", f"{a.RANKED.path}{ending}/"))

    def path(self, item: Artifact | Path) -> Path:
        """Where an artifact of the seed's run lies, or of the dataset."""
        return super().path(self._own(item))

    def _place(self, item: Artifact | Path) -> Path:
        return super()._place(self._own(item))

    def read(self, artifact: Artifact) -> object:
        """The checked content of an artifact of the seed's run, or of the dataset."""
        return super().read(self._own(artifact))


def runs(step: GeneratorStep) -> list[tuple[str, int]]:
    """The parts and seeds that are compared, in the order in which they are trained."""
    options = step[Comparison]
    return [(part, seed) for seed in options.seeds for part in (GENERATOR, *options.parts)]


def of_seed(step: GeneratorStep, name: str, seed: int, trained_with: int | None = None, part: str = "") -> OfSeed:
    """A step by its name in the run of a seed, with what makes it that of a part.

    It draws by the seed `trained_with`, or else by that of the comparison, so that all are judged on the same cases.
    """
    groups = dict(step.options.groups)
    groups[Comparison] = replace(step[Comparison], seeds=(seed,))
    limit = None if name == "G/7" else step.common.limit  # there it would be rows, and not users
    groups[Common] = replace(step.common, limit=limit, seed=step.common.seed if trained_with is None else trained_with)
    groups[Order] = Order("shuffled" if part == SHUFFLED else "curriculum")
    groups[Split] = Split("test")
    if part in a.ADVANTAGES:
        groups[Reward] = Reward(part)
    return OfSeed(step.pipeline, step.pipeline[name], Resolved(groups, step.options.origins))


def training_of(step: GeneratorStep, part: str, seed: int) -> OfSeed:
    """The training of a part with a seed."""
    return of_seed(step, "G/8" if part in a.ADVANTAGES else "G/7", seed, seed, part)


def train_and_list(step: GeneratorStep, part: str, seed: int) -> None:
    """Trains a part with a seed, and lets it list items for the test cases, unless that is done."""
    from reason4rec.llm.bases import free

    training = training_of(step, part, seed)
    if part not in a.ADVANTAGES:
        train.train(training)  # which looks by itself whether it is done
    elif not training.done():
        rl_train.train(training)
    free()
    lists = of_seed(step, "G/9", seed)
    recommending_runs.recommend(lists, [recommending.MODELS[f"{part}_{mode}"] for mode in MODES])


def compare(step: GeneratorStep) -> dict:
    """The ranks of all parts over seeds in each mode, and the curves of the policies.

    `against_generator` has all parts and the models that score all items, `against_srpo` the policies beside each
    other.
    """
    options, seed = step[Comparison], step.common.seed
    on, baselines, shrink = evaluation_runs.judged(step, "test")
    beside = {name: one.ranks[None] for name, one in baselines.items()}
    found: dict[str, dict] = {"against_generator": {}, "against_srpo": {}}
    for mode in MODES:
        ranks = {
            part: np.stack([listed(step, on, part, mode, one).ranks for one in options.seeds])
            for part in (GENERATOR, *options.parts)
        }
        found["against_generator"][mode] = ranking.table(beside | ranks, on.users, GENERATOR, seed, evaluation.METRICS)
        policies = {part: of for part, of in ranks.items() if part in a.ADVANTAGES}
        if SRPO in policies:
            found["against_srpo"][mode] = ranking.table(policies, on.users, SRPO, seed, evaluation.METRICS)
    return found | {
        "by_step": [curve_of(step, part, one) for part, one in runs(step) if part in a.ADVANTAGES],
        "settings": {"cases": len(on.cases), "items": len(on.item_ids), "shrink": shrink}
        | {"parts": list(options.parts), "seeds": list(options.seeds)},
    }


def listed(step: GeneratorStep, on: evaluation.Judged, part: str, mode: str, seed: int) -> "Ranked":
    """The lists of a part that was trained with a seed, as they are judged."""
    of, artifact = of_seed(step, "G/9", seed), a.ranked(f"{part}_{mode}", "test")
    return evaluation.listed(of.read(artifact), on, str(of.path(artifact)))[0]


def curve_of(step: GeneratorStep, part: str, seed: int) -> dict:
    """How right the draws of each step of a training are, and the greedy answers that were watched."""
    path = training_of(step, part, seed).outputs[0] / "loss_curve.json"
    return {"part": part, "seed": seed, **by_step(path, CURVES)}


def settings(step: GeneratorStep) -> Mapping[str, object]:
    """All that decides the weights of all parts, beside the targets and what each reward is."""
    options = step[Reinforcement]
    return {
        "recipe": dict(train.settings(training_of(step, GENERATOR, step[Comparison].seeds[0]))),
        "policy": recorded(rl_train.rated(step, bool(step[Training].full))),
        "watched": {"prompts": options.watched, "every": options.watch_every, "keep": options.keep},
    }


def read(path: Path) -> dict:
    """The result in a file that `compare` made."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(result: dict) -> str:
    """The tables of a comparison for a terminal."""
    parts = [
        f"In the {mode} mode:\n{ranking.as_text(rows)}"
        for against in ("against_generator", "against_srpo")
        for mode, rows in result[against].items()
    ]
    watched = [
        [one["part"], str(one["seed"]), *(_first_to_last(one[f"watched_{name}"]) for name in CURVES)]
        for one in result["by_step"]
        if one["watched_step"]
    ]
    if watched:
        header = ["part", "seed", *CURVES]
        told = "Greedy answers on the watched validation cases, before and at the last step:"
        parts.append(f"{told}\n{markdown.table(header, watched)}")
    return "\n\n".join(parts)


def _first_to_last(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} to {values[-1]:.3f}"
