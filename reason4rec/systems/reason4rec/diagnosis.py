"""Which step of a finished run fails: what each expert makes of its text, against what it makes of another row's.

    reward model   rates rows from their own reviews, from those of other rows, and from none
    Predictor      rates rows from their own reasons, from those of other rows, and from an empty one
    Reasoner       names aspects that the row's review then names; a reason of another row shows what chance gives

The rows are those of test and valid, from which no expert has learned. Which row is the other one is drawn with the
seed, once for all rows, so that no row gets its own text. All of this is our decision.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.history import History
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TRAIN
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, ratings, statistics, tables
from reason4rec.evaluation.ratings import Runs
from reason4rec.evaluation.tables import MEDIAN
from reason4rec.llm.options import Servers
from reason4rec.llm.prompt import OnDemand
from reason4rec.run import markdown
from reason4rec.run.files import Artifact
from reason4rec.run.records import settings_of
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASON, TEST_RATINGS, VALID_RATINGS
from reason4rec.systems.reason4rec.baselines import choose
from reason4rec.systems.reason4rec.predictions import current
from reason4rec.systems.reason4rec.predictor_modes import rating_probabilities
from reason4rec.systems.reason4rec.reason_checks import named_aspects, other_rows, without_titles

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep

SPLITS = {"valid": VALID_RATINGS, "test": TEST_RATINGS}
OWN_REVIEW, OWN_REASON = "its own review", "its own reason"
OTHER_REVIEW, OTHER_REASON = "another row's review", "another row's reason"
NO_REVIEW, NO_REASON = "no review", "an empty reason"
SCORES = {
    "names an aspect": "reasons that name an aspect of the review",
    "aspects": "aspects of a reason that the review names",
}


def rated_splits(step: "ExpertStep") -> list[Artifact]:
    """The predicted ratings that are there, of test and valid; those of test where there are none.

    Those of valid that are out of date are left out, with a note.
    """
    found = {artifact.path: artifact for artifact in SPLITS.values() if step.path(artifact).exists()}
    test = found.pop(TEST_RATINGS.path, None)
    kept = list(current(step, found).values())
    return [*kept, TEST_RATINGS] if test or not kept else kept


def rows_of(step: "ExpertStep") -> dict[str, pd.DataFrame]:
    """The rows of each split with their predictions; InputError for one that no reason was read for, or a single row.

    A row whose review is empty is left out: nothing can be compared with it.
    """
    if step[Servers].served_model:
        raise InputError("--served_model names one expert, and this step asks two: leave it out for DATASET-ADAPTER")
    found = {}
    for name, artifact in SPLITS.items():
        if artifact not in step.reads:
            continue
        mode = settings_of(step.path(artifact)).get("predictor_mode", "reasoned")
        if mode != "reasoned":
            raise InputError(f"{step.path(artifact)}: made with --predictor_mode {mode}, which reads no reason")
        rows = step.rows(artifact)
        found[name] = rows[rows["reviews"].str.strip() != ""].reset_index(drop=True)
        if len(found[name]) < 2:
            raise InputError(f"{step.path(artifact)}: fewer than two rows with a review, so no row has another one")
    return found


def of_reward_model(step: "ExpertStep", adapter: str, rows: Mapping[str, pd.DataFrame]) -> dict[str, dict]:
    """For each split the errors of the reward model by the review that it reads, and of simple rivals."""
    return _errors(step, adapter, rows, "reviews", (OWN_REVIEW, OTHER_REVIEW, NO_REVIEW), None)


def of_predictor(step: "ExpertStep", adapter: str, rows: Mapping[str, pd.DataFrame]) -> dict[str, dict]:
    """For each split the errors of the Predictor by the reason that it reads, and of simple rivals."""
    return _errors(step, adapter, rows, REASON, (OWN_REASON, OTHER_REASON, NO_REASON), "")


def _errors(
    step: "ExpertStep",
    adapter: str,
    rows: Mapping[str, pd.DataFrame],
    column: str,
    names: tuple[str, str, str],
    without: str | None,
) -> dict[str, dict]:
    model, found = step.language_model(adapter), {}
    for split, targets in rows.items():
        histories, own = step.histories(targets), targets[column].tolist()
        other = [own[k] for k in other_rows(len(own), step.common.seed)]
        runs = rated(step, model, targets, histories, dict(zip(names, (own, other, [without] * len(own)))))
        found[split] = compared(step, runs, targets, ratings.groups_of(histories))
    # What is free decides how large the batches of the next model are.
    from reason4rec.llm.bases import free

    del model
    free()
    return found


def rated(
    step: "ExpertStep",
    model: object,
    targets: pd.DataFrame,
    histories: Sequence[History],
    read: Mapping[str, Sequence[str | None]],
) -> Runs:
    """The runs of a model that reads each of several texts in the place of the reason, by their names.

    The prompts on one row follow each other, because their histories are then read once.
    """
    titles, histories = ([one for one in column for _ in read] for column in (targets["title"], histories))
    texts = [text for of_row in zip(*read.values()) for text in of_row]
    prompt = partial(prompts.predictor, step.product_class, folder=step.templates)
    found = rating_probabilities(model, OnDemand(prompt, titles, histories, texts))
    of_texts = found.reshape(len(targets), len(read), len(PROBABILITIES))
    frames = {name: pd.DataFrame(of_texts[:, k], columns=list(PROBABILITIES)) for k, name in enumerate(read)}
    return {
        name: [frame.assign(**{PREDICTION: metrics.expected_rating(frame.to_numpy())})]
        for name, frame in frames.items()
    }


def compared(
    step: "ExpertStep", runs: Runs, targets: pd.DataFrame, groups: Mapping[str, np.ndarray]
) -> dict[str, list[dict]]:
    """`table` and `paired` as the evaluation's, of the runs and two rivals that read no text, under both rules.

    All others are tested against the first run, under the same rule.
    """
    train, seed, first = step.read(TRAIN), step.common.seed, next(iter(runs))
    rivals = {
        "global median": metrics.baselines(train, targets)["global median"],
        "prompt averages": choose("prompt_averages", train, None, targets, seed)[0],
    }
    of_rivals = {name: [pd.DataFrame({PREDICTION: values})] for name, values in rivals.items()}
    found: dict[str, list[dict]] = {"table": [], "paired": []}
    for of_rule, against in ((runs, first), (ratings.medians(runs), f"{first}{MEDIAN}")):
        table, paired = ratings.compare({**of_rule, **of_rivals}, targets, groups, seed, against)
        found["table"] += [row for row in table if row not in found["table"]]
        found["paired"] += paired
    return ratings.in_unit(found, step.dataset.scale)


def foreseen(
    targets: pd.DataFrame, histories: Sequence[History], known: Collection[tuple[str, ...]], seed: int
) -> list[dict]:
    """How often reasons name what the row's own review then names, against reasons of other rows.

    One row per score and group: `value`, `of_against` (of another row's reason), `difference` with its 95% interval
    `low` to `high`, and `p`, as in `statistics.compare`; n counts the rows whose review names an aspect of the
    vocabulary `known`. The scores are those of SCORES: of the second only rows whose both reasons name an aspect count.
    Titles are given, so those of a row are taken from its reason.
    """
    untitled = map(without_titles, targets[REASON], targets["title"], histories)
    named = [set(named_aspects(reason, known)) for reason in untitled]
    said = [set(named_aspects(review, known)) for review in targets["reviews"]]
    of_other = [named[k] for k in other_rows(len(named), seed)]

    def scores(of_reasons: Sequence[set]) -> pd.DataFrame:
        common = [len(reason & review) for reason, review in zip(of_reasons, said)]
        shares = [n / len(reason) if reason else np.nan for n, reason in zip(common, of_reasons)]
        return pd.DataFrame({"names an aspect": [float(n > 0) for n in common], "aspects": shares})

    own, other, speaks = scores(named), scores(of_other), np.array([bool(review) for review in said])
    found = []
    for score in SCORES:
        there = speaks & own[score].notna().to_numpy() & other[score].notna().to_numpy()
        for group, chosen in ratings.groups_of(histories).items():
            rows = there & chosen
            if not rows.any():
                continue
            values = {"other": other.loc[rows, score].to_numpy()[None], "own": own.loc[rows, score].to_numpy()[None]}
            users = targets.loc[rows, "user_id"].factorize()[0]
            by_chance, row = statistics.compare(values, users, "other", seed=seed)
            kept = {"value": row["value"], "of_against": by_chance["value"], "difference": row["difference"]}
            kept |= {"low": row["difference_low"], "high": row["difference_high"], "p": row["p"]}
            found.append({"score": score, "rows": group, "n": row["n"]} | kept)
    return found


def verdicts(result: Mapping) -> list[dict]:
    """One row per question of a diagnosis: `step`, `what`, `rows`, `n`, `value`, `against` and `of_against`, and tests.

    The rows are the warm ones, or all where none is warm. Errors are MAEs of the expectation, with the RMSE beside
    them; a `difference` below 0 then speaks for the step, and above 0 where it is one of shares.
    """
    found = []
    for split, sections in result["splits"].items():
        warm = any(row["rows"] == "warm" and row["n"] for row in sections["predictor"]["table"])
        group = "warm" if warm else "all"
        named = {"step": "Reasoner", "against": OTHER_REASON, "split": split}
        of_split = _of_errors("reward model", split, sections["reward_model"]) if "reward_model" in sections else []
        of_split += [named | {"what": SCORES[row["score"]]} | row for row in sections["aspects"]]
        of_split += _of_errors("Predictor", split, sections["predictor"])
        found += [row for row in of_split if row["rows"] == group]
    counts = result["reward_filter"]
    for what, key in (("accepted at first", "unhinted"), ("accepted with hints too", "accepted")):
        if counts.get(key) is not None:
            share = counts[key] / counts["targets"]
            found.append(
                {
                    "step": "reward filter",
                    "what": what,
                    "split": "train",
                    "rows": "targets",
                    "n": counts["targets"],
                    "value": share,
                }
            )
    return found


def _of_errors(name: str, split: str, section: Mapping[str, Sequence[dict]]) -> list[dict]:
    errors = {(row["model"], row["rows"]): row for row in section["table"]}
    first, found = section["table"][0]["model"], []
    for row in section["paired"]:
        own, other = errors[first, row["rows"]], errors[row["model"], row["rows"]]
        if row["against"] == first:
            # The row is about the other one.
            low, high = (None if row[end] is None else -row[end] for end in ("high", "low"))
            found.append(
                {"step": name, "what": f"MAE / RMSE with {first}", "split": split, "rows": row["rows"], "n": row["n"]}
                | {"value": own["mae"], "rmse": own["rmse"], "against": row["model"]}
                | {"of_against": other["mae"], "rmse_of_against": other["rmse"]}
                | {"difference": -row["mae_difference"], "low": low, "high": high, "p": row["p_corrected"]}
            )
    return found


def as_text(result: Mapping) -> str:
    """The verdicts for a terminal."""
    return tables.aligned(cells(verdicts(result)))


def cells(rows: Sequence[dict]) -> list[list[str]]:
    """The header and the rows of `verdicts` as a table shows them."""
    header = ["step", "what", "rows", "n", "value", "against", "its value", "difference", "p"]
    lines = [header]
    for row in rows:
        values = [_numbers(row, *names) for names in (("value", "rmse"), ("of_against", "rmse_of_against"))]
        difference, p = "-", "-"
        if row.get("difference") is not None:
            interval = markdown.brackets(row["low"], row["high"], "+.4f")
            difference, p = f"{row['difference']:+.4f}{interval}", f"{row['p']:.4f}"
        line = [
            row["step"],
            row["what"],
            f"{row['split']}, {row['rows']}",
            f"{row['n']:,}",
            values[0],
            row.get("against", "-"),
        ]
        lines.append([*line, values[1], difference, p])
    return lines


def _numbers(row: Mapping, *names: str) -> str:
    return " / ".join(f"{row[name]:.4f}" for name in names if name in row) or "-"
