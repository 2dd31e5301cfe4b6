"""Errors of predicted ratings, and the simple predictors that every table shows beside ours.

An unusable prediction (NaN) stays in n and counts with the largest error that its row allows, so that giving no
answer never improves a result. Our decision: elsewhere in the field it counts as no error at all.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

RATING_VALUES = np.arange(1.0, 6.0)
BIAS_DAMPING = 5.0  # our decision: ratings' worth of doubt about a bias


def expected_rating(probabilities: np.ndarray) -> np.ndarray:
    """(n,) expectations of (n, 5) probabilities of the ratings 1 to 5. Source: paper, feedback prediction."""
    return probabilities @ RATING_VALUES


def errors(ratings: Sequence[float], predictions: Sequence[float]) -> dict[str, float | int | None]:
    """`n`, `unusable`, `mae` and `rmse` of predictions; without rows the errors are None."""
    # It takes a second to import, which every step would pay that imports this module and evaluates nothing.
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    ratings, predictions = np.asarray(ratings, dtype=float), np.asarray(predictions, dtype=float)
    unusable = ~np.isfinite(predictions)
    farthest = np.where(ratings >= 3, 1.0, 5.0)
    used = np.where(unusable, farthest, predictions)
    if not len(ratings):
        return {"n": 0, "unusable": 0, "mae": None, "rmse": None}
    return {
        "n": len(ratings),
        "unusable": int(unusable.sum()),
        "mae": float(mean_absolute_error(ratings, used)),
        "rmse": float(root_mean_squared_error(ratings, used)),
    }


def baselines(train: pd.DataFrame, targets: pd.DataFrame) -> dict[str, np.ndarray]:
    """Predictions of the global, user and item mean and of user and item bias for the targets, learned on train.

    A cold user or item gets the global mean. The biases are damped means of what is left over, the item's first.
    """
    overall = float(train["ratings"].mean())
    item_bias = _damped(train["ratings"] - overall, train["item_id"])
    rest = train["ratings"] - overall - train["item_id"].map(item_bias)
    user_bias = _damped(rest, train["user_id"])
    users, items = targets["user_id"], targets["item_id"]
    return {
        "global mean": np.full(len(targets), overall),
        "user mean": users.map(train.groupby("user_id")["ratings"].mean()).fillna(overall).to_numpy(dtype=float),
        "item mean": items.map(train.groupby("item_id")["ratings"].mean()).fillna(overall).to_numpy(dtype=float),
        "user + item bias": np.clip(
            overall
            + items.map(item_bias).fillna(0.0).to_numpy(dtype=float)
            + users.map(user_bias).fillna(0.0).to_numpy(dtype=float),
            1.0,
            5.0,
        ),
    }


def table(
    predictions: dict[str, np.ndarray], ratings: np.ndarray, warm: np.ndarray
) -> list[dict[str, str | float | int]]:
    """One row per model on all and on warm rows: `model`, `rows`, `n`, `unusable`, `mae`, `rmse`."""
    everything = np.ones(len(ratings), dtype=bool)
    return [
        {"model": model, "rows": rows, **errors(ratings[chosen], predicted[chosen])}
        for rows, chosen in (("all", everything), ("warm", warm))
        for model, predicted in predictions.items()
    ]


def as_text(rows: list[dict]) -> str:
    """The table for a terminal."""
    width = max(len(row["model"]) for row in rows)
    lines = [f"{'model':<{width}}  rows      n  unusable     MAE    RMSE"]
    for row in rows:
        mae, rmse = ("     -" if row[name] is None else f"{row[name]:.4f}" for name in ("mae", "rmse"))
        lines.append(f"{row['model']:<{width}}  {row['rows']:<4} {row['n']:>6,}  {row['unusable']:>8,}  {mae}  {rmse}")
    return "\n".join(lines)


def _damped(values: pd.Series, by: pd.Series) -> pd.Series:
    groups = values.groupby(by)
    return groups.sum() / (groups.count() + BIAS_DAMPING)
