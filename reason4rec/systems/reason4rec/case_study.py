"""Case studies of a run as one HTML file: which test rows it shows, beside what, and how their texts stay unharmed.

The page's markup, style and script are in case_study.html; nothing is fetched when it is read. Reviews are foreign
text: they are data for the script, which shows them as text only, and the page's security policy forbids all else.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.history import Entry, History
from reason4rec.data.schema import KEYS, PREDICTION, PROBABILITIES, TRAIN
from reason4rec.evaluation import metrics, ratings
from reason4rec.evaluation.metrics import errors, median_rating
from reason4rec.llm.options import RULES
from reason4rec.llm.usage import STAND_IN
from reason4rec.run.files import Artifact
from reason4rec.run.html import filled
from reason4rec.run.records import read_record
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.ablations import is_variant
from reason4rec.systems.reason4rec.artifacts import REASON, TEACHER_REASONS, TEACHER_SUMMARIES
from reason4rec.systems.reason4rec.predictions import current, prediction_files

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep

TEMPLATE = Path(__file__).with_suffix(".html")
DIGITS = 5  # of predictions, probabilities and averages on the page


MADE_UP, TINY = "made-up reviews", "demo model"
CAVEATS = {
    MADE_UP: "The reviews are made up: users, albums and ratings come from the demo's synthetic world. "
    "This page shows how the method works, and says nothing about real reviews.",
    STAND_IN: "The teacher was the demo's stand-in for ChatGPT, a program with fixed rules.",
    RULES: "The teacher was a set of rules for English and no language model, so summaries and reasons are plain.",
    TINY: "The language model is the demo's, with 1.1 million parameters: it knows the demo's few words and no others.",
}


@dataclass(frozen=True)
class Baseline:
    """A baseline's predictions of the page's rows: its name as shown, and of how many it had the lowest MAE on them."""

    name: str
    predictions: np.ndarray
    of: int


def caveats(step: "ExpertStep") -> list[str]:
    """Which of `CAVEATS` a reader must know first: what of reviews, teacher and language model is not the real thing.

    Of a teacher the records of its summaries and reasons know; of files that a person put in place, nobody.
    """
    written = [read_record(step.path(one)) for one in (TEACHER_SUMMARIES, TEACHER_REASONS)]
    found = {record["made_from"]["settings"].get("teacher_model") for record in written if record}
    found |= {MADE_UP} if step.common.dataset == facts.DEMO else set()
    found |= {TINY} if TINY in step.label else set()
    return [name for name in CAVEATS if name in found]


def baseline_files(step: "ExpertStep") -> dict[str, Artifact]:
    """The files of a dataset's predictions that are neither ours, of any seed, nor those of our variants."""
    ours = step.label
    files = current(step, prediction_files(step.folder, ours))
    models = {name: ratings.model_of(name) for name in files}
    return {name: files[name] for name, model in models.items() if model != ours and not is_variant(model)}


def reads(step: "ExpertStep") -> list[Artifact | Path]:
    """What a page is made from: beside the rows, what baselines there are."""
    train = [TRAIN] if step.path(TRAIN).exists() else []
    return [*step.spec.reads, TEMPLATE, *train, *baseline_files(step).values()]


def best_baseline(step: "ExpertStep", predicted: pd.DataFrame) -> Baseline | None:
    """The baseline with the lowest MAE on all predicted rows; None where there is none that predicts them all.

    There are those of `predictions/`, each seed by itself, and the means and biases of the evaluation. Chosen by the
    very errors that it is shown with, it is a little better than it would be on other rows: our decision, for the page
    only.
    """
    found = metrics.baselines(step.read(TRAIN), predicted) if step.path(TRAIN).exists() else {}
    keys = pd.MultiIndex.from_frame(predicted[list(KEYS)])
    for name, file in baseline_files(step).items():
        frame = step.read(file)
        of_rows = frame[pd.MultiIndex.from_frame(frame[list(KEYS)]).isin(keys)]
        found[name] = ratings.aligned(of_rows, predicted, str(step.path(file)))[PREDICTION].to_numpy()
    whole = {name: values for name, values in found.items() if np.isfinite(values).all()}
    if not whole:
        return None
    truth = predicted["ratings"].to_numpy(dtype=float)
    best = min(whole, key=lambda name: np.abs(whole[name] - truth).mean())
    return Baseline(best.replace("@", ", seed "), whole[best], len({ratings.model_of(name) for name in whole}))


def choose(row_errors: np.ndarray, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows a page of at most `rows` shows: their positions, ascending, and whether each was drawn at random.

    Our decision: half are drawn from all rows, so that they are a fair sample; the others have the largest errors
    among the rest. So the largest errors of all are there either way.
    """
    everything = np.arange(len(row_errors))
    if rows >= len(row_errors):
        return everything, np.ones(len(row_errors), dtype=bool)
    drawn = np.random.default_rng(seed).choice(everything, size=rows // 2, replace=False)
    rest = np.setdiff1d(everything, drawn)
    largest = rest[np.argsort(-row_errors[rest], kind="stable")][: rows - len(drawn)]
    chosen = np.sort(np.concatenate([drawn, largest]))
    return chosen, np.isin(chosen, drawn)


def reading_order(drawn: np.ndarray, seed: int) -> np.ndarray:
    """For each row of a page its place when it is opened, from 0: shuffled, those drawn at random before the others.

    So a page opens on rows as they come, and not on its worst or its first.
    """
    shuffled = np.random.default_rng(seed).permutation(len(drawn))
    order = shuffled[np.argsort(~drawn[shuffled], kind="stable")]
    places = np.empty(len(drawn), dtype=int)
    places[order] = np.arange(len(drawn))
    return places


def page(
    predicted: pd.DataFrame,
    chosen: np.ndarray,
    drawn: np.ndarray,
    histories: Sequence[History],
    seed: int,
    baseline: Baseline | None = None,
    known: Sequence[str] = (),
    **about: object,
) -> str:
    """The whole page, for all predicted rows, the positions of those it shows, and the histories of these.

    `known` are those `CAVEATS` that hold, and `about` is what else the head says: `dataset`, `model`. The same input
    gives the same text.
    """
    truth, predictions = predicted["ratings"].to_numpy(dtype=float), predicted[PREDICTION].to_numpy(dtype=float)
    medians = _medians(predicted)
    entries: dict[Entry, int] = {}
    shown, places = predicted.iloc[chosen], reading_order(drawn, seed).tolist()
    data = about | {
        "caveats": [CAVEATS[name] for name in known],
        "seed": seed,
        "all": errors(truth, predictions),
        "medians": errors(truth, medians) if np.isfinite(medians).any() else None,
        "baseline": baseline and errors(truth, baseline.predictions) | {"name": baseline.name, "of": baseline.of},
        "shown": errors(truth[chosen], predictions[chosen]),
        "sample": errors(truth[chosen[drawn]], predictions[chosen[drawn]]),
        "rows": [
            {
                "row": position,
                "median": _finite(medians[position]),
                "base": baseline and _finite(baseline.predictions[position]),
                "drawn": was_drawn,
                "order": place,
            }
            | _row(row, history, entries)
            for position, was_drawn, place, row, history in zip(
                chosen.tolist(), drawn.tolist(), places, shown.to_dict("records"), histories
            )
        ],
    }
    return filled(TEMPLATE.read_text(encoding="utf-8"), data | {"entries": [astuple(entry) for entry in entries]})


def _row(row: dict, history: History, entries: dict[Entry, int]) -> dict:
    """What a page shows of a predicted row; `entries` numbers those of the histories, and takes in what is new.

    Entries of an item stand in the histories of many rows, so each is on the page once.
    """
    return {
        "user": str(row["user_id"]),
        "item": str(row["item_id"]),
        "title": row["title"],
        "time": int(row["unixReviewTime"]),
        "rating": float(row["ratings"]),
        "pred": _finite(row[PREDICTION]),
        "p": _probabilities(row),
        "reason": row[REASON],
        "review": row["reviews"],
        "warm": history.warm,
        "histories": [
            {
                "count": count,
                "average": None if average is None else round(average, DIGITS),
                "entries": [entries.setdefault(entry, len(entries)) for entry in side],
            }
            for count, average, side in (
                (history.user_count, history.user_average, history.user),
                (history.item_count, history.item_average, history.item),
            )
        ],
    }


def _medians(predicted: pd.DataFrame) -> np.ndarray:
    if not set(PROBABILITIES) <= set(predicted):
        return np.full(len(predicted), np.nan)
    return median_rating(predicted[list(PROBABILITIES)].to_numpy(dtype=float))


def _finite(number: float) -> float | None:
    return round(float(number), DIGITS) if np.isfinite(number) else None


def _probabilities(row: dict) -> list[float] | None:
    found = [_finite(row.get(name, np.nan)) for name in PROBABILITIES]
    return None if None in found else found
