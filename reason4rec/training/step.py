"""Steps that train an adapter: by its instruct rows with the recipe of its system, or further by a reward."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.base import resolve_device
from reason4rec.llm.shape import size_of
from reason4rec.run.files import Artifact
from reason4rec.training import grpo, processes, sft, trackers
from reason4rec.training.options import Execution, RunsOn, Training
from reason4rec.training.policy import Policy
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
    if given["full"] and not recipe.full:
        raise InputError("--full: this recipe is that of an adapter, and has no rate for all weights; leave it away")
    recipe = replace(recipe, **own)
    recipe = replace(recipe, lr=recipe.lr * rate_factor_of(step, own, base))
    if "batch_size" not in own and step.path(rows).exists():
        n_rows = len(step.read(rows)[: step.common.limit])
        recipe = replace(recipe, batch_size=batch_for(recipe.batch_size, n_rows))
    recipe = replace(recipe, **{name: _whole(value) for name, value in given.items() if value is not None})
    # A recipe that trains a part of the head or of the embeddings beside its adapter has them among all weights.
    taken_in = {"lm_head", "new_tokens"} - {name for name, value in given.items() if value}
    return checked(replace(recipe, **dict.fromkeys(taken_in, False)) if recipe.full else recipe)


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
                recipe.full,
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


def train_by_reward(
    step: "Step",
    start: Path,
    policy_of: Callable[[], Policy],
    prepare: Callable[[bool], tuple[grpo.Task, Mapping[str, object]]],
    **told: object,
) -> None:
    """Trains the adapter `start` further, in this process or in one of several that were launched together.

    `prepare` is told whether its process is the main one and gives the task, and what was seen before the training,
    which only the record of the main process keeps. `told` stands in the closing line. The step has to be one that is
    `launched`.
    """
    options = step[RunsOn]
    device = resolve_device(options.device)
    state = processes.started(device)
    with processes.one_speaks(state):
        processes.together(state, lambda: trackers.check(options.report_to))
        out = step.outputs[0]
        step.scratch = (sft.training_folder(out),)
        # One process decides, since it may also recover an adapter that a killed run left unfinished.
        if processes.any_is(state, step.done):
            return
        provenance, policy = processes.together(state, lambda: (step.provenance, policy_of()))
        processes.together(state, lambda: grpo.check_start(policy, state.num_processes, start, options.draw_at))
        task, seen = processes.together(state, lambda: prepare(state.is_main_process))
        found = grpo.train_policy(
            out,
            provenance,
            start,
            policy,
            task,
            step.common.seed,
            device,
            options.save_minutes,
            options.report_to,
            seen,
            options.draw_at,
        )
        if found:
            step.summary(len(task.prompts), len(task.prompts), **told, **found)
