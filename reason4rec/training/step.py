"""A step that trains an adapter by its instruct rows, with the recipe of its system."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from reason4rec.llm.base import resolve_device
from reason4rec.llm.shape import size_of
from reason4rec.run.files import Artifact
from reason4rec.training import processes, sft, trackers
from reason4rec.training.options import Execution, Training
from reason4rec.training.recipe import Recipe, batch_for, checked, rate_factor

if TYPE_CHECKING:
    from reason4rec.run.step import Step


def recipe_of(
    step: "Step",
    recipe: Recipe,
    rows: Artifact,
    own: Mapping[str, object] | None = None,
    base: Artifact | None = None,
) -> Recipe:
    """The recipe of a training: the system's, with the dataset's `own` settings and those that were given.

    A learning rate that neither of them sets is that of the size of what is trained: the `base` that a step made, once
    it is there, or else that of the options. A batch is that of the number of rows, once they are there. InputError
    names a number that nothing can be trained with.
    """
    own = own or {}
    given = {one.name: getattr(step[Training], one.name) for one in fields(Recipe)}
    recipe = replace(recipe, **own)
    recipe = replace(recipe, lr=recipe.lr * rate_factor_of(step, own, base))
    if "batch_size" not in own and step.path(rows).exists():
        n_rows = len(step.read(rows)[: step.common.limit])
        recipe = replace(recipe, batch_size=batch_for(recipe.batch_size, n_rows))
    return checked(replace(recipe, **{name: _whole(value) for name, value in given.items() if value is not None}))


def rate_factor_of(step: "Step", own: Mapping[str, object], base: Artifact | None = None) -> int:
    """By what a recipe's learning rate is multiplied for the base of a step; 1 where the rate was set."""
    options = step[Training]
    is_set = options.lr is not None or "lr" in own
    made = step.path(base) if base else None
    trained = str(made) if made and made.exists() else options.base_model
    return 1 if is_set else rate_factor(size_of(trained))


def _whole(value: float) -> float:
    """A whole number as such: a warm-up of 100 is steps, and so it stands in the recipes and in earlier records."""
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value


def settings_of(step: "Step", recipe: Recipe, base: Artifact | None = None) -> Mapping[str, object]:
    """All that decides the weights of the step's adapter, by the names in its record.

    `base` is the one to train, where it is not that of the options but one that a step made of it. It lies beside the
    adapter, and is recorded by the name of its folder, which stays the same where both are moved.
    """
    options = step[Training]
    trained = str(step.path(base)) if base else options.base_model
    found = sft.settings_of(step.spec.adapter, recipe, trained, options.max_length, options.start_from)
    return found | ({"base_model": base.path} if base else {})


def train(
    step: "Step",
    recipe: Recipe,
    rows: Artifact,
    own: Mapping[str, object] | None = None,
    base: Artifact | None = None,
) -> None:
    """Trains the adapter of a step on rows, in this process or in one of several that were launched together."""
    options = step[Execution]
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
                recipe.new_tokens,
            ),
        )
        if (factor := rate_factor_of(step, own or {}, base)) > 1:
            print(f"learning rate {recipe.lr:g}: {factor} times the recipe's, for a base of this size", flush=True)
        out = step.outputs[0]
        step.scratch = (sft.training_folder(out),)
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
