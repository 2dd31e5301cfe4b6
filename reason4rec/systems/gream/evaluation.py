"""The comparison of generators with models that score every item, by the whole catalogue, and Pass@k apart from it.

A rank needs a list, and draws are none: Recall@k of a list and Pass@k of k draws are not subtracted from each other.
A list is judged as a shop would use it: what the user has chosen already is left out, with all models, and an item that
comes twice counts where it comes first. What is no item keeps its place and is a miss, and so is all that a list lacks
of 10. Source: metrics as in the released code; the rest is our decision.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.schema import check_columns
from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.evaluation import ranking, statistics
from reason4rec.run import markdown
from reason4rec.systems.gream.artifacts import LIST_COLUMNS
from reason4rec.systems.gream.full_ranking import CHANCE, LISTED, Ranked

# NDCG@1 is Recall@1 where one item is right.
METRICS = ("Recall@1", "Recall@5", "Recall@10", "NDCG@5", "NDCG@10")
PASS_AT = (1, 5, 10)
DRAW_COLUMNS = ("user_id", "draw", "item_id")
RANK_AGAIN = "run GREAM/9_recommend.py again, with the same --limit and --cases"


@dataclass(frozen=True)
class Judged:
    """What all models are judged on: the cases, the ids of the catalogue, and how often training chose each of them."""

    cases: Sequence[Case]
    item_ids: Sequence[str]
    counts: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """(cases,) the number of each case's user: one of its own."""
        return np.arange(len(self.cases))

    @cached_property
    def popularity(self) -> dict[str, float]:
        """How popular each item is: the share of the others that training chose less often, 0 to 1; ties count half."""
        places = pd.Series(self.counts).rank(method="average").to_numpy() - 1
        return dict(zip(self.item_ids, (places / max(1, len(places) - 1)).tolist()))


def evaluate(
    on: Judged,
    baselines: Mapping[str, Ranked],
    lists: Mapping[str, tuple[pd.DataFrame, str]],
    draws: Mapping[str, tuple[pd.DataFrame, str]],
    against: str,
    seed: int,
    settings: Mapping[str, object],
) -> dict:
    """The ranks' table, what is in the lists, and what the draws hit.

    `lists` has for each model and mode, by its name in the tables, its table with LIST_COLUMNS and the file that it
    comes from; `draws` the same with DRAW_COLUMNS. Differences are from the row `against`, and `settings` is told with
    the result, such as the split. InputError where there is no such row, or a table does not fit the cases.
    """
    read = {name: listed(frame, on, where) for name, (frame, where) in lists.items()}
    models = dict(baselines) | {name: ranked for name, (ranked, _) in read.items()}
    if against not in models:
        raise InputError(f"--against {against}: no such row; there are {', '.join(models)}")
    ranks = {name: ranked.ranks[None] for name, ranked in models.items()}
    written = {name: shares for name, (_, shares) in read.items()}
    return {
        "ranks": ranking.table(ranks, on.users, against, seed, METRICS),
        # Of equal items a list holds the first in the catalogue, which says nothing of chance.
        "lists": [
            content_of(name, one, on, seed) | written.get(name, {}) for name, one in models.items() if name != CHANCE
        ],
        "draws": [hits_of(name, frame, on, where, seed) for name, (frame, where) in draws.items()],
        "settings": dict(settings)
        | {
            "cases": len(on.cases),
            "items": len(on.item_ids),
            "against": against,
            "listed": LISTED,
            "history": "left out",
        },
    }


def listed(frame: pd.DataFrame, on: Judged, where: str) -> tuple[Ranked, dict[str, float]]:
    """The lists of a generator as they are judged, and the shares of what it wrote that is no item or in the history.

    `frame` has LIST_COLUMNS, and an `item_id` that is missing, empty or unknown is no item. InputError where a user of
    the cases has no row, or two at the same place.
    """
    check_columns(frame, LIST_COLUMNS, where)
    _check_places(frame, "place", where)
    by_user = _by_user(frame.sort_values(["user_id", "place"], kind="stable"), on, where)
    known, lists, ranks = set(on.item_ids), [], []
    wrote = invalid = seen = 0
    for case in on.cases:
        said = [one if one in known else None for one in by_user[case.user_id]]
        history = {event.item_id for event in case.history}
        kept = [one for k, one in enumerate(said) if one is None or one not in history and one not in said[:k]]
        lists.append(tuple(kept[:LISTED]))
        ranks.append(_rank(case.target.item_id, lists[-1], len(on.item_ids)))
        wrote, invalid = wrote + len(said), invalid + said.count(None)
        seen += sum(one in history for one in said)
    return Ranked(np.array([ranks, ranks]).T, lists), {"invalid": invalid / wrote, "in_history": seen / wrote}


def content_of(name: str, ranked: Ranked, on: Judged, seed: int) -> dict:
    """What stands in the lists of a model: how long they are, how much of the catalogue is in any, and the first items.

    `length` is the mean number of items in a list, `coverage` the share of the catalogue, and `first` the mean
    popularity of the first item with its interval, 0.5 being that of an item at random.
    """
    items = [[one for one in of_case if one is not None] for of_case in ranked.lists]
    first = np.array([on.popularity[one[0]] if one else np.nan for one in items])
    return {
        "model": name,
        "length": float(np.mean([len(one) for one in items])),
        "coverage": len(set().union(*items)) / len(on.item_ids),
        "first": statistics.mean(first, on.users, seed),
    }


def hits_of(name: str, frame: pd.DataFrame, on: Judged, where: str, seed: int) -> dict:
    """Pass@k of a generator's draws: the chance that k of them, drawn without replacement, hold the target.

    The released code takes the k draws of the highest log-probability instead, which favours short thoughts. InputError
    where users have not the same number of draws.
    """
    check_columns(frame, DRAW_COLUMNS, where)
    _check_places(frame, "draw", where)
    by_user = _by_user(frame.sort_values(["user_id", "draw"], kind="stable"), on, where)
    said = [by_user[case.user_id] for case in on.cases]
    n = len(said[0])
    if other := next((case.user_id for case, one in zip(on.cases, said) if len(one) != n), None):
        raise InputError(f"{where}: user {other[:40]} has {len(by_user[other])} draws, others {n}; {RANK_AGAIN}")
    known, sizes = set(on.item_ids), [k for k in PASS_AT if k <= n]
    right = np.array([[one == case.target.item_id for one in of] for case, of in zip(on.cases, said)])
    return {
        "model": name,
        "draws": n,
        "invalid": float(np.mean([one not in known for of_case in said for one in of_case])),
        "distinct": float(np.mean([len(known.intersection(of_case)) for of_case in said])),
        "pass": [{"k": k} | statistics.mean(pass_at(right, k), on.users, seed) for k in sizes],
    }


def pass_at(right: np.ndarray, k: int) -> np.ndarray:
    """(cases,) the chance that k of a case's draws hold a right one, from (cases, draws) whether each is.

    Source: the unbiased estimate of Chen et al. (2021), arXiv 2107.03374.
    """
    n, hits = right.shape[1], right.sum(axis=1)
    without = np.ones(len(right))
    for drawn in range(k):
        without *= np.maximum(n - hits - drawn, 0) / (n - drawn)
    return 1 - without


def read(path: Path) -> dict:
    """The result in a file that `evaluate` made."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(result: dict) -> str:
    """All tables of a result for a terminal."""
    settings = result["settings"]
    header = ["model", "items in a list", "catalogue in any", "popularity of the first", "95% interval"]
    header += ["no item", "in the history"]
    parts = [
        f"{settings['cases']:,} cases, ranked among all {settings['items']:,} items but those of each history:",
        ranking.as_text(result["ranks"]),
        f"What is in the lists of {settings['listed']} (popularity 0.5: an item at random, 1: the most popular; the "
        "last two columns are shares of what a generator wrote, of which only a search by positions writes either):\n"
        + markdown.table(header, [_list_cells(row) for row in result["lists"]]),
    ]
    if result["draws"]:
        header = ["model", "draws", "no item", "different items", "Pass@k", "value", "95% interval"]
        cells = [line for row in result["draws"] for line in _draw_cells(row)]
        parts.append(
            "What the generators hit in several draws (no rank, and not to be compared with a recall):\n"
            + markdown.table(header, cells)
        )
    return "\n\n".join(parts)


def _check_places(frame: pd.DataFrame, column: str, where: str) -> None:
    if (again := frame.duplicated(["user_id", column])).any():
        row = int(again.to_numpy().argmax())
        user, place = str(frame["user_id"].iloc[row])[:40], frame[column].iloc[row]
        raise InputError(f"{where}: user {user} has {column} {place} twice, again in row {row}; {RANK_AGAIN}")


def _by_user(frame: pd.DataFrame, on: Judged, where: str) -> dict[str, list]:
    """The items of each user in the order of a table; InputError where a user of the cases has none."""
    found: dict[str, list] = {}
    for user, item_id in zip(frame["user_id"].tolist(), frame["item_id"].tolist()):
        found.setdefault(user, []).append(item_id)
    if absent := next((case.user_id for case in on.cases if case.user_id not in found), None):
        raise InputError(f"{where}: user {absent[:40]} is not in it; {RANK_AGAIN}")
    return found


def _rank(target: str, items: Sequence[str | None], n_items: int) -> int:
    """The place of a target in a list, from 1; where it is not in it one that no metric counts."""
    return items.index(target) + 1 if target in items else max(n_items, LISTED) + 1


def _list_cells(row: dict) -> list[str]:
    first = "-" if row["first"]["value"] is None else f"{row['first']['value']:.3f}"
    shares = [f"{row[name]:.1%}" if name in row else "-" for name in ("invalid", "in_history")]
    return [row["model"], f"{row['length']:.1f}", f"{row['coverage']:.1%}", first, _interval(row["first"]), *shares]


def _draw_cells(row: dict) -> list[list[str]]:
    """A line for each k, of which the first names the model."""
    lines = []
    for place, one in enumerate(row["pass"]):
        named = [row["model"], str(row["draws"]), f"{row['invalid']:.1%}", f"{row['distinct']:.1f}"]
        cells = [f"Pass@{one['k']}", f"{one['value']:.4f}", _interval(one, 4)]
        lines.append([*(named if place == 0 else [""] * len(named)), *cells])
    return lines


def _interval(row: dict, digits: int = 3) -> str:
    return "-" if row["low"] is None else f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
