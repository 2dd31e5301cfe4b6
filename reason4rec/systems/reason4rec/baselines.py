"""Other ways to predict the rating of a test row, on the same split and rows as ours.

A baseline learns from the training rows alone. Where it has a grid, it learns with every setting of the grid, and the
setting with the lowest MAE on all validation rows is kept as it is: it is not learned again with the validation rows,
because our histories of the test rows come from train only too. The MAE, because it is the error that the field names
first; where most ratings are 5 it favours settings that foresee many a 5, which costs RMSE. Of a model of
probabilities the setting with the lowest log loss is kept: by the MAE of its expectation, trees on Musical Instruments
were the most overfitted of the grid. A baseline is shown the user, the item and the time of a test row, and never its
rating or review. Predictions are clipped to 1 to 5. All of this is our decision.

A cold user or item counts as follows: in a mean as the global mean, in user + item bias as no bias, in gradient
boosting as a missing value, and in the models with factors as the mean of the known users or items.

Of the review-based models that the field compares with, NARRE is cornac's. Its training shows the network the very
review whose rating it must foresee, which it lacks for a test row; cornac cannot leave that out. Its word vectors are
learned from the training reviews alone, because pre-trained ones would have to be fetched. DeepCoNN could not be had:
cornac 3.0.1, RecBole 1.2.1 and recommenders 1.2.1 have none. Cornac's HFT took 10 seconds an iteration for 5,527
reviews, of which it wants 50, and its ConvMF needs tensorflow 1.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.catalog import nearest_star
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS, VALID
from reason4rec.evaluation import metrics
from reason4rec.run.progress import counted

if TYPE_CHECKING:
    from cornac.data import Dataset


Predict = Callable[[pd.DataFrame], np.ndarray]
"""Ratings, not yet clipped, or (rows, 5) probabilities of 1 to 5, for a frame with the columns of KEYS."""
Grid = Mapping[str, tuple]
Learned = Iterator[tuple[dict, Predict]]
"""The settings of a grid, each with what was learned with it."""


def _given(name: str) -> Callable[[pd.DataFrame, int, Grid], Learned]:
    def learn(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
        yield {}, lambda targets: metrics.baselines(train, targets)[name]

    return learn


def _prompt_averages(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    index, overall = HistoryIndex(train, None), float(train["ratings"].mean())

    def predict(targets: pd.DataFrame) -> np.ndarray:
        found = [(history.user_average, history.item_average) for history in index.of_rows(targets)]
        printed = pd.DataFrame(found, columns=["user", "item"], dtype=float).map(lambda value: float(f"{value:.1f}"))
        return printed.mean(axis=1).fillna(overall).to_numpy()

    yield {}, predict


def _user_item_bias(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    from sklearn.model_selection import ParameterGrid

    for settings in ParameterGrid(grid):
        yield settings, metrics.user_item_bias(train, **settings)


def _boosted(kind: type, labels: np.ndarray, train: pd.DataFrame, seed: int, grid: Grid) -> Iterator[tuple]:
    """The settings of a grid, each with a model of trees that was fit with it, and how a row is described to it."""
    from sklearn.model_selection import ParameterGrid

    index = HistoryIndex(train, None)

    def features(targets: pd.DataFrame) -> np.ndarray:
        found = index.of_rows(targets)
        rows = [(one.user_average, one.item_average, one.user_count, one.item_count) for one in found]
        return np.array(rows, dtype=float).reshape(-1, 4)

    # A training row is described by the reviews before it, as a test row is.
    of_train = features(train)
    known = ~np.isnan(of_train).all(axis=0)  # scikit-learn cannot take an average that no training row has
    for settings in ParameterGrid(grid):
        model = kind(early_stopping=False, random_state=seed, **settings).fit(of_train[:, known], labels)
        yield settings, model, lambda targets: features(targets)[:, known]


def _gradient_boosting(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    from sklearn.ensemble import HistGradientBoostingRegressor

    def predictor(model: HistGradientBoostingRegressor, described: Callable) -> Predict:
        return lambda targets: model.predict(described(targets))

    ratings = train["ratings"].to_numpy(dtype=float)
    for settings, *learned in _boosted(HistGradientBoostingRegressor, ratings, train, seed, grid):
        yield settings, predictor(*learned)


def _gradient_boosting_classes(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    from sklearn.ensemble import HistGradientBoostingClassifier

    def predictor(model: HistGradientBoostingClassifier, described: Callable) -> Predict:
        def predict(targets: pd.DataFrame) -> np.ndarray:
            probabilities = np.zeros((len(targets), len(metrics.RATING_VALUES)))
            # Of a single class scikit-learn gives a second column.
            probabilities[:, model.classes_ - 1] = model.predict_proba(described(targets))[:, : len(model.classes_)]
            return probabilities / probabilities.sum(axis=1, keepdims=True)

        return predict

    classes = nearest_star(train["ratings"].to_numpy(dtype=float))
    for settings, *learned in _boosted(HistGradientBoostingClassifier, classes, train, seed, grid):
        yield settings, predictor(*learned)


def _cornac_dataset(train: pd.DataFrame, seed: int) -> "Dataset":
    from cornac.data import Dataset

    # Cornac knows one rating per user and item.
    latest = train.sort_values("unixReviewTime", kind="stable").drop_duplicates(["user_id", "item_id"], keep="last")
    shuffled = latest.sample(frac=1, random_state=seed)
    return Dataset.build(list(zip(shuffled["user_id"], shuffled["item_id"], shuffled["ratings"])), seed=seed)


def _factors(data: "Dataset", overall: float, biases: tuple, factors: tuple, weights: float | np.ndarray) -> Predict:
    """Predicts the overall mean + both biases + the weighted product of the factors, of users and of items."""
    # The last row of each, which -1 finds, is that of an unknown user or item.
    user_bias, item_bias, user, item = (
        np.concatenate([known, known.mean(axis=0, keepdims=True)])
        for known in (np.asarray(part, dtype=float) for part in (*biases, *factors))
    )

    def predict(targets: pd.DataFrame) -> np.ndarray:
        users, items = (
            np.array([known.get(one, -1) for one in targets[column]], dtype=int)
            for column, known in (("user_id", data.uid_map), ("item_id", data.iid_map))
        )
        product = (user[users] * item[items] * weights).sum(axis=1)
        return overall + user_bias[users] + item_bias[items] + product

    return predict


def _matrix_factorization(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    from cornac.models import MF
    from sklearn.model_selection import ParameterGrid

    data = _cornac_dataset(train, seed)
    for settings in ParameterGrid(grid):
        model = MF(use_bias=True, seed=seed, **settings).fit(data)
        biases, factors = (model.u_biases, model.i_biases), (model.u_factors, model.i_factors)
        yield settings, _factors(data, float(model.global_mean), biases, factors, 1.0)


def _narre(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    import tensorflow as tf
    from cornac.data import ReviewModality
    from cornac.data.text import BaseTokenizer
    from cornac.models import NARRE
    from sklearn.model_selection import ParameterGrid

    tf.config.experimental.enable_op_determinism()
    # Newest first, because the first ones are read.
    newest = train.sort_values("unixReviewTime", ascending=False, kind="stable")
    words = BaseTokenizer(stop_words="english")  # and the vocabulary below: as in cornac's example
    said = list(zip(newest["user_id"], newest["item_id"], newest["reviews"]))
    for settings in ParameterGrid({name: values for name, values in grid.items() if name != "epochs"}):
        data = _cornac_dataset(train, seed)
        reviews = ReviewModality(data=said, tokenizer=words, max_vocab=4000, max_doc_freq=0.5)
        reviews.build(uid_map=data.uid_map, iid_map=data.iid_map, dok_matrix=data.dok_matrix)
        data.add_modalities(review_text=reviews)
        model = NARRE(max_iter=1, seed=seed, verbose=False, **settings)
        for epoch in range(1, max(grid["epochs"]) + 1):
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                model.fit(data)  # goes on from the epoch before, although it warns that it starts anew
            factors = model.user_embedding + model.X, model.item_embedding + model.Y
            if epoch in grid["epochs"]:
                biases = model.bu.ravel(), model.bi.ravel()
                yield settings | {"epochs": epoch}, _factors(data, float(model.mu), biases, factors, model.W1.ravel())


@dataclass(frozen=True)
class Baseline:
    """A baseline that learns from train: how, with which settings to choose from, and by which libraries.

    `seeded` is one whose predictions depend on a seed, so that it is run with several.
    """

    learn: Callable[[pd.DataFrame, int, Grid], Learned]
    grid: Grid = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    seeded: bool = False


_DAMPINGS = (0, 1, 3, 5, 10, 25)
_TREES = {"learning_rate": (0.03, 0.1), "max_iter": (50, 200), "max_leaf_nodes": (4, 15), "min_samples_leaf": (20, 100)}

# The grids are our decision, and so is the median: most ratings are 5, where no mean has a lower MAE.
LEARNED = {
    "global_mean": Baseline(_given("global mean")),
    "global_median": Baseline(_given("global median")),
    "user_mean": Baseline(_given("user mean")),
    "item_mean": Baseline(_given("item mean")),
    "prompt_averages": Baseline(_prompt_averages),
    "user_item_bias": Baseline(_user_item_bias, {"item_damping": _DAMPINGS, "user_damping": _DAMPINGS}),
    "matrix_factorization": Baseline(
        _matrix_factorization,
        {"k": (2, 8, 32), "learning_rate": (0.01,), "lambda_reg": (0.005, 0.02, 0.1, 0.3), "max_iter": (20, 100, 500)},
        libraries=("cornac",),
        seeded=True,
    ),
    "gradient_boosting": Baseline(
        _gradient_boosting, {"loss": ("squared_error", "absolute_error")} | _TREES, libraries=("sklearn",)
    ),
    # The lowest MAE belongs to a median, which has a high RMSE; this one predicts means, as the experts do.
    "gradient_boosting_squared": Baseline(
        _gradient_boosting, {"loss": ("squared_error",)} | _TREES, libraries=("sklearn",)
    ),
    # Probabilities of the five ratings from the same features: what both decision rules make of a model without texts.
    "gradient_boosting_classes": Baseline(_gradient_boosting_classes, _TREES, libraries=("sklearn",)),
    "narre": Baseline(
        _narre,
        {
            # Cornac's defaults, and half of its filters and word vectors, because it must run on a CPU.
            "n_factors": (32,),
            "id_embedding_size": (32,),
            "attention_size": (16,),
            "n_filters": (32,),
            "embedding_size": (50,),
            "dropout_rate": (0.2, 0.5),
            "max_text_length": (50,),
            "max_num_review": (10,),  # as many as our prompts show
            "batch_size": (128,),
            "learning_rate": (0.003,),
            "epochs": tuple(range(1, 7)),
        },
        libraries=("cornac", "tensorflow"),
        seeded=True,
    ),
}


TUNED = tuple(name for name, baseline in LEARNED.items() if baseline.grid)
"""The baselines whose settings are chosen on valid."""


def without_valid(path: Path) -> str:
    """What is said of the baselines that are left out where there are no validation rows."""
    return f"{', '.join(TUNED)}, which are tuned on {path} (or {Path(VALID.other_paths[0]).name}); it is not there"


def choose(
    name: str, train: pd.DataFrame, valid: pd.DataFrame | None, targets: pd.DataFrame, seed: int
) -> tuple[np.ndarray, dict, float | None]:
    """(targets,) predictions of 1 to 5, the settings of the grid with the lowest MAE on valid, and that MAE in stars.

    A model of probabilities gives (targets, 5) of them instead: its setting is the one with the lowest log loss on
    valid, because both decision rules will read them, and the MAE is that of their expectation. Of equal settings the
    first is taken. Without a grid no validation rows are needed (None). Only the columns of KEYS of
    `targets` are looked at.
    """
    baseline = LEARNED[name]
    learned = baseline.learn(train, seed, baseline.grid)
    best, lowest, error = next(learned) if not baseline.grid else None, None, None
    if best is None:
        total = int(np.prod([len(values) for values in baseline.grid.values()]))
        for settings, predict in counted(learned, name, "setting", total):
            loss, mae = _losses(_clipped(predict, valid), valid["ratings"].to_numpy(dtype=float))
            if lowest is None or loss < lowest:
                best, lowest, error = (settings, predict), loss, mae
    settings, predict = best
    return _clipped(predict, targets), settings, error


def as_ratings(found: np.ndarray) -> np.ndarray:
    """(targets,) ratings of 1 to 5 as `choose` gives them, of probabilities their expectations."""
    return found if found.ndim == 1 else metrics.expected_rating(found)


def _losses(found: np.ndarray, ratings: np.ndarray) -> tuple[float, float]:
    """What a setting is chosen by, and the MAE."""
    mae = float(np.abs(as_ratings(found) - ratings).mean())
    if found.ndim == 1:
        return mae, mae
    of_truth = found[np.arange(len(found)), nearest_star(ratings) - 1]
    return float(-np.log(of_truth.clip(np.finfo(float).eps)).mean()), mae


def _clipped(predict: Predict, targets: pd.DataFrame) -> np.ndarray:
    found = predict(targets[list(KEYS)])
    return np.clip(found, 1.0, 5.0) if found.ndim == 1 else found
