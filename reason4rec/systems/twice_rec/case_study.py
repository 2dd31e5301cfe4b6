"""A page of test cases: the history, the list, what was chosen, and what every model ranks first and says."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.run import html
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import evaluation, ranking_runs, recommending, replies
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST, short

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

TEMPLATE = Path(__file__).with_name("case_study.html")
CUT = 400  # characters of a review or a description


def page(step: "RecommenderStep", rows: int) -> tuple[str, int]:
    """The page on at most so many cases, drawn at random, and how many there are on it."""
    on = evaluation.judged(step, "test")
    drawn = np.random.default_rng(step.common.seed).permutation(len(on.cases))[:rows]
    scores = {evaluation.POPULARITY: on.scores.counts, evaluation.SASREC: on.scores.logits}
    said: dict[str, dict[str, str]] = {}
    for name in ranking_runs.there(step, "test"):
        artifact = a.ranked(name, "test")
        scores[name] = evaluation.weighed(step.read(artifact), on, "mean", str(step.path(artifact)))
        frame = step.read(a.written(name, "test"))
        said[name] = dict(frame.loc[frame["draw"] == 0, ["user_id", "reply"]].itertuples(index=False))
    cases = [_case(step, on, int(k), scores, said) for k in drawn]
    data = {"dataset": step.common.dataset, "seed": step.common.seed, "all": len(on.cases), "cases": cases}
    return html.filled(TEMPLATE.read_text(encoding="utf-8"), data), len(cases)


def _case(step: "RecommenderStep", on: evaluation.Judged, k: int, scores: dict, said: dict) -> dict:
    case, listed = on.cases[k], on.lists[on.cases[k].user_id]
    ranks = {name: (-of[k]).argsort(kind="stable").argsort(kind="stable") + 1 for name, of in scores.items()}
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
                "ranks": {name: int(of[place]) for name, of in ranks.items()},
            }
            for place, item in enumerate(listed)
        ],
        "said": {name: _said(of.get(case.user_id, ""), name) for name, of in said.items()},
    }


def _said(reply: str, name: str) -> dict:
    read = replies.read(reply, recommending.MODELS[name].task == RATIONALE_FIRST)
    return {"rationale": read.think or "", "item": read.item_id or "", "problems": list(read.problems)}
