"""Train one expert of Reason4Rec: QLoRA fine-tuning of its adapter on a 4-bit base model.

    python -m reason4rec.systems.reason4rec.train --adapter Summarizer --dataset Music_data

Reads  the expert's instruct rows, a list of {"messages": [user, assistant]}
Writes checkpoints/DATASET/ADAPTER (adapter with its head, settings.json, loss_curve.json)

The loss is on the answer only. A row that is too long loses its oldest history, never the instruction or the answer.
A checkpoint is written at the end of each epoch and every --save_minutes. A run that is cut off goes on from the last
complete one and ends as an unbroken one does.

On several GPUs, with the same options and the same rows in each step:

    accelerate launch --config_file configs/accelerate/ddp.yaml -m reason4rec.systems.reason4rec.train \
        --adapter Summarizer --dataset Music_data
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from reason4rec.llm.base import resolve_device
from reason4rec.llm.shape import size_of
from reason4rec.systems.reason4rec.experts import EXPERTS, recipe_for
from reason4rec.training import processes, sft, trackers
from reason4rec.training.options import Execution, Training
from reason4rec.training.recipe import Recipe, batch_for, checked, rate_factor

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep


def recipe_of(step: "ExpertStep") -> Recipe:
    """The recipe of a training: the expert's, with the dataset's own settings and those that were given.

    A learning rate that neither of them sets is that of the base's size, a batch is that of the number of rows, once
    they are there. InputError names a number that nothing can be trained with.
    """
    given = {one.name: getattr(step[Training], one.name) for one in fields(Recipe)}
    recipe, rows = recipe_for(step.spec.adapter, step.dataset), EXPERTS[step.spec.adapter].rows
    recipe = replace(recipe, lr=recipe.lr * rate_factor_of(step))
    if "batch_size" not in step.dataset.recipes.get(step.spec.adapter, {}) and step.path(rows).exists():
        n_rows = len(step.read(rows)[: step.common.limit])
        recipe = replace(recipe, batch_size=batch_for(recipe.batch_size, n_rows))
    return checked(replace(recipe, **{name: _whole(value) for name, value in given.items() if value is not None}))


def rate_factor_of(step: "ExpertStep") -> int:
    """By what the expert's learning rate is multiplied for the base of a step; 1 where the rate was set."""
    options = step[Training]
    is_set = options.lr is not None or "lr" in step.dataset.recipes.get(step.spec.adapter, {})
    return 1 if is_set else rate_factor(size_of(options.base_model))


def _whole(value: float) -> float:
    """A whole number as such: a warm-up of 100 is steps, and so it stands in the recipes and in earlier records."""
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value


def settings(step: "ExpertStep") -> Mapping[str, object]:
    """All that decides the weights of an adapter."""
    options = step[Training]
    return sft.settings_of(
        step.spec.adapter, recipe_of(step), options.base_model, options.max_length, options.start_from
    )


def train(step: "ExpertStep") -> None:
    """Trains the adapter of a step, in this process or in one of several that were launched together."""
    options, recipe = step[Execution], recipe_of(step)
    device = resolve_device(options.device)
    state = processes.started(device)
    with processes.one_speaks(state):
        processes.together(state, lambda: trackers.check(options.report_to))
        execution = processes.together(
            state,
            lambda: sft.execution_of(
                recipe.batch_size,
                device,
                state.num_processes,
                options.engine,
                options.gradient_accumulation,
                options.padding_free,
                options.gradient_checkpointing,
                step[Training].start_from,
            ),
        )
        if (factor := rate_factor_of(step)) > 1:
            print(f"learning rate {recipe.lr:g}: {factor} times the recipe's, for a base of this size", flush=True)
        out = step.outputs[0]
        step.scratch = (sft.training_folder(out),)
        rows = EXPERTS[step.spec.adapter].rows
        found = sft.train_sft(
            out,
            lambda: step.provenance,
            execution,
            step.common.seed,
            step.done,
            lambda: step.read(rows)[: step.common.limit],
            state,
            options.save_minutes,
            options.report_to,
        )
        if found:
            n_rows = found.pop("rows")
            step.summary(n_rows, round(n_rows * recipe.epochs), **found)


def main(words: Sequence[str]) -> None:
    """Trains the expert that --adapter names."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.reason4rec.pipeline import PIPELINE

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--adapter", required=True, choices=EXPERTS)
    known, rest = parser.parse_known_args(words)
    run(train, PIPELINE, PIPELINE.training(known.adapter), __doc__, words=rest)


if __name__ == "__main__":
    main(sys.argv[1:])
