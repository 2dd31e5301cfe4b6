"""The files of published texts: log tables as they were published, or texts that were brought into order."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reason4rec.data.schema import KEYS
from reason4rec.errors import InputError
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.published import LoggedPrompt, Said

TABLES = ("*.table.json", "*.table.json.gz")
SUMMARIES, REASONS = "summaries.jsonl.gz", "reasons.jsonl.gz"
KEY_FIELDS = {"user_id": "reviewerID", "item_id": "asin", "unixReviewTime": "unixReviewTime"}


@dataclass(frozen=True)
class Files:
    """What is read of a folder: its log tables, or the two files of texts in order."""

    tables: tuple[Path, ...]
    ordered: tuple[Path, ...]

    @property
    def all(self) -> tuple[Path, ...]:
        """The files, in a fixed order."""
        return (*self.ordered, *self.tables)

    @property
    def form(self) -> str:
        """What they are, in words."""
        return "texts in order" if self.ordered else "log tables"


def files_in(folder: Path) -> Files:
    """The files of published texts in a folder: those in order where both are there; InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"--tables {folder}: no such folder; it holds log tables (*.table.json, *.table.json.gz)")
    ordered = tuple(folder / name for name in (SUMMARIES, REASONS))
    if all(path.is_file() for path in ordered):
        return Files((), ordered)
    tables = tuple(sorted(path for pattern in TABLES for path in folder.glob(pattern)))
    if not tables:
        raise InputError(
            f"--tables {folder}: no log table there (*.table.json, *.table.json.gz), nor {SUMMARIES} with {REASONS}"
        )
    return Files(tables, ())


def read_ordered(files: Files) -> tuple[pd.DataFrame, list[LoggedPrompt]]:
    """Summaries with the keys of their reviews, `similarity` and `second`, and the prompts; InputError if unreadable."""
    summaries, reasons = (_lines(path) for path in files.ordered)
    table = pd.DataFrame(
        [
            {ours: row[theirs] for ours, theirs in KEY_FIELDS.items()}
            | {name: row[name] for name in (TEACHER_SUMMARY, "similarity", "second")}
            for row in _checked(summaries, files.ordered[0], (*KEY_FIELDS.values(), TEACHER_SUMMARY, "similarity"))
        ]
    )
    fields = ("title", "user_history", "item_history", "reasons")
    return table, [_prompt(row) for row in _checked(reasons, files.ordered[1], fields)]


def _prompt(row: dict) -> LoggedPrompt:
    reasons = sorted(((one["text"], one["reward"]) for one in row["reasons"]), key=lambda one: -one[1])
    return LoggedPrompt(row["title"], _said(row["user_history"]), _said(row["item_history"]), tuple(reasons))


def _said(entries: Sequence[dict]) -> tuple[Said, ...]:
    return tuple((entry["title"], entry["summary"]) for entry in entries)


def _checked(rows: list[dict], path: Path, fields: Sequence[str]) -> list[dict]:
    for number, row in enumerate(rows, start=1):
        if missing := [name for name in fields if not isinstance(row, dict) or name not in row]:
            raise InputError(f"{path}: line {number} has no {', '.join(missing)}")
    return rows


def _lines(path: Path) -> list[dict]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not gzipped lines of JSON ({error})") from error
