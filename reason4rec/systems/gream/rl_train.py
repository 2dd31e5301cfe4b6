"""Train the generator further by a reward: how much of the semantic id its answer begins with (SRPO).

    python -m reason4rec.systems.gream.rl_train --dataset Grocery --advantage srpo

Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, checkpoints/DATASET/Generator, GREAM_base
Writes checkpoints/DATASET/Generator_ADVANTAGE (adapter, settings.json, loss_curve.json)

Prompts are those of the training targets that are reasoned towards, in the reasoned mode. Before the training,
completions written by hand are scored; the table stands in the record, and a reward that pays a cheat as the truth is
warned of. While it is trained, the reward of greedy answers to the same validation cases is measured, and the weights
of the best step are kept. Paper: SRPO.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.data.sequences import Event
from reason4rec.errors import InputError
from reason4rec.llm.adapters import is_full
from reason4rec.llm.shape import size_of
from reason4rec.systems.gream import advantages, probes, rewards, staleness
from reason4rec.systems.gream.artifacts import BASE, BY_ADVANTAGE, GENERATOR
from reason4rec.systems.gream.options import Reinforcement, Reward
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.training import grpo
from reason4rec.training import step as training
from reason4rec.training.policy import Policy
from reason4rec.training.recipe import rate_factor
from reason4rec.training.rollouts import Part

if TYPE_CHECKING:
    from reason4rec.run.files import Artifact
    from reason4rec.systems.gream.step import GeneratorStep

RATE_OF_ALL = 2e-6 / rate_factor(4e9)  # where all weights were trained (`--full`); released code, for a base of 4B
DUAL_CLIP = 10.0  # of ratios where the advantage is below 0; released code
PROBED = 200  # targets

Asked = tuple[Sequence[Event], str]
"""A history, and the id of the item that came after it."""


def trained_by(step: "GeneratorStep") -> "Sequence[Artifact]":
    """The adapter that a training by a reward writes."""
    return (BY_ADVANTAGE[step[Reward].advantage],)


def policy_of(step: "GeneratorStep") -> Policy:
    """The settings of the policy, for the base with the new tokens.

    Groups are left out whose answers are all equally right, whatever their form. Source: released code; of the variant
    without graded rewards that is its own reward.
    """
    found = rated(step, is_full(step.path(GENERATOR)))
    graded = step[Reward].advantage != rewards.GRPO
    return replace(found, spread_of=rewards.MATCH if graded else None, delta=DUAL_CLIP)


def rated(step: "GeneratorStep", full: bool) -> Policy:
    """The settings of the trainer; where all weights are trained their rate, and not that of the dataset's adapter."""
    base = str(step.path(BASE))
    found = step[Reinforcement].policy(base)
    own = full and not step.options.given("rl_lr")
    return replace(found, lr=RATE_OF_ALL * rate_factor(size_of(base))) if own else found


def settings(step: "GeneratorStep") -> Mapping[str, object]:
    """All that decides the weights beside the targets."""
    options, variant = step[Reinforcement], step[Reward].advantage
    watched = {"prompts": options.watched, "every": options.watch_every, "keep": options.keep}
    return grpo.settings_of(
        step.outputs[0].name,
        step.path(GENERATOR),
        policy_of(step),
        rewards.weights_of(variant),
        advantages.ADVANTAGES[variant],
        watched if options.watched else None,
    )


def train_targets(step: "GeneratorStep") -> list[Asked]:
    """The training targets that completions are drawn for, in random order; InputError where there are none."""
    every = step.reasoning_targets()
    drawn = np.random.default_rng(step.common.seed).permutation(len(every))[: step[Reinforcement].rl_targets]
    return [(every[k].history, every[k].item_id) for k in drawn]


def watched_targets(step: "GeneratorStep") -> list[Asked]:
    """The validation cases that the policy is measured on."""
    cases = step.cases("valid")
    drawn = np.random.default_rng(step.common.seed).permutation(len(cases))[: step[Reinforcement].watched]
    return [(cases[k].history, cases[k].target.item_id) for k in drawn]


def parts_of(step: "GeneratorStep", asked: Sequence[Asked]) -> list[Part]:
    """The parts of the reward for some targets."""
    targets = [step.ids.tokens_of(item_id) for _, item_id in asked]
    return rewards.parts_of(step[Reward].advantage, targets, step.ids.levels, step.ids.item_of)


def probe(step: "GeneratorStep", asked: Sequence[Asked]) -> list[dict]:
    """What completions written by hand get for the first targets."""
    some = asked[:PROBED]
    popular = Counter(event.item_id for past in step.pasts for event in past.events).most_common(1)[0][0]
    tokens = step.ids.tokens_of
    written = probes.policies(
        [tokens(item_id) for _, item_id in some],
        [tokens(history[-1].item_id) for history, _ in some],
        tokens(popular),
        step.ids.levels,
    )
    return probes.scored(parts_of(step, some), written)


def train(step: "GeneratorStep") -> None:
    """Does the step, in this process or in one of several that were launched together.

    InputError where the generator that it starts from is out of date, or learned other prompts.
    """
    if why := staleness.of_adapter(step, GENERATOR.path):
        raise InputError(f"{step.path(GENERATOR)} {why}")
    step.check_prompts()
    training.train_by_reward(
        step,
        step.path(GENERATOR),
        lambda: policy_of(step),
        lambda is_main: task_of(step, is_main),
        advantage=step[Reward].advantage,
    )


def task_of(step: "GeneratorStep", is_main: bool) -> tuple[grpo.Task, Mapping[str, object]]:
    """What the policy learns and is measured on; in the main process also what the probes show, and their table."""
    asked, seen = train_targets(step), {}
    if is_main:
        seen["probes"] = probe(step, asked)
        print(probes.as_text(seen["probes"]), flush=True)
    task = grpo.Task(
        list(step.next_item([history for history, _ in asked], REASONED)),
        [{"number": number} for number in range(len(asked))],
        parts_of(step, asked),
        advantages.ADVANTAGES[step[Reward].advantage],
        validation_of(step),
    )
    return task, seen


def validation_of(step: "GeneratorStep") -> grpo.Validation | None:
    """What the policy is measured on: validation cases, and the same reward; None where none are wanted."""
    options = step[Reinforcement]
    if not options.watched:
        return None
    asked = watched_targets(step)
    watched = list(step.next_item([history for history, _ in asked], REASONED, wording=0))
    numbers = [{"number": number} for number in range(len(asked))]
    return grpo.Validation(watched, numbers, parts_of(step, asked), options.watch_every, options.keep)


def main(words: Sequence[str]) -> None:
    """Runs the step with the options of a command line."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.gream.pipeline import PIPELINE

    run(train, PIPELINE, PIPELINE["G/8"], __doc__, words=list(words))


if __name__ == "__main__":
    main(sys.argv[1:])
