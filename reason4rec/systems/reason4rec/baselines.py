"""Other ways to predict the rating of a test row, on the same split and rows as ours.

A baseline learns from the training rows alone. Where it has a grid, it learns with every setting of the grid, and the
setting with the lowest MAE on all validation rows is kept as it is: it is not learned again with the validation rows,
because our histories of the test rows come from train only too. The MAE, because it is the error that the field names
first; where most ratings are 5 it favours settings that foresee many a 5, which costs RMSE. A baseline is shown the
user, the item and the time of a test row, and never its rating or review. Predictions are clipped to 1 to 5. All of
this is our decision.

A cold user or item counts as follows: in a mean as the global mean, in user + item bias as no bias, in gradient
boosting as a missing value, and in the models with factors as the mean of the known users or items.

Of the review-based models that the field compares with, NARRE is cornac's. Its training shows the network the very
review whose rating it must foresee, which it lacks for a test row; cornac cannot leave that out. Its word vectors are
learned from the training reviews alone, because pre-trained ones would have to be fetched. DeepCoNN could not be had:
cornac 3.0.1, RecBole 1.2.1 and recommenders 1.2.1 have none. Cornac's HFT took 10 seconds an iteration for 5,527
reviews, of which it wants 50, and its ConvMF needs tensorflow 1.
"""

import importlib
import importlib.util
import json
import multiprocessing
import re
import signal
import time
import traceback
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec.data import catalog
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics
from reason4rec.llm.base import resolve_device
from reason4rec.llm.prompt import OnDemand, Prompt, texts_of
from reason4rec.run import files, locks
from reason4rec.systems.reason4rec import artifacts, predictor_modes, prompts
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX
from reason4rec.systems.reason4rec.steps import Step
from reason4rec.training.recipe import MAX_LENGTH

if TYPE_CHECKING:
    from cornac.data import Dataset


SEEDS = (42, 43, 44)  # our decision
TEACHER_TEMPERATURE = 0.0  # our decision
RATING = re.compile(rf"{RATING_PREFIX.strip()}[\s*]*(\d(?:\.\d++)?+)(?!,?\d)")

Predict = Callable[[pd.DataFrame], np.ndarray]
"""Ratings, not yet clipped, for a frame with the columns of KEYS."""
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


def _gradient_boosting(train: pd.DataFrame, seed: int, grid: Grid) -> Learned:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import ParameterGrid

    index = HistoryIndex(train, None)

    def features(targets: pd.DataFrame) -> np.ndarray:
        found = index.of_rows(targets)
        rows = [(one.user_average, one.item_average, one.user_count, one.item_count) for one in found]
        return np.array(rows, dtype=float).reshape(-1, 4)

    def predictor(model: HistGradientBoostingRegressor) -> Predict:
        return lambda targets: model.predict(features(targets)[:, known])

    # A training row is described by the reviews before it, as a test row is.
    of_train = features(train)
    known = ~np.isnan(of_train).all(axis=0)  # scikit-learn cannot take an average that no training row has
    for settings in ParameterGrid(grid):
        model = HistGradientBoostingRegressor(early_stopping=False, random_state=seed, **settings)
        yield settings, predictor(model.fit(of_train[:, known], train["ratings"].to_numpy(dtype=float)))


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


def choose(
    name: str, train: pd.DataFrame, valid: pd.DataFrame | None, targets: pd.DataFrame, seed: int
) -> tuple[np.ndarray, dict, float | None]:
    """(targets,) predictions of 1 to 5, the settings of the grid with the lowest MAE on valid, and that MAE in stars.

    Of equal settings the first is taken. Without a grid no validation rows are needed (None). Only the columns of KEYS
    of `targets` are looked at.
    """
    baseline = LEARNED[name]
    learned = baseline.learn(train, seed, baseline.grid)
    best, lowest = next(learned) if not baseline.grid else None, None
    if best is None:
        total = int(np.prod([len(values) for values in baseline.grid.values()]))
        for settings, predict in tqdm(learned, desc=name, total=total, unit="setting"):
            error = float(np.abs(_clipped(predict, valid) - valid["ratings"].to_numpy(dtype=float)).mean())
            if lowest is None or error < lowest:
                best, lowest = (settings, predict), error
    settings, predict = best
    return _clipped(predict, targets), settings, lowest


def _clipped(predict: Predict, targets: pd.DataFrame) -> np.ndarray:
    return np.clip(predict(targets[list(KEYS)]), 1.0, 5.0)


def rating_in(reply: str) -> float:
    """The last rating of 1 to 5 that a reply gives in the form asked for; NaN where there is none."""
    found = RATING.findall(reply)
    rating = float(found[-1]) if found else np.nan
    return rating if 1 <= rating <= 5 else np.nan


def _direct_prompts(step: Step, targets: pd.DataFrame) -> Sequence[Prompt]:
    shown, text = (SUMMARIES, SUMMARY) if SUMMARIES in step.reads else (TRAIN, "reviews")
    index = HistoryIndex(step.read(shown), text, step.dataset.history_length)
    prompt = partial(prompts.predictor, step.dataset.product_class, folder=step.args.prompts)
    return OnDemand(prompt, targets["title"], index.of_rows(targets))


def _zero_shot(step: Step, targets: pd.DataFrame) -> tuple[np.ndarray, dict]:
    from reason4rec.llm.local import load

    args, settings = step.args, step.settings
    device = resolve_device(args.device)
    model = load(settings["base_model"], None, device, settings["max_length"], args.batch_size, step.store)
    probabilities = predictor_modes.rating_probabilities(model, _direct_prompts(step, targets))
    found = np.column_stack([metrics.expected_rating(probabilities), probabilities])
    return found, {"base_model": settings["base_model"], "device": device, "prompts_shortened": model.shortened}


def _zero_shot_teacher(step: Step, targets: pd.DataFrame) -> tuple[np.ndarray, dict]:
    teacher = step.teacher()
    replies = teacher.ask(texts_of(_direct_prompts(step, targets)), TEACHER_TEMPERATURE)
    found = np.array([[rating_in(reply or "")] for reply in replies])
    asked = {"teacher_model": teacher.model, "temperature": TEACHER_TEMPERATURE}
    return found, asked | {"unusable": int(np.isnan(found).sum())} | teacher.card()


ASKED = {"zero_shot": _zero_shot, "zero_shot_teacher": _zero_shot_teacher}


def runs(name: str, args: Namespace) -> list[tuple[str, int]]:
    """The runs of a baseline, each with its seed: `NAME`, or `NAME@SEED` for each seed of one that depends on it."""
    if name in LEARNED and LEARNED[name].seeded:
        return [(f"{name}@{seed}", seed) for seed in dict.fromkeys(args.seeds)]
    return [(name, args.seed)]


def installed(names: list[str]) -> list[str]:
    """Those of the baselines whose libraries are there; the others are named in a line."""
    found = [name for name in names if not _absent(name)]
    for name in names:
        if name not in found:
            print(f"left out: {_advice(name)}")
    return found


def step_for(name: str, run: str, seed: int, args: Namespace) -> Step:
    """The step that makes one run of a baseline; InputError if a library is absent.

    Only what the baseline learns from or is asked with can put its predictions out of date.
    """
    if name in LEARNED:
        if _absent(name):
            raise InputError(_advice(name))
        reads, settings = [TRAIN, VALID, TEST] if LEARNED[name].grid else [TRAIN, TEST], {"grid": _listed(name)}
        unused = {"prompts", "teacher_model"}
    else:
        summaries = (args.data_root / args.dataset / SUMMARIES.path).exists()
        reads, settings = [SUMMARIES if summaries else TRAIN, TEST], {"temperature": TEACHER_TEMPERATURE}
        unused = set()
    if name == "zero_shot":
        base = args.base_model or catalog.get(args.dataset, args.data_root).base_model
        of_base = files.sha256(Path(base)) if Path(base).is_dir() else None
        settings, unused = {"base_model": base, "base_sha256": of_base, "max_length": MAX_LENGTH}, {"teacher_model"}
    kept = Namespace(**{flag: value for flag, value in vars(args).items() if flag not in unused})
    settings |= {"baseline": name, "seed": seed}
    return Step(kept, reads, [artifacts.predictions_of(run)], **settings)


def make(name: str, step: Step, seed: int) -> tuple[pd.DataFrame, dict]:
    """The predictions of a baseline for the test rows, as in `predictions_of`, and its row of `results/efforts.json`.

    The row: `model`, `seed` (None where it changes nothing), the `settings` chosen and the `grid` they are from,
    `valid_mae` in stars, `seconds` of wall time for the search and the predictions, `peak_gb` of this process with its
    libraries and tables (not of a GPU), and `source`.
    """
    test = step.targets(TEST)
    result = test[[*KEYS, "ratings"]].copy()
    started, grid, lowest = time.perf_counter(), {}, None
    if name in LEARNED:
        baseline = LEARNED[name]
        train, valid = step.read(TRAIN), step.read(VALID) if baseline.grid else None
        grid = _listed(name)
        result[PREDICTION], settings, lowest = choose(name, train, valid, test, seed)
        libraries, seeded = baseline.libraries, baseline.seeded
    else:
        found, settings = ASKED[name](step, test.drop(columns=["ratings", "reviews"]))
        settings["histories"] = "summaries" if SUMMARIES in step.reads else "reviews"
        result[[PREDICTION, *PROBABILITIES][: found.shape[1]]] = found
        libraries, seeded = ("transformers",) if name == "zero_shot" else ("openai",), False
    effort = {
        "model": name,
        "seed": seed if seeded else None,
        "settings": settings,
        "grid": grid,
        "valid_mae": lowest,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_gb": round(_peak_gb(), 3),
        "source": " + ".join(f"{one} {importlib.import_module(one).__version__}" for one in libraries) or "ours",
    }
    return result, effort


def put_effort(path: Path, effort: dict) -> None:
    """Puts a row into `results/efforts.json`, in the place of that of the same model and seed.

    Several processes may do so at once.
    """
    while locks.lock(path):
        time.sleep(0.05)
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        rows = [row for row in rows if (row["model"], row["seed"]) != (effort["model"], effort["seed"])]
        files.write_text(path, json.dumps([*rows, effort], indent=1) + "\n")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not the efforts of baselines ({error}); remove it and run again") from error
    finally:
        locks.unlock(path)


def in_own_process(name: str, step: Step, seed: int) -> tuple[pd.DataFrame, dict]:
    """What `make` returns, made in a new process, whose peak of memory is then the baseline's own.

    InputError if it is killed; what it raises is raised here.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_make_and_send, args=(sender, name, step, seed), daemon=True)
    child.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        child.join()
        if child.exitcode >= 0:
            raise RuntimeError(f"the process of {name} failed, as the lines above say") from None
        raise InputError(
            f"the process of {name} was killed (signal {-child.exitcode}), as happens where the memory is full: free "
            f"some and run again"
        ) from None
    child.join()
    if isinstance(result, Exception):
        raise result
    return result


def _make_and_send(sender: Connection, name: str, step: Step, seed: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends this process
    try:
        result = make(name, step, seed)
    except Exception as error:
        error.add_note(traceback.format_exc())
        result = error
    sender.send(result)


def _peak_gb() -> float:
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def _listed(name: str) -> dict[str, list]:
    return {setting: list(values) for setting, values in LEARNED[name].grid.items()}


def _absent(name: str) -> list[str]:
    return [one for one in LEARNED[name].libraries if importlib.util.find_spec(one) is None]


def _advice(name: str) -> str:
    absent = " and ".join(_absent(name))
    return f"{name} needs {absent}, which is not installed: python -m pip install -r requirements-baselines.txt"
