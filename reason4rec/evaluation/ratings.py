"""How well models predict the ratings of the same test rows, and how sure that is.

A model that gives probabilities of the ratings has two rows, from the same probabilities: their expectation under its
own name, and their median under `NAME (median)`. The one has the lowest squared error that they allow, the other the
lowest absolute error; a table of either error alone would show which rule was taken as if it were a better model.

A model's predictions come from one file, or from one file a seed. With several seeds an error is the mean over the
seeds of each seed's own error, never the error of their mean prediction, which would be another model.

Rows of one user are not independent: on two cuts of real Amazon reviews the standard error of a mean's MAE is 1.1 to
1.4 times, and that of a difference of two MAEs up to 1.5 times, what it would be if they were. So intervals draw users
with all their rows, and the paired test swaps two models on all rows of a user at once. Rows of one item are alike
too, mostly less; neither sees that, nor does an interval hold the spread over seeds, which stands beside it. All of
this is our decision: the paper's tests are not known.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.catalog import STARS, as_rated
from reason4rec.data.history import History
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, check_frame
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, statistics
from reason4rec.evaluation.tables import ALL_ROWS, MEDIAN
from reason4rec.run.records import settings_of

BINS = np.linspace(0.1, 0.9, 9)  # of the probability of the most probable rating
HISTORY = {0: "0", 1: "1-4", 5: "5-9", 10: "10-19", 20: "20-49", 50: "50+"}  # fewest earlier reviews, name
SIMPLE = {"global_mean": "global mean", "global_median": "global median", "user_mean": "user mean"}
SIMPLE |= {"item_mean": "item mean", "user_item_bias": "user + item bias"}
FIXED = ("user + item bias", metrics.DAMPED_BIAS)  # the best simple ones as a rule; none is chosen by its test error
TABLE = ("model", "rows", "n", "unusable", "seeds", "mae", "mae_low", "mae_high", "mae_std")
TABLE += ("rmse", "rmse_low", "rmse_high", "rmse_std", "mae_usable", "rmse_usable")
SECTIONS = ("table", "paired", "by_rating", "by_history", "calibration", "settings")

Runs = Mapping[str, Sequence[pd.DataFrame]]
"""By model, for each seed a frame with `pred`, and p1 to p5 where the model gives them, in the order of the targets."""


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
    keys, predicted = (pd.MultiIndex.from_frame(frame[list(KEYS)]) for frame in (test, predictions))
    positions = keys.get_indexer(predicted)
    for wrong, what in (
        (positions < 0, "is not in the split that is judged"),
        (predictions["ratings"].to_numpy() != test["ratings"].to_numpy()[positions], "has another rating there"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            user, item, time = predicted[row]
            raise InputError(f"{where}: row {row} (user {user}, item {item}, time {time}) {what}; predict it again")
    values = predictions[columns].to_numpy(dtype=float)
    sums, negative = values[:, 1:].sum(axis=1), (values[:, 1:] < 0).any(axis=1)
    if len(columns) > 1 and (wrong := negative | (np.abs(sums - 1) > 1e-3)).any():
        row = int(wrong.argmax())
        raise InputError(f"{where}: p1 to p5 of row {row} are not probabilities that sum to 1; predict it again")
    result = np.full((len(test), len(columns)), np.nan)
    result[positions] = values
    return pd.DataFrame(result, columns=columns)


def model_of(name: str) -> str:
    """The model in a name like `MODEL` or `MODEL@SEED`."""
    return name.partition("@")[0]


def rows_in_all(test: pd.DataFrame, predictions: Sequence[pd.DataFrame]) -> np.ndarray:
    """The positions of the test rows that every one of these frames has; of all rows where there are no frames."""
    keys, *of_frames = (pd.MultiIndex.from_frame(frame[list(KEYS)]) for frame in (test, *predictions))
    return np.flatnonzero(np.all([np.ones(len(test), dtype=bool), *map(keys.isin, of_frames)], axis=0))


def made_with_limit(path: Path) -> bool:
    """Whether the record of a file says that it was made with `--limit`."""
    return bool(settings_of(path).get("limit"))


def by_model(frames: Mapping[str, pd.DataFrame], simple: Mapping[str, np.ndarray], ours: str) -> Runs:
    """The runs of each model from frames by `MODEL` or `MODEL@SEED`: ours first, then the simple ones.

    `simple` has the predictions of those that no frame is of; its biases stand in for those tuned on valid. Behind a
    model that gives probabilities stand its medians.
    """
    runs: dict[str, list[pd.DataFrame]] = {}
    for name, frame in frames.items():
        runs.setdefault(model_of(name), []).append(frame)
    whole = {name: [pd.DataFrame({PREDICTION: values})] for name, values in simple.items()} | runs
    tuned, damped = FIXED
    if tuned in whole:
        whole.pop(damped, None)
    order = [ours, *SIMPLE.values(), damped, *sorted(whole)]
    other_rule = medians(whole)
    names = [shown for name in order for shown in (name, f"{name}{MEDIAN}")]
    return {name: (whole | other_rule)[name] for name in dict.fromkeys(names) if name in whole or name in other_rule}


def medians(runs: Runs) -> Runs:
    """The runs of the models that give probabilities under the other rule, each by its name with `MEDIAN` after it."""
    return {
        f"{model}{MEDIAN}": [
            pd.DataFrame({PREDICTION: metrics.median_rating(run[list(PROBABILITIES)].to_numpy())}) for run in of_model
        ]
        for model, of_model in runs.items()
        if _gives_probabilities(of_model)
    }


def evaluate(
    runs: Runs, targets: pd.DataFrame, histories: Sequence[History], against: str, seed: int
) -> dict[str, list[dict]]:
    """All that is known of the models' errors on the targets, which must have a row each in every run.

    `table` and `paired` are those of `compare`. `by_rating` and `by_history` hold MAE and RMSE by the true rating, and
    by the number of earlier training reviews of user and item together; the latter with the ends of the MAE's 95%
    interval. `calibration` is that of `calibration`.
    """
    groups = groups_of(histories)
    table, paired = compare(runs, targets, groups, seed, against)
    ratings = targets["ratings"].to_numpy(dtype=float)
    reviews = np.array([history.user_count + history.item_count for history in histories])
    lengths = np.array(list(HISTORY.values()))[np.digitize(reviews, list(HISTORY)) - 1]

    def errors_by(what: str, values: np.ndarray, order: Sequence) -> list[dict]:
        return [
            {"model": model, "rows": rows, what: value} | {key: errors[key] for key in ("n", "mae", "rmse")}
            for rows, chosen in groups.items()
            for model, of_model in runs.items()
            for value in order
            if (errors := _errors(of_model, ratings, chosen & (values == value)))["n"]
        ]

    by_history = errors_by("history", lengths, list(HISTORY.values()))
    ends = {
        (rows, length, model): interval
        for rows, length in dict.fromkeys((row["rows"], row["history"]) for row in by_history)
        for model, interval in _mae_intervals(runs, targets, groups[rows] & (lengths == length), seed).items()
    }
    return {
        "table": table,
        "paired": paired,
        "by_rating": errors_by("rating", ratings, np.unique(ratings).tolist()),
        "by_history": [row | ends[row["rows"], row["history"], row["model"]] for row in by_history],
        "calibration": [
            {"model": model, "rows": rows} | calibration(np.tile(ratings[chosen], len(of_model)), probabilities)
            for rows, chosen in groups.items()
            for model, of_model in runs.items()
            if chosen.any() and _gives_probabilities(of_model)
            for probabilities in [np.concatenate([run.loc[chosen, list(PROBABILITIES)].to_numpy() for run in of_model])]
        ],
    }


def whole_table(runs: Runs, targets: pd.DataFrame, histories: Sequence[History], seed: int) -> list[dict]:
    """The rows of `compare`'s table on all rows, each model's name with `ALL_ROWS` after it."""
    named = {f"{model}{ALL_ROWS}": of_model for model, of_model in runs.items()}
    return compare(named, targets, groups_of(histories), seed)[0]


def groups_of(histories: Sequence[History]) -> dict[str, np.ndarray]:
    """The groups of rows of every table, by name whether each row is in it."""
    return {"all": np.ones(len(histories), dtype=bool), "warm": np.array([history.warm for history in histories])}


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
        absolute = _absolute(runs, ratings, chosen)
        squared = {model: errors**2 for model, errors in absolute.items()}
        maes = statistics.compare(absolute, users, against, seed=seed, what=f"paired tests, {rows} rows")
        rmses = statistics.compare(squared, users, aggregate=np.sqrt, seed=seed)
        for mae, rmse in zip(maes, rmses):
            row = {"model": mae["model"], "rows": rows} | _errors(runs[mae["model"]], ratings, chosen)
            row |= {"mae_low": mae["low"], "mae_high": mae["high"], "rmse_low": rmse["low"], "rmse_high": rmse["high"]}
            table.append({key: row[key] for key in TABLE})
        paired += [
            {"model": mae["model"], "against": mae["against"], "rows": rows, "n": mae["n"]}
            | {"mae_difference": mae["difference"], "low": mae["difference_low"], "high": mae["difference_high"]}
            | {"p": mae["p"], "p_corrected": mae["p_corrected"]}
            for mae in maes
            if "p" in mae
        ]
    return table, paired


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


def in_unit(result: Mapping[str, object], scale: tuple[float, float]) -> dict:
    """The result with errors, and the ratings that they are by, in the unit of the raw reviews.

    `scale` is the lowest and the highest rating of those, which the splits have mapped to 1 to 5.
    """
    if scale == STARS:
        return dict(result)
    unit = (scale[1] - scale[0]) / 4

    def converted(row: dict) -> dict:
        scaled = {
            key: value * unit
            for key, value in row.items()
            if key.startswith(("mae", "rmse", "low", "high")) and value is not None
        }
        rated = {"rating": round(as_rated(row["rating"], scale), 6)} if "rating" in row else {}
        return row | scaled | rated

    judged = [name for name in ("table", "paired", "by_rating", "by_history") if name in result]
    return dict(result) | {name: [converted(row) for row in result[name]] for name in judged}


def unit_of(scale: tuple[float, float]) -> dict[str, str]:
    """The `unit` of errors as results state it; nothing where it is stars."""
    return {} if scale == STARS else {"unit": "ratings of {:g} to {:g}".format(*scale)}


def read(path: Path) -> dict:
    """The content of `results/metrics.json`; InputError if it is not what the evaluation writes now."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the evaluation writes it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); run the evaluation with --overwrite") from error
    if not isinstance(result, dict) or not set(SECTIONS) <= set(result):
        raise InputError(f"{path}: has not the sections {', '.join(SECTIONS)}; run the evaluation with --overwrite")
    rows = [row for name in SECTIONS[:-1] for row in (result[name] if isinstance(result[name], list) else [None])]
    if not isinstance(result["settings"], dict) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: a section of it is no table; run the evaluation with --overwrite")
    return result


def _gives_probabilities(of_model: Sequence[pd.DataFrame]) -> bool:
    return all(PROBABILITIES[0] in run for run in of_model)


def _absolute(runs: Runs, ratings: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """(seeds, n) absolute errors of each model on some rows."""
    return {
        model: np.stack([metrics.row_errors(ratings, run[PREDICTION].to_numpy())[chosen] for run in of_model])
        for model, of_model in runs.items()
    }


def _mae_intervals(runs: Runs, targets: pd.DataFrame, chosen: np.ndarray, seed: int) -> dict[str, dict]:
    """`mae_low` and `mae_high` of each model on some rows."""
    users = targets.loc[chosen, "user_id"].factorize()[0]
    found = statistics.compare(_absolute(runs, targets["ratings"].to_numpy(dtype=float), chosen), users, seed=seed)
    return {row["model"]: {"mae_low": row["low"], "mae_high": row["high"]} for row in found}


def _errors(of_model: Sequence[pd.DataFrame], ratings: np.ndarray, chosen: np.ndarray) -> dict:
    """The errors of a model on some rows, over its seeds."""
    of_seeds = [metrics.errors(ratings[chosen], run[PREDICTION].to_numpy()[chosen]) for run in of_model]
    result = {"n": of_seeds[0]["n"], "unusable": sum(run["unusable"] for run in of_seeds), "seeds": len(of_seeds)}
    for name in ("mae", "rmse", "mae_usable", "rmse_usable"):
        values = [run[name] for run in of_seeds]
        result[name] = None if None in values else float(np.mean(values))
        result[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 and None not in values else None
    return result
