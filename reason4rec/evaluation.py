"""How well models predict the ratings of the same test rows, and how sure that is.

A model's predictions come from one file, or from one file a seed. With several seeds an error is the mean over the
seeds of each seed's own error, never the error of their mean prediction, which would be another model.

Rows of one user are not independent: on two cuts of real Amazon reviews the standard error of a mean's MAE is 1.1 to
1.4 times, and that of a difference of two MAEs up to 1.5 times, what it would be if they were. So intervals draw users
with all their rows, and the paired test swaps two models on all rows of a user at once. Rows of one item are alike
too, mostly less; neither sees that, nor does an interval hold the spread over seeds, which stands beside it. All of
this is our decision: the paper's tests are not known.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec import markdown, metrics
from reason4rec.artifacts import (
    KEYS,
    METRICS,
    PREDICTION,
    PROBABILITIES,
    TEST_RATINGS,
    Artifact,
    check_frame,
    predictions_of,
    read_record,
)
from reason4rec.errors import InputError
from reason4rec.history import History

RESAMPLES = 9_999
LEVEL = 0.95
IN_MEMORY = 2_000_000  # numbers of a batch of resamples
BINS = np.linspace(0.1, 0.9, 9)  # of the probability of the most probable rating
HISTORY = {0: "0", 1: "1-4", 5: "5-9", 10: "10-19", 20: "20-49", 50: "50+"}  # fewest earlier reviews, name
SIMPLE = {"global_mean": "global mean", "global_median": "global median", "user_mean": "user mean"}
SIMPLE |= {"item_mean": "item mean", "user_item_bias": "user + item bias"}
FIXED = "user + item bias"  # the best of the simple ones as a rule; none is chosen by its error on the test rows
ALL_TEST_ROWS = ", all test rows"
SECTIONS = ("table", "paired", "by_rating", "by_history", "calibration", "settings")

Runs = Mapping[str, Sequence[pd.DataFrame]]
"""By model, for each seed a frame with `pred`, and p1 to p5 where the model gives them, in the order of the targets."""


def prediction_files(folder: Path, ours: str, also: Sequence[str] = ()) -> dict[str, Artifact]:
    """The files of predictions for a dataset's test rows, by the model's name as shown, `MODEL` or `MODEL@SEED`.

    They are our model's, called `ours`, where there is one; those in `predictions/`; and those of `also`, each
    `NAME=FILE` or `NAME@SEED=FILE`. InputError where a name comes twice.
    """
    found = [(ours, TEST_RATINGS)] if (folder / TEST_RATINGS.path).exists() else []
    names = sorted(path.stem for path in (folder / "predictions").glob("*.pkl"))
    found += [(_shown(name, ours), predictions_of(name)) for name in names]
    for given in also:
        name, is_there, file = given.partition("=")
        if not (name and is_there and file):
            raise InputError(f"--also {given}: expected NAME=FILE or NAME@SEED=FILE")
        # The path from the dataset's folder, because two files of one name must not be taken for one input.
        path = os.path.relpath(file, folder)
        found.append((_shown(name, ours), Artifact(path, predictions_of(name).columns, TEST_RATINGS.written_by)))
    files = dict(found)
    twice = [name for name in files if [shown for shown, _ in found].count(name) > 1]
    if twice:
        raise InputError(f"two files of predictions are called {twice[0]}: name one of them otherwise, as NAME@SEED")
    return files


def aligned(predictions: pd.DataFrame, test: pd.DataFrame, where: str) -> pd.DataFrame:
    """`pred`, and p1 to p5 if it has them, for every row of test, in its order; NaN where a row is missing.

    InputError names a row that is not in test or has another rating there, one that comes twice, a column of text,
    and probabilities that do not sum to 1.
    """
    columns = [PREDICTION, *(PROBABILITIES if set(PROBABILITIES) & set(predictions) else ())]
    check_frame(predictions, (*KEYS, "ratings", *columns), where)
    for column in columns:
        if not pd.api.types.is_numeric_dtype(predictions[column]):
            raise InputError(f"{where}: column {column} holds text, not numbers; leave an unusable one empty (NaN)")
    keys, given = (pd.MultiIndex.from_frame(frame[list(KEYS)]) for frame in (test, predictions))
    places = keys.get_indexer(given)
    for wrong, what in (
        (places < 0, "is not in the test split"),
        (predictions["ratings"].to_numpy() != test["ratings"].to_numpy()[places], "has another rating in test"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            user, item, time = given[row]
            raise InputError(f"{where}: row {row} (user {user}, item {item}, time {time}) {what}; predict it again")
    values = predictions[columns].to_numpy(dtype=float)
    sums, negative = values[:, 1:].sum(axis=1), (values[:, 1:] < 0).any(axis=1)
    if len(columns) > 1 and (wrong := negative | (np.abs(sums - 1) > 1e-3)).any():
        row = int(wrong.argmax())
        raise InputError(f"{where}: p1 to p5 of row {row} are not probabilities that sum to 1; predict it again")
    result = np.full((len(test), len(columns)), np.nan)
    result[places] = values
    return pd.DataFrame(result, columns=columns)


def model_of(name: str) -> str:
    """The model in a name like `MODEL` or `MODEL@SEED`."""
    return name.partition("@")[0]


def rows_in_all(test: pd.DataFrame, predictions: Sequence[pd.DataFrame]) -> np.ndarray:
    """The places of the test rows that every one of these frames has; without frames of all."""
    keys, *given = (pd.MultiIndex.from_frame(frame[list(KEYS)]) for frame in (test, *predictions))
    return np.flatnonzero(np.all([np.ones(len(test), dtype=bool), *map(keys.isin, given)], axis=0))


def made_with_limit(path: Path) -> bool:
    """Whether the record of a file says that it was made with `--limit`."""
    record = read_record(path)
    return bool(record and record["made_from"]["settings"].get("limit"))


def by_model(frames: Mapping[str, pd.DataFrame], simple: Mapping[str, np.ndarray], ours: str) -> Runs:
    """The runs of each model from frames by `MODEL` or `MODEL@SEED`: ours first, then the simple ones.

    `simple` has the predictions of those that no frame is of.
    """
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, frame in frames.items():
        runs.setdefault(model_of(name), []).append(frame)
    whole = {name: [pd.DataFrame({PREDICTION: values})] for name, values in simple.items()} | runs
    order = [ours, *SIMPLE.values(), *sorted(whole)]
    return {name: whole[name] for name in dict.fromkeys(order) if name in whole}


def evaluate(
    runs: Runs, targets: pd.DataFrame, histories: Sequence[History], against: str, seed: int
) -> dict[str, list[dict]]:
    """All that is known of the models' errors on the targets, which must have a row each in every run.

    `table` and `paired` are those of `compare`. `by_rating` and `by_history` hold MAE and RMSE by the true rating, and
    by the number of earlier training reviews of user and item together. `calibration` is that of `calibration`.
    """
    groups = _groups(histories)
    table, paired = compare(runs, targets, groups, seed, against)
    ratings = targets["ratings"].to_numpy(dtype=float)
    reviews = np.array([history.user_count + history.item_count for history in histories])
    lengths = np.array(list(HISTORY.values()))[np.digitize(reviews, list(HISTORY)) - 1]

    def errors_by(what: str, values: np.ndarray, order: Sequence) -> list[dict]:
        return [
            {"model": model, "rows": rows, what: value} | {key: found[key] for key in ("n", "mae", "rmse")}
            for rows, chosen in groups.items()
            for model, of_model in runs.items()
            for value in order
            if (found := _errors(of_model, ratings, chosen & (values == value)))["n"]
        ]

    return {
        "table": table,
        "paired": paired,
        "by_rating": errors_by("rating", ratings, np.unique(ratings).tolist()),
        "by_history": errors_by("history", lengths, list(HISTORY.values())),
        "calibration": [
            {"model": model, "rows": rows} | calibration(np.tile(ratings[chosen], len(of_model)), given)
            for rows, chosen in groups.items()
            for model, of_model in runs.items()
            if chosen.any() and all(PROBABILITIES[0] in run for run in of_model)
            for given in [np.concatenate([run.loc[chosen, list(PROBABILITIES)].to_numpy() for run in of_model])]
        ],
    }


def whole_table(runs: Runs, targets: pd.DataFrame, histories: Sequence[History], seed: int) -> list[dict]:
    """The rows of `compare`'s table on all test rows, each model's name with `ALL_TEST_ROWS` after it."""
    named = {f"{model}{ALL_TEST_ROWS}": of_model for model, of_model in runs.items()}
    return compare(named, targets, _groups(histories), seed)[0]


def compare(
    runs: Runs, targets: pd.DataFrame, groups: Mapping[str, np.ndarray], seed: int, against: str | None = None
) -> tuple[list[dict], list[dict]]:
    """The table of all models on each group of rows, and the paired tests of all others against one model.

    In the table an error is the mean over `seeds`, with the ends of its 95% interval, and `_std` its standard
    deviation over the seeds (ddof 1; None for one seed). `unusable` predictions, over all seeds, count with the largest
    error that their rows allow; `_usable` leaves them out. A `mae_difference` is the model's MAE less that of
    `against`: above 0 the model is worse. `p_corrected` is Holm's, over all pairs of one group of rows.
    """
    table, paired = [], []
    ratings = targets["ratings"].to_numpy(dtype=float)
    for rows, chosen in groups.items():
        users = targets.loc[chosen, "user_id"].factorize()[0]
        absolute = {
            model: np.stack([metrics.row_errors(ratings, run[PREDICTION].to_numpy())[chosen] for run in of_model])
            for model, of_model in runs.items()
        }
        names = list(runs)
        reference = names.index(against) if against else 0
        ends = intervals(list(absolute.values()), users, seed, reference)
        for k, (model, of_model) in enumerate(runs.items()):
            found = _errors(of_model, ratings, chosen)
            for name, (low, high) in zip(("mae", "rmse"), ends[:, :, k]):
                found |= {f"{name}_low": low, f"{name}_high": high}
            table.append({"model": model, "rows": rows} | {key: found[key] for key in TABLE})
        if against is None or not chosen.any():
            continue
        others = [model for model in names if model != against]
        shown = tqdm(others, desc=f"paired tests, {rows} rows", leave=False, disable=None)
        p = [paired_p(absolute[model], absolute[against], users, seed) for model in shown]
        for model, raw, corrected in zip(others, p, holm(p)):
            low, high = ends[2, :, names.index(model)]
            difference = float(absolute[model].mean() - absolute[against].mean())
            row = {"model": model, "against": against, "rows": rows, "n": int(chosen.sum())}
            row |= {"mae_difference": difference, "low": low, "high": high}
            paired.append(row | {"p": raw, "p_corrected": float(corrected)})
    return table, paired


TABLE = ("n", "unusable", "seeds", "mae", "mae_low", "mae_high", "mae_std")
TABLE += ("rmse", "rmse_low", "rmse_high", "rmse_std", "mae_usable", "rmse_usable")


def intervals(
    absolute: Sequence[np.ndarray], users: np.ndarray, seed: int, reference: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """(3, 2, models) ends of 95% intervals of MAE, RMSE and MAE less that of the model in place `reference`.

    `absolute` has for each model its (seeds, n) absolute errors, `users` the (n,) numbers of the rows' users from 0.
    Percentiles of a bootstrap that draws users with all their rows, the same for all models. None where there are
    fewer than two users.
    """
    from scipy.stats import bootstrap

    n_users = users.max(initial=-1) + 1
    if n_users < 2:
        return np.full((3, 2, len(absolute)), None)
    runs = np.concatenate(absolute)
    of_model = np.repeat(np.arange(len(absolute)), [len(of_seeds) for of_seeds in absolute])
    mean_over_seeds = (of_model == np.arange(len(absolute))[:, None]) / np.bincount(of_model)[:, None]
    columns = [*runs, *runs**2, np.ones(len(users))]
    sums = np.column_stack([np.bincount(users, column, n_users) for column in columns])

    def errors(drawn: np.ndarray, axis: int) -> np.ndarray:
        # How often each user was drawn is all that the sums need: much quicker than to gather the rows.
        drawn_sums = np.stack([np.bincount(row, minlength=n_users) for row in drawn]) @ sums
        absolute_mean, squared_mean = np.split((drawn_sums[:, :-1] / drawn_sums[:, -1:]).T, 2)
        mae, rmse = mean_over_seeds @ absolute_mean, mean_over_seeds @ np.sqrt(squared_mean)
        return np.stack([mae, rmse, mae - mae[reference]])

    found = bootstrap(
        (np.arange(n_users),),
        errors,
        confidence_level=LEVEL,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // n_users),
        vectorized=True,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return np.stack([found.low, found.high], axis=1).astype(object)


def paired_p(
    absolute: np.ndarray, of_other: np.ndarray, users: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> float:
    """The two-sided p of the mean difference of two models' (seeds, n) absolute errors on the same rows.

    A permutation test: were the two models interchangeable, a coin would decide the sign of each user's summed
    difference. It is about the very difference that the table shows, while Wilcoxon's test is about ranks; and unlike
    the t-test it needs no normal distribution. The least p is 2 / (resamples + 1).
    """
    from scipy.stats import monte_carlo_test

    # Rounded, because the last digits of sums in another order can all have the same sign.
    differences = np.bincount(users, absolute.mean(axis=0) - of_other.mean(axis=0)).round(9)
    rng = np.random.default_rng(seed)
    # scipy's permutation_test would do the same 30 times slower.
    found = monte_carlo_test(
        np.ones(len(differences)),
        lambda size: rng.integers(0, 2, size, dtype=np.int8) * 2.0 - 1.0,
        lambda signs, axis: signs @ differences,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, IN_MEMORY // len(differences)),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """(n,) p-values corrected for their number: that one of them is below a level by chance is below that level."""
    p = np.asarray(p, dtype=float)
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def calibration(ratings: np.ndarray, probabilities: np.ndarray) -> dict:
    """Whether (n, 5) probabilities of the ratings 1 to 5 are right as often as they say; n counts each seed's rows.

    `bins` of the most probable rating's probability say how often it was right (`right`, 0 to 1); `ece` is the mean
    distance of the two. `brier` (0 to 2) and `log_loss` are scikit-learn's, lower is better. `predicted` and `true` are
    the mean distributions over the ratings. Rows without probabilities (`unusable`) and with half stars are left out of
    all but the count of the unusable.
    """
    from sklearn.metrics import brier_score_loss, log_loss

    usable = np.isfinite(probabilities).all(axis=1)
    kept = usable & np.isin(ratings, metrics.RATING_VALUES)
    result = {"n": int(kept.sum()), "unusable": int((~usable).sum())}
    if not kept.any():
        return result | dict.fromkeys(("ece", "brier", "log_loss", "predicted", "true")) | {"bins": []}
    truth, p = ratings[kept], probabilities[kept]
    p = p / p.sum(axis=1, keepdims=True)
    top, right = p.max(axis=1), metrics.RATING_VALUES[p.argmax(axis=1)] == truth
    bins = (
        pd.DataFrame({"n": 1, "probability": top, "right": right})
        .groupby(np.digitize(top, BINS))
        .agg({"n": "sum", "probability": "mean", "right": "mean"})
    )
    return result | {
        "ece": float((bins["n"] * (bins["probability"] - bins["right"]).abs()).sum() / len(p)),
        "brier": float(brier_score_loss(truth, p, labels=metrics.RATING_VALUES)),
        "log_loss": float(log_loss(truth, p, labels=metrics.RATING_VALUES)),
        "predicted": p.mean(axis=0).tolist(),
        "true": [float((truth == rating).mean()) for rating in metrics.RATING_VALUES],
        "bins": [{"from": number / 10} | row for number, row in bins.to_dict("index").items()],
    }


def read(path: Path) -> dict:
    """The content of `results/metrics.json`; InputError if it is not what `3_Predictor/4_evaluate.py` writes now."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {METRICS.written_by} writes it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); run {METRICS.written_by} with --overwrite") from error
    if not isinstance(result, dict) or not set(SECTIONS) <= set(result):
        raise InputError(f"{path}: has not the sections {', '.join(SECTIONS)}; run {METRICS.written_by} --overwrite")
    rows = [row for name in SECTIONS[:-1] for row in (result[name] if isinstance(result[name], list) else [None])]
    if not isinstance(result["settings"], dict) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: a section of it is no table; run {METRICS.written_by} --overwrite")
    return result


def as_text(result: dict) -> str:
    """The table, the paired tests and the calibration for a terminal."""
    parts = [_aligned(_table_cells(result["table"]))]
    if result["paired"]:
        against = result["paired"][0]["against"]
        parts.append(
            f"MAE less that of {against} on the same rows: above 0 the model is worse than it.\n"
            "p: how often chance alone gives such a difference; corrected for the number of models (Holm).\n"
            + _aligned(_paired_cells(result["paired"]))
        )
    if result["calibration"]:
        parts.append(
            "The most probable rating: its mean probability, how often it is right, and how far the two are apart.\n"
            + _aligned(_calibration_cells(result["calibration"]))
        )
    return "\n\n".join(parts)


def as_markdown(table: Sequence[dict]) -> str:
    """Rows of the table, or of the paired tests, as Markdown."""
    header, *rows = (_paired_cells if "against" in table[0] else _table_cells)(table)
    return markdown.table(header, rows)


def _shown(name: str, ours: str) -> str:
    """A file's name as a table shows it; our model's short name stands for its full one."""
    model, at, seed = name.partition("@")
    model = SIMPLE.get(model, model.replace("_", " "))
    return f"{ours if model == ours.partition(' (')[0] else model}{at}{seed}"


def _groups(histories: Sequence[History]) -> dict[str, np.ndarray]:
    return {"all": np.ones(len(histories), dtype=bool), "warm": np.array([history.warm for history in histories])}


def _errors(of_model: Sequence[pd.DataFrame], ratings: np.ndarray, chosen: np.ndarray) -> dict:
    """The errors of a model on some rows, over its seeds."""
    found = [metrics.errors(ratings[chosen], run[PREDICTION].to_numpy()[chosen]) for run in of_model]
    result = {"n": found[0]["n"], "unusable": sum(run["unusable"] for run in found), "seeds": len(found)}
    for name in ("mae", "rmse", "mae_usable", "rmse_usable"):
        values = [run[name] for run in found]
        result[name] = None if None in values else float(np.mean(values))
        result[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 and None not in values else None
    return result


def _table_cells(table: Sequence[dict]) -> list[list[str]]:
    """Header and rows; columns on seeds and on unusable predictions only where there are any."""
    seeds, unusable = any(row["seeds"] > 1 for row in table), any(row["unusable"] for row in table)
    cells = [["model", "rows", "n", *(["seeds"] if seeds else []), "unusable"]]
    for name in ("MAE", "RMSE"):
        cells[0] += [name, *(["std"] if seeds else []), "95% interval", *([f"{name} usable"] if unusable else [])]
    for row in table:
        line = [row["model"], row["rows"], f"{row['n']:,}"]
        line += [str(row["seeds"])] if seeds else []
        line.append(f"{row['unusable']:,}")
        for name in ("mae", "rmse"):
            line.append(_number(row[name]))
            line += [_number(row[f"{name}_std"])] if seeds else []
            line.append(_interval(row[f"{name}_low"], row[f"{name}_high"]))
            line += [_number(row[f"{name}_usable"])] if unusable else []
        cells.append(line)
    return cells


def _paired_cells(paired: Sequence[dict]) -> list[list[str]]:
    cells = [["model", "rows", "n", "difference", "95% interval", "p", "p corrected"]]
    for row in paired:
        line = [row["model"], row["rows"], f"{row['n']:,}", f"{row['mae_difference']:+.4f}"]
        cells.append([*line, _interval(row["low"], row["high"], "+"), _number(row["p"]), _number(row["p_corrected"])])
    return cells


def _calibration_cells(rows: Sequence[dict]) -> list[list[str]]:
    cells = [["model", "rows", "n", "probability", "right", "apart (ECE)", "Brier", "log loss"]]
    for row in rows:
        means = [
            sum(b["n"] * b[name] for b in row["bins"]) / row["n"] if row["n"] else None
            for name in ("probability", "right")
        ]
        numbers = [*means, row["ece"], row["brier"], row["log_loss"]]
        cells.append([row["model"], row["rows"], f"{row['n']:,}", *map(_number, numbers)])
    return cells


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "-" if low is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(padded))
    return "\n".join(lines)
