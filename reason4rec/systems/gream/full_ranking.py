"""Ranks of the whole catalogue by models that score every item: chance, popularity, item-kNN and SASRec.

A sequence holds each item once, so that no item of a history can be the target: they are left out for every model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case, numbered, training_parts
from reason4rec.errors import InputError
from reason4rec.evaluation import ranking
from reason4rec.run.progress import counted
from reason4rec.systems.gream import item_knn
from reason4rec.systems.gream.options import LISTED
from reason4rec.systems.twice_rec.popularity import popularity

CHANCE, POPULARITY, ITEM_KNN, SASREC = "chance", "popularity", "item-kNN", "SASRec"
AT_ONCE = 512  # cases that are scored at once
SHRINKS = (0.0, 10.0, 100.0)  # of item-kNN, to choose from; our decision

Scorer = Callable[[Sequence[np.ndarray]], np.ndarray]
"""(n, items) scores of the whole catalogue after n histories in numbers from 1; higher is better."""


@dataclass(frozen=True)
class Ranked:
    """What a model makes of some cases.

    `ranks` is (cases, 2), the best and the worst rank of each target as `ranking.ranks` gives them, and `lists` has the
    ids of the first items of each case, at most 10; None stands for what is no item.
    """

    ranks: np.ndarray
    lists: Sequence[tuple[str | None, ...]]


def rank(scorer: Scorer, cases: Sequence[Case], item_ids: Sequence[str], what: str = "ranks") -> Ranked:
    """The ranks of cases among all items but those of their histories, by scores of all.

    Of items with the same score the first in the catalogue is listed first; the ranks count both orders. InputError,
    which calls the scores `what`, if one is not a number.
    """
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    found, lists = [], []
    for start in counted(range(0, len(cases), AT_ONCE), what, "part"):
        some = cases[start : start + AT_ONCE]
        seen = [np.array([place[event.item_id] for event in case.history]) for case in some]
        scores = np.array(scorer([one + 1 for one in seen]), dtype=float)
        for row, of_case in zip(scores, seen):
            row[of_case] = -np.inf
        targets = np.array([place[case.target.item_id] for case in some])
        found.append(ranking.ranks(scores, targets, what))
        for row in scores:
            first = np.argsort(-row, kind="stable")[:LISTED]
            lists.append(tuple(item_ids[k] for k in first if row[k] > -np.inf))
    return Ranked(np.concatenate(found), lists)


def training_part(sequences: pd.DataFrame, item_ids: Sequence[str]) -> list[np.ndarray]:
    """What the models are made from: each user's sequence but its last two items, in numbers from 1."""
    return training_parts(numbered(sequences, item_ids))


def best_shrink(training: Sequence[np.ndarray], validation: Sequence[Case], item_ids: Sequence[str]) -> float:
    """That of SHRINKS with which item-kNN has the highest NDCG@10 on validation cases; of several the first."""

    def value(shrink: float) -> float:
        similar = item_knn.similarities(training, len(item_ids), shrink)
        found = rank(lambda histories: item_knn.score(similar, histories), validation, item_ids, f"shrink {shrink:g}")
        return float(ranking.metrics(found.ranks, ["NDCG@10"])["NDCG@10"].mean())

    return max(SHRINKS, key=value)


def baselines(
    training: Sequence[np.ndarray],
    cases: Sequence[Case],
    item_ids: Sequence[str],
    shrink: float,
    sasrec: Path | None = None,
) -> dict[str, Ranked]:
    """Chance, popularity, item-kNN and, where the folder of a trained one is given, SASRec, by their names.

    `training` is what `training_part` gives, also for cases of the test, and `shrink` what `best_shrink` does.
    InputError where SASRec was trained for a catalogue of another size.
    """
    counts = popularity(training, len(item_ids))
    similar = item_knn.similarities(training, len(item_ids), shrink)
    scorers: dict[str, Scorer] = {
        CHANCE: lambda histories: np.zeros((len(histories), len(item_ids))),
        POPULARITY: lambda histories: np.tile(counts, (len(histories), 1)),
        ITEM_KNN: lambda histories: item_knn.score(similar, histories),
    }
    if sasrec is not None:
        scorers[SASREC] = _sasrec(sasrec, len(item_ids))
    return {name: rank(scorer, cases, item_ids, name) for name, scorer in scorers.items()}


def _sasrec(folder: Path, n_items: int) -> Scorer:
    from reason4rec.systems.twice_rec.sasrec import catalogue_scores, load

    model = load(folder)
    if model.n_items != n_items:
        raise InputError(f"{folder}: scores {model.n_items:,} items, and there are {n_items:,}; train SASRec again")
    return lambda histories: catalogue_scores(model, histories)
