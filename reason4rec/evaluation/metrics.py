"""Errors of predicted ratings, and the simple predictors that every table shows beside ours.

An unusable prediction (NaN) stays in n and counts with the largest error that its row allows, so that giving no
answer never improves a result. Our decision: elsewhere in the field it counts as no error at all.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

RATING_VALUES = np.arange(1.0, 6.0)
BIAS_DAMPING = 5.0  # our decision: ratings' worth of doubt about a bias
DAMPED_BIAS = f"user + item bias (damping {BIAS_DAMPING:.0f})"  # not the one whose damping is tuned on valid


def expected_rating(probabilities: np.ndarray) -> np.ndarray:
    """(n,) expectations of (n, 5) probabilities of the ratings 1 to 5. Source: paper, feedback prediction."""
    return probabilities @ RATING_VALUES


def median_rating(probabilities: np.ndarray) -> np.ndarray:
    """(n,) medians of (n, 5) probabilities of the ratings 1 to 5: the least whose cumulative probability reaches 0.5.

    NaN where a probability is. No other rating has a lower expected absolute error, as none has a lower expected
    squared error than the expectation. Our decision.
    """
    cumulated = probabilities.cumsum(axis=1)
    least = RATING_VALUES[(cumulated >= 0.5 * cumulated[:, -1:]).argmax(axis=1)]
    return np.where(np.isfinite(cumulated[:, -1]), least, np.nan)


def row_errors(ratings: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """(n,) absolute errors in stars; an unusable prediction has the largest that its rating allows, 2 to 4."""
    return np.abs(ratings - _filled(ratings, predictions))


def errors(ratings: Sequence[float], predictions: Sequence[float]) -> dict[str, float | int | None]:
    """`n`, `unusable`, and in stars `mae`, `rmse` and, without the unusable, `mae_usable` and `rmse_usable`.

    An error is None where it would be a mean of no rows.
    """
    ratings, predictions = np.asarray(ratings, dtype=float), np.asarray(predictions, dtype=float)
    usable = np.isfinite(predictions)
    mae, rmse = _mae_and_rmse(ratings, _filled(ratings, predictions))
    mae_usable, rmse_usable = _mae_and_rmse(ratings[usable], predictions[usable])
    return {
        "n": len(ratings),
        "unusable": int((~usable).sum()),
        "mae": mae,
        "rmse": rmse,
        "mae_usable": mae_usable,
        "rmse_usable": rmse_usable,
    }


def user_item_bias(
    train: pd.DataFrame, item_damping: float = BIAS_DAMPING, user_damping: float = BIAS_DAMPING
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Predicts ratings, which may leave the scale, as the mean plus the biases of item and user; 0 for a cold one.

    A bias is the damped mean of what is left over, the item's first; a damping is in ratings.
    """
    overall = float(train["ratings"].mean())
    item = _damped(train["ratings"] - overall, train["item_id"], item_damping)
    rest = train["ratings"] - overall - train["item_id"].map(item)
    user = _damped(rest, train["user_id"], user_damping)
    return lambda targets: (
        overall + targets["item_id"].map(item).fillna(0.0) + targets["user_id"].map(user).fillna(0.0)
    ).to_numpy(dtype=float)


def baselines(train: pd.DataFrame, targets: pd.DataFrame) -> dict[str, np.ndarray]:
    """Predictions of the global, user and item mean, the global median, and user and item bias, learned on train.

    A cold user or item gets the global mean. The biases are those of `user_item_bias`, clipped to the scale.
    """
    overall = float(train["ratings"].mean())
    users, items = targets["user_id"], targets["item_id"]
    return {
        "global mean": np.full(len(targets), overall),
        "global median": np.full(len(targets), float(train["ratings"].median())),
        "user mean": users.map(train.groupby("user_id")["ratings"].mean()).fillna(overall).to_numpy(dtype=float),
        "item mean": items.map(train.groupby("item_id")["ratings"].mean()).fillna(overall).to_numpy(dtype=float),
        DAMPED_BIAS: np.clip(user_item_bias(train)(targets), 1.0, 5.0),
    }


def _filled(ratings: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(predictions), predictions, np.where(ratings >= 3, 1.0, 5.0))


def _mae_and_rmse(ratings: np.ndarray, predictions: np.ndarray) -> tuple[float | None, float | None]:
    # It takes a second to import, which every step would pay that imports this module and evaluates nothing.
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    if not len(ratings):
        return None, None
    return float(mean_absolute_error(ratings, predictions)), float(root_mean_squared_error(ratings, predictions))


def _damped(values: pd.Series, by: pd.Series, damping: float) -> pd.Series:
    groups = values.groupby(by)
    return groups.sum() / (groups.count() + damping)
