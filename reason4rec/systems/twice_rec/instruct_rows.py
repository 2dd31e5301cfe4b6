"""The instruct rows of the three tasks that the recommender learns. Paper: stage 2."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.errors import InputError
from reason4rec.llm.prompt import training_row
from reason4rec.systems.twice_rec import prompts
from reason4rec.systems.twice_rec.artifacts import RATIONALES
from reason4rec.systems.twice_rec.options import Prompts, Tasks
from reason4rec.systems.twice_rec.prompts import DESCRIBE, ITEM_ONLY, RATIONALE_FIRST

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep


def of_tasks(step: "RecommenderStep") -> dict[str, list[dict]]:
    """The rows of each task that is asked for; InputError where a rationale is of another target than its user's."""
    makers = {DESCRIBE: _described, ITEM_ONLY: _item_only, RATIONALE_FIRST: _rationale_first}
    return {task: makers[task](step) for task in dict.fromkeys(step[Tasks].tasks)}


def mixed(by_task: dict[str, list[dict]], seed: int) -> list[dict]:
    """The rows of all tasks in one random order: each as often as there are rows of it, as in the released code."""
    rows = [row for of_task in by_task.values() for row in of_task]
    return [rows[k] for k in np.random.default_rng(seed).permutation(len(rows))]


def _described(step: "RecommenderStep") -> list[dict]:
    shown = step[Prompts]
    items = list(step.catalogue)[: step.common.limit]
    return [
        training_row(prompts.describe(item.title, shown.folder), prompts.description(item, shown.cut)) for item in items
    ]


def _item_only(step: "RecommenderStep") -> list[dict]:
    cases = step.drawn("train", step[Tasks].train_cases)
    asked = step.prompts_of(cases, step.candidates("train"), ITEM_ONLY)
    answer = partial(prompts.answer, rationale=None)
    return [training_row(prompt, answer(step.catalogue[case.target.item_id])) for prompt, case in zip(asked, cases)]


def _rationale_first(step: "RecommenderStep") -> list[dict]:
    written = {row.user_id: row for row in step.read(RATIONALES).itertuples()}
    cases = [case for case in step.cases("train") if case.user_id in written]
    for case in cases:
        if written[case.user_id].item_id != case.target.item_id:
            raise InputError(
                f"{step.path(RATIONALES)}: the rationale of user {case.user_id} is for item "
                f"{written[case.user_id].item_id}, and the training target is {case.target.item_id}: run "
                f"TWiCE_Rec/4_distil_rationales.py again"
            )
    asked = step.prompts_of(cases, step.candidates("train"), RATIONALE_FIRST)
    return [
        training_row(prompt, prompts.answer(step.catalogue[case.target.item_id], written[case.user_id].rationale))
        for prompt, case in zip(asked, cases)
    ]
