"""A page of test cases: the history, what was chosen, what every model lists, and what the generators think before."""

from typing import TYPE_CHECKING

import numpy as np

from reason4rec.run import html
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import evaluation, evaluation_runs, recommending, replies
from reason4rec.systems.gream.full_ranking import ITEM_KNN, POPULARITY, SASREC
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.systems.twice_rec.case_study import CUT, TEMPLATE
from reason4rec.systems.twice_rec.prompts import short

if TYPE_CHECKING:
    from reason4rec.data.sequences import Case
    from reason4rec.systems.gream.step import GeneratorStep

SHOWN = (POPULARITY, ITEM_KNN, SASREC)
NONE = "-"  # where a list lacks an item


def page(step: "GeneratorStep", rows: int) -> tuple[str, int]:
    """The page on at most so many cases, drawn at random, and how many there are on it.

    It is that of TWiCE-Rec; the candidates are the items that any model lists, and the one that was chosen.
    """
    on, baselines, _ = evaluation_runs.judged(step, "test")
    lists = {name: one.lists for name, one in baselines.items() if name in SHOWN}
    thoughts: dict[str, dict[str, str]] = {}
    for name in evaluation_runs.there(step, "test"):
        path = str(step.path(a.ranked(name, "test")))
        lists[name] = evaluation.listed(step.read(a.ranked(name, "test")), on, path)[0].lists
        if recommending.MODELS[name].mode == REASONED:
            frame = step.read(a.written(name, "test"))
            thoughts[name] = dict(frame.loc[frame["draw"] == 0, ["user_id", "reply"]].itertuples(index=False))
    drawn = np.random.default_rng(step.common.seed).permutation(len(on.cases))[:rows]
    cases = [_case(step, on.cases[k], {name: of[k] for name, of in lists.items()}, thoughts) for k in map(int, drawn)]
    data = {"dataset": step.common.dataset, "seed": step.common.seed, "all": len(on.cases), "cases": cases}
    return html.filled(TEMPLATE.read_text(encoding="utf-8"), data), len(cases)


def _case(step: "GeneratorStep", case: "Case", lists: dict, thoughts: dict) -> dict:
    shown = dict.fromkeys([case.target.item_id, *(one for of in lists.values() for one in of if one is not None)])
    return {
        "user": case.user_id,
        "history": [
            {"title": step.catalogue[one.item_id].title, "rating": one.rating, "review": short(one.review, CUT)}
            for one in case.history
        ],
        "candidates": [
            {
                "id": item,
                "title": step.catalogue[item].title,
                "about": short(step.catalogue[item].description, CUT),
                "chosen": item == case.target.item_id,
                "ranks": {name: of.index(item) + 1 if item in of else NONE for name, of in lists.items()},
            }
            for item in shown
        ],
        "said": {name: _said(name, lists[name], of.get(case.user_id, "")) for name, of in thoughts.items()},
    }


def _said(name: str, listed: tuple, reply: str) -> dict:
    # The list follows the thoughts, so that the reply has no answer of its own yet.
    think = replies.read(reply).think
    problems = [] if think is not None else ["thoughts not closed"]
    return {"rationale": think or "", "item": next((one for one in listed if one), ""), "problems": problems}
