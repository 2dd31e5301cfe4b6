"""Case studies of a run as one HTML file: which test rows it shows, and how their texts get into it unharmed.

The page's markup, style and script are in case_study.html; nothing is fetched when it is read. Reviews are foreign
text: they are data for the script, which shows them as text only, and the page's security policy forbids all else.
"""

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.history import Entry, History
from reason4rec.data.schema import PREDICTION, PROBABILITIES
from reason4rec.evaluation.metrics import errors, median_rating
from reason4rec.run.html import filled
from reason4rec.systems.reason4rec.artifacts import REASON

TEMPLATE = Path(__file__).with_suffix(".html")
DIGITS = 5  # of predictions, probabilities and averages on the page


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


def page(
    predicted: pd.DataFrame, chosen: np.ndarray, drawn: np.ndarray, histories: Sequence[History], **about: object
) -> str:
    """The whole page, for all predicted rows, the positions of those it shows, and the histories of these.

    `about` is what the head of the page says: `dataset`, `model`, `seed`. The same input gives the same text.
    """
    ratings, predictions = predicted["ratings"].to_numpy(dtype=float), predicted[PREDICTION].to_numpy(dtype=float)
    medians = _medians(predicted)
    entries: dict[Entry, int] = {}
    shown = predicted.iloc[chosen]
    data = about | {
        "all": errors(ratings, predictions),
        "medians": errors(ratings, medians) if np.isfinite(medians).any() else None,
        "shown": errors(ratings[chosen], predictions[chosen]),
        "sample": errors(ratings[chosen[drawn]], predictions[chosen[drawn]]),
        "rows": [
            {
                "row": position,
                "user": str(row["user_id"]),
                "item": str(row["item_id"]),
                "title": row["title"],
                "time": int(row["unixReviewTime"]),
                "rating": float(row["ratings"]),
                "pred": _finite(row[PREDICTION]),
                "median": _finite(medians[position]),
                "p": _probabilities(row),
                "reason": row[REASON],
                "review": row["reviews"],
                "warm": history.warm,
                "drawn": was_drawn,
                # Entries of an item stand in the histories of many rows, so each is on the page once.
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
            for position, was_drawn, row, history in zip(
                chosen.tolist(), drawn.tolist(), shown.to_dict("records"), histories
            )
        ],
    }
    return filled(TEMPLATE.read_text(encoding="utf-8"), data | {"entries": [astuple(entry) for entry in entries]})


def _medians(predicted: pd.DataFrame) -> np.ndarray:
    if not set(PROBABILITIES) <= set(predicted):
        return np.full(len(predicted), np.nan)
    return median_rating(predicted[list(PROBABILITIES)].to_numpy(dtype=float))


def _finite(number: float) -> float | None:
    return round(float(number), DIGITS) if np.isfinite(number) else None


def _probabilities(row: dict) -> list[float] | None:
    found = [_finite(row.get(name, np.nan)) for name in PROBABILITIES]
    return None if None in found else found
