"""The rationales of a finished run, checked for each writer: the teacher and every recommender."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.data.sequences import Case
from reason4rec.evaluation import statistics
from reason4rec.llm.prompt import texts_of
from reason4rec.run import markdown
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import prompts, ranking_runs, rationale_checks, recommending, replies
from reason4rec.systems.twice_rec.options import Prompts
from reason4rec.systems.twice_rec.prompts import RATIONALE_FIRST

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

TEACHER = "teacher (training cases)"
JUDGE_TEMPERATURE = 0.0


@dataclass(frozen=True)
class Written:
    """A rationale: the case that it is for, its text, and the item that is recommended with it, if any."""

    case: Case
    text: str
    item_id: str | None


def written(step: "RecommenderStep") -> dict[str, list[Written]]:
    """The rationales of each writer; of a recommender those of its greedy replies to the test cases."""
    found = {}
    if step.path(a.RATIONALES).exists():
        by_user = {row.user_id: row for row in step.read(a.RATIONALES).itertuples()}
        cases = [case for case in step.cases("train") if case.user_id in by_user]
        found[TEACHER] = [
            Written(case, by_user[case.user_id].rationale, by_user[case.user_id].item_id) for case in cases
        ]
    by_user = {case.user_id: case for case in step.cases("test")}
    for name in ranking_runs.there(step, "test"):
        if recommending.MODELS[name].task == RATIONALE_FIRST:
            frame = step.read(a.written(name, "test"))
            greedy = frame[(frame["draw"] == 0) & frame["user_id"].isin(by_user)]
            found[name] = [_of(by_user[row.user_id], row.reply) for row in greedy.itertuples()]
    return found


def _of(case: Case, reply: str) -> Written:
    said = replies.read(reply)
    return Written(case, said.think or "", said.item_id)


def graded(step: "RecommenderStep", found: Mapping[str, Sequence[Written]]) -> dict[str, np.ndarray]:
    """The judge's grades, 0 to 3, of the recommenders' rationales: 0 without asking where there is no such item."""
    teacher, shown = step.teacher(), step[Prompts]
    grades = {}
    for name, rows in found.items():
        if name == TEACHER:
            continue
        known = [k for k, one in enumerate(rows) if one.item_id in step.catalogue]
        asked = [
            prompts.judge(
                step.catalogue,
                rows[k].case.history,
                rows[k].item_id,
                rows[k].text,
                shown.fields,
                shown.cut,
                shown.folder,
            )
            for k in known
        ]
        answers = teacher.ask(texts_of(asked), JUDGE_TEMPERATURE)
        grades[name] = np.zeros(len(rows))
        grades[name][known] = [rationale_checks.grade(one or "") for one in answers]
    return grades


def means(
    step: "RecommenderStep", found: Mapping[str, Sequence[Written]], grades: Mapping[str, np.ndarray]
) -> dict[str, dict]:
    """The mean of each check for each writer, with its interval over users, and the judge's grades where there are."""
    lists = {split: step.candidates(split) for split in ("train", "test")}
    writers = {}
    for name, rows in found.items():
        of_split = lists["train" if name == TEACHER else "test"]
        frame = rationale_checks.checks(
            [one.text for one in rows],
            [one.case for one in rows],
            [of_split[one.case.user_id] for one in rows],
            [one.item_id for one in rows],
            step.catalogue,
            step.common.seed,
            step[Prompts].fields,
            step[Prompts].cut,
        )
        if name in grades:
            frame["grade"] = grades[name]
        users = [one.case.user_id for one in rows]
        writers[name] = {
            check: statistics.mean(frame[check].to_numpy(dtype=float), users, step.common.seed) for check in frame
        }
    return {"writers": writers}


def read(path: Path) -> dict:
    """The result in a file that `means` made."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_text(result: dict) -> str:
    """The table for a terminal: a row for each check, a column for each writer."""
    writers = result["writers"]
    checks = list(dict.fromkeys(check for of in writers.values() for check in of))
    rows = [[check.replace("_", " "), *(_cell(of.get(check)) for of in writers.values())] for check in checks]
    return markdown.table(
        ["mean of", *(f"{name} (n {next(iter(of.values()))['n']:,})" for name, of in writers.items())], rows
    )


def _cell(found: dict | None) -> str:
    if found is None or found["value"] is None:
        return "-"
    interval = f" ({found['low']:.2f} to {found['high']:.2f})" if found["low"] is not None else ""
    return f"{found['value']:.3f}{interval}"
