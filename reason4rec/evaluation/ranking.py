"""Ranks of targets among candidates, and what is made of them: hit rate, NDCG and MRR of any model, with intervals.

Where a model scores other candidates as high as the target, a coin would have to break the tie, and every metric here
is its expectation over fair coins. So a model that scores all candidates alike is exactly at chance, while the usual
count of the candidates that score higher would call it perfect. Our decision.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from reason4rec.errors import InputError
from reason4rec.evaluation.statistics import compare
from reason4rec.evaluation.tables import aligned
from reason4rec.run import markdown

METRICS = ("HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "MRR")


def ranks(scores: np.ndarray, targets: np.ndarray, where: str = "scores") -> np.ndarray:
    """(..., n, 2) the best and the worst rank, from 1, that the targets have by (..., n, candidates) scores.

    `targets` are the (n,) columns of the targets. Higher scores are better; the two ranks are the same unless another
    candidate has the target's very score. InputError, which calls the scores `where`, if one is not a number.
    """
    scores = np.asarray(scores, dtype=float)
    if np.isnan(scores).any():
        *_, row, column = np.argwhere(np.isnan(scores))[0]
        raise InputError(f"{where}: the score of candidate {column} in row {row} is not a number; score them again")
    of_target = np.take_along_axis(scores, np.broadcast_to(targets[:, None], (*scores.shape[:-1], 1)), axis=-1)
    return np.stack([(scores > of_target).sum(axis=-1) + 1, (scores >= of_target).sum(axis=-1)], axis=-1)


def metrics(ranks: np.ndarray, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """(..., n) values of each of some metrics, all of 0 to 1, from (..., n, 2) ranks as `ranks` gives them.

    Hit rate and NDCG are 0 for a rank above their number; a single item is relevant, so that the recall is the hit rate
    and an NDCG is 1 / log2(1 + rank). A value is the mean over all ranks from the best to the worst.
    """
    best, worst = ranks[..., 0], ranks[..., 1]
    all_ranks = np.arange(1, int(worst.max(initial=1)) + 1)
    hit = np.ones(len(all_ranks))
    gains = {"HR": hit, "Recall": hit, "NDCG": 1 / np.log2(1 + all_ranks), "MRR": 1 / all_ranks}
    found = {}
    for name in names:
        kind, _, most = name.partition("@")
        sums = np.cumsum(np.append(0, np.where(all_ranks <= int(most or len(all_ranks)), gains[kind], 0)))
        found[name] = (sums[worst] - sums[best - 1]) / (worst - best + 1)
    return found


def chance(n_candidates: int) -> dict[str, float]:
    """Each of METRICS for a target at any of so many ranks."""
    return {name: float(values[0]) for name, values in metrics(np.array([[1, n_candidates]])).items()}


def table(
    models: Mapping[str, np.ndarray],
    users: np.ndarray,
    against: str | None = None,
    seed: int = 0,
    names: Sequence[str] = METRICS,
) -> list[dict]:
    """A row for each of some metrics and each model: its `metric`, and what `statistics.compare` says of it.

    `models` has for each model its (seeds, n, 2) ranks on the same n targets, `users` the (n,) numbers of the users of
    these from 0. Differences are from the model `against`, and p-values are corrected for the number of models, not of
    metrics.
    """
    values = {model: metrics(of_model, names) for model, of_model in models.items()}
    return [
        {"metric": name} | row
        for name in names
        for row in compare(
            {model: of_model[name] for model, of_model in values.items()}, users, against, seed=seed, what=name
        )
    ]


def as_text(rows: Sequence[dict]) -> str:
    """The tables of metrics and of comparisons for a terminal."""
    parts = [aligned(_table_cells(rows)), aligned(_interval_cells(rows))]
    if against := _against(rows):
        parts[1] = (
            f"Each model's value, and the value less that of {against} on the same targets: above 0 it is better.\n"
            f"p: how often chance alone gives such a difference; corrected for the number of models (Holm).\n{parts[1]}"
        )
    return "\n\n".join(parts)


def as_markdown(rows: Sequence[dict]) -> str:
    """Both tables as Markdown."""
    return "\n\n".join(markdown.table(header, cells) for header, *cells in (_table_cells(rows), _interval_cells(rows)))


def _against(rows: Sequence[dict]) -> str | None:
    return next((row["against"] for row in rows if "against" in row), None)


def _table_cells(rows: Sequence[dict]) -> list[list[str]]:
    """Header and a line for each model with all its metrics."""
    found: dict[str, dict] = {}
    for row in rows:
        found.setdefault(row["model"], {"n": f"{row['n']:,}", "seeds": str(row["seeds"])})[row["metric"]] = row["value"]
    names = list(dict.fromkeys(row["metric"] for row in rows))
    cells = [["model", "n", "seeds", *names]]
    for model, of_model in found.items():
        cells.append([model, of_model["n"], of_model["seeds"], *(_number(of_model[name]) for name in names)])
    return cells


def _interval_cells(rows: Sequence[dict]) -> list[list[str]]:
    """Header and a line for each metric and model, with differences where there are any."""
    compared = _against(rows) is not None
    cells = [["model", "metric", "value", "95% interval"]]
    cells[0] += ["difference", "95% interval", "p", "p corrected"] if compared else []
    for row in rows:
        line = [row["model"], row["metric"], _number(row["value"]), _interval(row["low"], row["high"])]
        if compared:
            line.append(_number(row.get("difference"), "+"))
            line.append(_interval(row.get("difference_low"), row.get("difference_high"), "+"))
            line += [_number(row.get("p")), _number(row.get("p_corrected"))]
        cells.append(line)
    return cells


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "-" if low is None else f"{low:{sign}.4f} to {high:{sign}.4f}"
