"""How good the Reasoner's reasons are: scores against the real reviews, a judge's score, and checks without reference.

Scores against a review tell how near the words or the meaning are; a review says much that no reason can know, so
compare models on the same rows and never read a score alone. A row whose review is empty has no reference: it is left
out of these scores and stays in the checks. Which scores and checks there are is our decision; the paper reports
BLEURT and GPTScore.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.history import History
from reason4rec.errors import InputError
from reason4rec.evaluation import statistics
from reason4rec.llm.base import resolve_device
from reason4rec.llm.options import Model
from reason4rec.systems.reason4rec.artifacts import REASON
from reason4rec.systems.reason4rec.options import Quality
from reason4rec.systems.reason4rec.reason_checks import (
    checks,
    distinct,
    faithfulness,
    rating_in_words,
    vocabulary,
    without_titles,
)
from reason4rec.systems.reason4rec.reason_scores import NEEDS, NO_DOWNLOAD, asked_scores, bertscore, bleurt

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep


def scores_of(step: "ExpertStep") -> list[str]:
    """The scores against the reviews that a step computes."""
    options = step[Quality]
    scores = list(NO_DOWNLOAD) if options.scores is None else list(options.scores)
    known = (*NO_DOWNLOAD, *NEEDS)
    for score in scores:
        if score not in known:
            raise InputError(f"--scores {score}: no such score; there are {', '.join(known)}")
    return asked_scores(scores, {"bertscore": options.encoder, "bleurt": options.bleurt})


def against_reviews(step: "ExpertStep", rows: pd.DataFrame) -> pd.DataFrame:
    """The scores of reasons against the reviews in the same rows, a column each."""
    options = step[Quality]
    pairs, scores = (rows[REASON].tolist(), rows["reviews"].tolist()), pd.DataFrame(index=rows.index)
    for name in scores_of(step):
        if name in NEEDS:
            where = resolve_device(step[Model].device), step[Model].prompts_at_once or 32
        if name == "bertscore":
            found = bertscore(*pairs, options.encoder, options.bertscore_layer, *where)
        elif name == "bleurt":
            found = bleurt(*pairs, options.bleurt, *where)
        else:
            found = NO_DOWNLOAD[name](*pairs)
        scores = scores.assign(**found)
    return scores


def by_itself(
    rows: pd.DataFrame, histories: Sequence[History], summaries: pd.DataFrame, seed: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """What reasons show without a reference, as scores by name, and the texts that explain them."""
    untitled = list(map(without_titles, rows[REASON], rows["title"], histories))
    by_aspects, texts = faithfulness(untitled, histories, vocabulary(summaries, seed), seed)
    texts["rating_words"] = list(map(rating_in_words, untitled))
    leaked = {"rating_in_words": [float(found != "") for found in texts["rating_words"]]}
    return {**by_aspects, **leaked, **checks(rows[REASON], rows["reviews"])}, texts


def table(
    scores: pd.DataFrame, reasons: Sequence[str], users: Sequence[str], seed: int
) -> list[dict[str, str | int | float | None]]:
    """One row per column of `scores`: `score`, `value` (mean), `low`, `high` (its 95% interval) and `n`.

    n counts the rows that have the score. The interval is that of `statistics.compare`, None below two users; a share
    that no row has shows no doubt about its 0. `words_median`, `distinct_1` and `distinct_2` are of all reasons
    together and have none.
    """
    found = [{"score": name} | statistics.mean(scores[name].to_numpy(dtype=float), users, seed) for name in scores]
    together = {"words_median": float(scores["words"].median())}
    together |= {f"distinct_{n}": distinct(reasons, n) for n in (1, 2)}
    return found + [
        {"score": name, "value": None if np.isnan(value) else value, "low": None, "high": None, "n": len(reasons)}
        for name, value in together.items()
    ]


def as_text(rows: Sequence[dict]) -> str:
    """The table for a terminal."""
    width = max(len(row["score"]) for row in rows)
    lines = [f"{'score':<{width}}       n     value  95% interval"]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4f}"
        interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        lines.append(f"{row['score'].replace('_', ' '):<{width}}  {row['n']:>6,}  {value:>8}  {interval}")
    return "\n".join(lines)
