"""The comparison of all models on the same lists: ranks, and beside them what recommenders name themselves.

The paper compares hit rates of a few sampled replies with those of rankers. Here a recommender ranks all candidates as
any model does, and its replies have a table of their own. Source: our decision.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.evaluation import ranking, statistics
from reason4rec.run import markdown
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import collaborative, ranking_runs, recommending, replies, tables
from reason4rec.systems.twice_rec.options import Evaluation, Split
from reason4rec.systems.twice_rec.popularity import places
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

RANK_AGAIN = "run TWiCE_Rec/8_rank_candidates.py again, with the same --limit and --cases"
PROTOCOL = ("first", "pass", "ndcg")  # of what a recommender draws: HR@1, HR@k and NDCG@k of the paper
CHANCE, POPULARITY, UNPOPULARITY, SASREC = "chance", "popularity", "anti-popularity", "SASRec"


@dataclass(frozen=True)
class Judged:
    """The cases that are judged: their lists, the place of each target in its list, and the collaborative scores."""

    cases: Sequence[Case]
    lists: Mapping[str, Sequence[str]]
    targets: np.ndarray
    scores: collaborative.Scores

    @property
    def users(self) -> np.ndarray:
        """(cases,) the number of each case's user: one of its own."""
        return np.arange(len(self.cases))


def judged(step: "RecommenderStep", split: str) -> Judged:
    """The cases of a split, with what all models are judged by."""
    cases, lists = step.judged_cases(split), step.candidates(split)
    targets = np.array([lists[case.user_id].index(case.target.item_id) for case in cases])
    scores = collaborative.of_cases(step.read(a.SCORES), split, cases, lists, str(step.path(a.SCORES)))
    return Judged(cases, lists, targets, scores)


def evaluate(step: "RecommenderStep") -> dict:
    """The ranks' table, the table of what was named, and the settings, for one split."""
    split, options = step[Split].split, step[Evaluation]
    on = judged(step, split)
    models = scores_of(step, on)
    there = [name for name in models if name in recommending.MODELS]
    against = options.against or ("recommender" if "recommender" in there else SASREC)
    if against not in models:
        raise InputError(f"--against {against}: no such row; there are {', '.join(models)}")
    ranks = {name: ranking.ranks(scores, on.targets)[None] for name, scores in models.items()}
    return {
        "ranks": ranking.table(ranks, on.users, against, step.common.seed),
        "top": [top_of(name, scores, on, step.common.seed) for name, scores in models.items()],
        "named": [named_by(step, name, split, on) for name in there],
        "settings": {
            "split": split,
            "cases": len(on.cases),
            "candidates": int(on.scores.logits.shape[1]),
            "scored": options.scored,
            "against": against,
        },
    }


def scores_of(step: "RecommenderStep", on: Judged) -> dict[str, np.ndarray]:
    """(cases, candidates) scores of every model whose ranks are there and current, by its name in the tables."""
    found = {
        CHANCE: np.zeros_like(on.scores.logits),
        POPULARITY: on.scores.counts,
        UNPOPULARITY: -on.scores.counts,
        SASREC: on.scores.logits,
    }
    for name in ranking_runs.there(step, step[Split].split):
        artifact = a.ranked(name, step[Split].split)
        found[name] = weighed(step.read(artifact), on, step[Evaluation].scored, str(step.path(artifact)))
    return found


def weighed(frame: pd.DataFrame, on: Judged, scored: str, where: str) -> np.ndarray:
    """(cases, candidates) log-probabilities of the candidates, over their tokens if `scored` is mean."""
    values = tables.rows_of(frame, on.cases, on.lists, where, RANK_AGAIN)
    found = values["log_likelihood"] / values["tokens"] if scored == "mean" else values["log_likelihood"]
    return found.to_numpy(dtype=float).reshape(on.scores.logits.shape)


def top_of(name: str, scores: np.ndarray, on: Judged, seed: int) -> dict:
    """The mean of `places_of_first` of a model, with its interval."""
    return {"model": name} | statistics.mean(places_of_first(scores, on), on.users, seed)


def places_of_first(scores: np.ndarray, on: Judged) -> np.ndarray:
    """(cases,) how popular the candidate is that a model ranks first, as `popularity.places` has it.

    Chance gives 0.5. Ties at the top count alike.
    """
    first = scores == scores.max(axis=1, keepdims=True)
    return (places(on.scores.counts) * first).sum(axis=1) / first.sum(axis=1)


def named_by(step: "RecommenderStep", name: str, split: str, on: Judged) -> dict:
    """What a recommender names itself: how often the target, greedily and in any of its draws, and what is wrong."""
    target = {case.user_id: case.target.item_id for case in on.cases}
    frame = step.read(a.written(name, split))
    frame = frame[frame["user_id"].isin(target)]
    rationale = recommending.MODELS[name].task == RATIONALE_FIRST
    read = [replies.read(text, rationale) for text in frame["reply"]]
    right = np.array([one.item_id == target[user] for one, user in zip(read, frame["user_id"])])
    listed = [one.item_id in on.lists[user] for one, user in zip(read, frame["user_id"])]
    fits = [one.title is not None and step.catalogue.is_title_of(one.title, one.item_id or "") for one in read]
    greedy = (frame["draw"] == 0).to_numpy()
    if greedy.sum() != len(on.cases):
        where = step.path(a.written(name, split))
        raise InputError(f"{where}: {greedy.sum()} greedy replies to {len(on.cases)} cases; {RANK_AGAIN}")
    found = {
        "model": name,
        "greedy": statistics.mean(right[greedy].astype(float), on.users, step.common.seed),
        "malformed": float(np.mean([not one.well_formed for one, first in zip(read, greedy) if first])),
        "outside_the_list": float(np.mean([not one for one, first in zip(listed, greedy) if first])),
        "title_of_another": float(np.mean([not one for one, first in zip(fits, greedy) if first])),
    }
    if not greedy.all():
        places = _places_drawn(frame, [one.item_id for one in read], target, on.cases)
        found["draws"] = int(frame.loc[~greedy].groupby("user_id").size().max())
        gains = np.where(places > 0, 1 / np.log2(np.maximum(places, 1) + 1), 0.0)
        for name, values in (("first", places == 1), ("pass", places > 0), ("ndcg", gains)):
            found[name] = statistics.mean(values.astype(float), on.users, step.common.seed)
    return found


def _places_drawn(
    frame: pd.DataFrame, items: Sequence[str | None], target: Mapping[str, str], cases: Sequence[Case]
) -> np.ndarray:
    """(cases,) the place of the target, from 1, among the items that the draws name, each once, in the order drawn.

    0 where none names it. The released code takes the order of a set of texts, which is another one each time.
    """
    drawn = frame.assign(item=items)[lambda rows: (rows["draw"] > 0) & rows["item"].notna()]
    drawn = drawn.sort_values("draw", kind="stable").drop_duplicates(["user_id", "item"])
    drawn = drawn.assign(place=drawn.groupby("user_id").cumcount() + 1)
    hit = drawn[drawn["item"] == drawn["user_id"].map(target)].set_index("user_id")["place"]
    return np.array([hit.get(case.user_id, 0) for case in cases])


def read(path: Path) -> dict:
    """The result in a file that `evaluate` made."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(result: dict) -> str:
    """All tables of a result for a terminal."""
    settings = result["settings"]
    parts = [
        f"{settings['cases']:,} cases of {settings['split']}, {settings['candidates']} candidates each:",
        ranking.as_text(result["ranks"]),
        "How popular the candidate ranked first is (0.5: as chance has it, 1: the most popular of each list):\n"
        + markdown.table(["model", "popularity", "95% interval"], [top_cells(row) for row in result["top"]]),
    ]
    if result["named"]:
        header = ["model", "greedy", "95% interval", "pass", "malformed", "outside the list", "title of another"]
        parts.append(
            "What the recommenders name themselves (no rank: pass is any of several draws):\n"
            + markdown.table(header, [_named_cells(row) for row in result["named"]])
        )
    if drawn := [row for row in result["named"] if "ndcg" in row]:
        k = drawn[0]["draws"]
        parts.append(
            "The paper's protocol, in which draws are taken for a list (no rank):\n"
            + markdown.table(
                ["model", "HR@1", f"HR@{k}", f"NDCG@{k}"],
                [[row["model"], *(f"{row[name]['value']:.3f}" for name in PROTOCOL)] for row in drawn],
            )
        )
    return "\n\n".join(parts)


def top_cells(row: dict) -> list[str]:
    """The cells of a row of `top_of`: the model, how popular what it ranks first is, and the interval."""
    return [row["model"], f"{row['value']:.3f}", _interval(row)]


def _named_cells(row: dict) -> list[str]:
    passed = f"{row['pass']['value']:.3f} of {row['draws']}" if "pass" in row else "-"
    shares = [f"{row[name]:.1%}" for name in ("malformed", "outside_the_list", "title_of_another")]
    return [row["model"], f"{row['greedy']['value']:.3f}", _interval(row["greedy"]), passed, *shares]


def _interval(row: dict) -> str:
    return "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
