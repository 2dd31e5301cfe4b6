"""The files of published texts: log tables as they were published, or texts that were brought into order."""

import gzip
import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARY
from reason4rec.systems.reason4rec.options import PublishedTexts, SummaryQuality
from reason4rec.systems.reason4rec.published import ORIGIN, WORST_REWARD, LoggedPrompt, Said, as_title
from reason4rec.systems.reason4rec.published_matching import LEAST, TIMES_SECOND, clear, matched, summaries_in

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep

TABLES = ("*.table.json", "*.table.json.gz")
SUMMARIES, REASONS = "summaries.jsonl.gz", "reasons.jsonl.gz"
NOT_REWARDS = ("step", "prompt", "completion", "advantage")  # of a table as trl logs it; the other column is the reward
PROMPT = re.compile(
    r'^Here is .*? new [^"]*"(?P<title>.+?)" being recommended to the user\..*?'
    r"### User Review History ###\n(?P<user>.*?)\s*"
    r"### Item Review History by other users ###\n(?P<item>.*?)\s*"
    r"\nAnalyze whether the user will like ",
    re.DOTALL,
)
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


def reads_of(step: "ExpertStep") -> list[Artifact | Path]:
    """What the import reads with its options; InputError for a folder, a share or files that cannot be used."""
    options = step[PublishedTexts]
    if options.tables is None:
        raise InputError("--tables FOLDER is missing: name the folder with the published texts")
    if not 0 < options.set_aside < 1:
        raise InputError(f"--set_aside {options.set_aside}: is not between 0 and 1, such as 0.1")
    splits = [one for one in (TRAIN, VALID, TEST) if one is not VALID or step.path(one).exists()]
    files = files_in(options.tables)
    if options.metadata and not options.reviews:
        raise InputError(f"--metadata {options.metadata}: is read with --reviews only, as the titles of these")
    if options.reviews and files.ordered:
        raise InputError(
            f"--reviews {options.reviews}: is not read for texts in order, which name their reviews; leave it out, or "
            f"put only log tables into --tables {options.tables}"
        )
    return [*splits, *files.all, *(one for one in (options.reviews, options.metadata) if one)]


def settings(step: "ExpertStep") -> dict[str, object]:
    """What else decides the import: what the texts are, in which form they came, and the thresholds."""
    form, matches = files_in(step[PublishedTexts].tables).form, [LEAST, TIMES_SECOND]
    return {"texts": ORIGIN, "form": form, "matches": matches, "worst_reward": WORST_REWARD}


def reads_of_quality(step: "ExpertStep") -> list[Artifact | Path]:
    """What the quality of summaries reads with its options: further summaries and the encoder too."""
    options = step[SummaryQuality]
    tables = tables_of(options.summaries).values()
    return [*step.spec.reads, *tables, *([options.encoder] if options.encoder else [])]


def tables_of(words: Sequence[str]) -> dict[str, Path]:
    """The files of `--summaries NAME=FILE` by name; InputError for one of another form or a name that comes twice."""
    found: dict[str, Path] = {}
    for word in words:
        name, _, path = word.partition("=")
        if not name or not path or name in found:
            raise InputError(f"--summaries {word}: is not NAME=FILE with a name of its own")
        found[name] = Path(path)
    return found


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


def read(
    step: "ExpertStep", files: Files, reviews: pd.DataFrame
) -> tuple[pd.DataFrame, list[LoggedPrompt], dict[str, int]]:
    """The matched summaries with their keys and titles, the prompts, and counts of what was read.

    `reviews` are those of all splits; the summaries of log tables are looked for among them, or among all raw reviews
    where --reviews names these. InputError as in the functions below.
    """
    if files.ordered:
        summaries, prompts = read_ordered(files)
        titles = dict(zip(reviews["item_id"], reviews["title"].map(as_title)))
        unknown = ~summaries["item_id"].isin(titles)
        if unknown.all():
            raise InputError(
                f"{files.ordered[0]}: no item of its summaries, such as {summaries['item_id'].iloc[0]}, is in the "
                f"dataset {step.common.dataset}; make it from the reviews that these texts are of"
            )
        summaries = summaries[~unknown].assign(title=summaries["item_id"].map(titles))
        return summaries, prompts, {"read_summaries": len(unknown), "of_unknown_items": int(unknown.sum())}
    prompts, counts = read_tables(files)
    options, found = step[PublishedTexts], summaries_in(prompts)
    if options.reviews:
        # By name, so that the other steps do not load it.
        from reason4rec.data.preprocess import How, preprocess

        how = How(scale=step.dataset.scale)
        raw = preprocess(options.reviews, options.metadata, step.folder / ".published", core=1, how=how)
        reviews = pd.concat([raw.train, raw.valid, raw.test], ignore_index=True)
    summaries = matched(found, reviews)
    counts["read_summaries"] = sum(map(len, found.values()))
    there = set(reviews["title"].map(as_title))
    counts["of_unknown_items"] = sum(len(texts) for title, texts in found.items() if title not in there)
    return summaries, prompts, counts | {"matched": len(summaries)}


def read_ordered(files: Files) -> tuple[pd.DataFrame, list[LoggedPrompt]]:
    """Summaries with the keys of their reviews and both similarities, and the prompts; InputError if unreadable."""
    summaries, reasons = (_lines(path) for path in files.ordered)
    fields = (*KEY_FIELDS.values(), TEACHER_SUMMARY, "similarity", "second")
    read = [
        {ours: row[theirs] for ours, theirs in KEY_FIELDS.items()} | {name: row[name] for name in fields[-3:]}
        for row in _checked(summaries, files.ordered[0], fields)
    ]
    for number, row in enumerate(read, start=1):
        if not (isinstance(row[TEACHER_SUMMARY], str) and _is_number(row["similarity"]) and _is_number(row["second"])):
            raise InputError(f"{files.ordered[0]}: line {number}: the summary is a text, both similarities are numbers")
    found = [row for row in read if clear(row["similarity"], row["second"])]
    if not found:
        raise InputError(f"{files.ordered[0]}: none of its {len(read):,} summaries is near enough to its review")
    fields = ("title", "user_history", "item_history", "reasons")
    prompts = []
    for number, row in enumerate(_checked(reasons, files.ordered[1], fields), start=1):
        try:
            prompts.append(_prompt(row))
        except (TypeError, KeyError, AttributeError, ValueError):
            raise InputError(
                f"{files.ordered[1]}: line {number}: a history is a list of title and summary, reasons are text and "
                f"reward"
            ) from None
    return pd.DataFrame(found), prompts


def read_tables(files: Files) -> tuple[list[LoggedPrompt], dict[str, int]]:
    """The prompts of log tables with their distinct reasons, and counts of rows, draws and prompts of another form.

    A reason that was drawn more than once has the mean of its rewards. InputError if a file is no log table, or no
    prompt has the form of a Reasoner's.
    """
    drawn: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rows = 0
    for path in files.tables:
        for prompt, completion, reward in _rows(path):
            drawn[prompt][completion].append(reward)
            rows += 1
    found = []
    for text, rewards in drawn.items():
        if said := PROMPT.search(text):
            means = ((reason, sum(given) / len(given)) for reason, given in rewards.items())
            reasons = tuple(sorted(means, key=lambda one: -one[1]))
            found.append(LoggedPrompt(as_title(said["title"]), entries(said["user"]), entries(said["item"]), reasons))
    if not found:
        raise InputError(f"--tables {files.tables[0].parent}: none of {len(drawn):,} prompts has two review histories")
    return found, {"logged_rows": rows, "prompts": len(found), "prompts_of_another_form": len(drawn) - len(found)}


def entries(block: str) -> tuple[Said, ...]:
    """The entries of a history in a logged prompt: `1. TITLE`, the lines of a summary, an empty line, `2. TITLE`."""
    block, starts = f"\n\n{block}", []
    while (start := block.find(f"\n\n{len(starts) + 1}. ", starts[-1] if starts else 0)) >= 0:
        starts.append(start)
    found = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(block)]), start=1):
        title, _, summary = block[start:end].strip().removeprefix(f"{number}. ").partition("\n")
        found.append((as_title(title), summary.strip()))
    return tuple(found)


def _rows(path: Path) -> list[tuple[str, str, float]]:
    """Prompt, completion and reward of each row of a log table; InputError names what is wrong with the file."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            table = json.load(file)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a table as JSON ({error})") from error
    if not isinstance(table, dict) or not all(isinstance(table.get(part), list) for part in ("columns", "data")):
        raise InputError(f'{path}: not a log table, which is {{"columns": [...], "data": [[...], ...]}}')
    columns, rewards = table["columns"], [name for name in table["columns"] if name not in NOT_REWARDS]
    if missing := [name for name in ("prompt", "completion") if name not in columns]:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, columns))}")
    if len(rewards) != 1:
        raise InputError(f"{path}: {len(rewards)} columns of rewards beside {', '.join(NOT_REWARDS)}; one is read")
    places = [columns.index(name) for name in ("prompt", "completion", rewards[0])]
    found = []
    for number, row in enumerate(table["data"]):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InputError(f"{path}: row {number} has not the {len(columns)} values of its columns")
        prompt, completion, reward = (row[place] for place in places)
        if not (isinstance(prompt, str) and isinstance(completion, str) and _is_number(reward)):
            raise InputError(f"{path}: row {number}: prompt and completion are texts and {rewards[0]} a number")
        found.append((prompt, completion, float(reward)))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _prompt(row: dict) -> LoggedPrompt:
    reasons = sorted(((one["text"], float(one["reward"])) for one in row["reasons"]), key=lambda one: -one[1])
    return LoggedPrompt(as_title(row["title"]), _said(row["user_history"]), _said(row["item_history"]), tuple(reasons))


def _said(entries: Sequence[dict]) -> tuple[Said, ...]:
    return tuple((as_title(entry["title"]), entry["summary"]) for entry in entries)


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
