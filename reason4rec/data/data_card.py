"""The card of a dataset: where it came from, what every stage left of it, and how that compares with the paper."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from reason4rec.data.history import WARM, HistoryIndex
from reason4rec.data.preprocess import Reading, Splits, Stage, stage_of
from reason4rec.run import markdown


def card(dataset: str, splits: Splits, sha256: Mapping[Path, str], settings: dict, paper: Mapping[str, int]) -> dict:
    """What is known of a dataset, as plain data; `sha256` is by the path of a file.

    `stages` go from `raw` to the three splits; `last` is the time of the last review. In `test`, `cold_users` and
    `cold_items` count the rows without an earlier review of theirs in train, `warm` is as in the paper's counts.
    `paper` holds the figures that the paper states, ours, and the difference. `items_with_title_cut` is there where
    there are any.
    """
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    stages = splits.stages | {name: stage_of(part, splits.scale) for name, part in parts.items()}
    kept = list(splits.stages.values())[-1]
    warmth = _warmth(splits.train, splits.test)
    ours = {"interactions": kept.reviews, "users": kept.users, "items": kept.items, "warm_test_rows": warmth["warm"]}
    return {
        "dataset": dataset,
        "files": [_file(reading, sha256) for reading in splits.readings],
        "settings": settings,
        "stages": {name: asdict(stage) for name, stage in stages.items()},
        "items_without_title": splits.untitled,
        **({"items_with_title_cut": splits.cut} if splits.cut else {}),
        "reviews_without_text": int(sum((part["reviews"] == "").sum() for part in parts.values())),
        "test": warmth,
        "paper": {name: {"paper": n, "ours": ours[name], "difference": ours[name] - n} for name, n in paper.items()},
    }


def as_text(card: dict) -> str:
    """The card for a terminal or a page, as Markdown."""
    stages = {name: Stage(**counts) for name, counts in card["stages"].items()}
    stars = sorted({rating for stage in stages.values() for rating in stage.by_rating}, key=float)
    header = ["stage", "reviews", "users", "items", *(f"rated {rating}" for rating in stars), "first", "last"]
    rows = [
        [name, stage.reviews, stage.users, stage.items, *(stage.by_rating.get(rating, 0) for rating in stars)]
        + [_day(stage.first), _day(stage.last)]
        for name, stage in stages.items()
    ]
    files = [
        [f"{file['name']} {file['member']}".strip(), file["form"], file["bytes"], file["lines"], file["broken"]]
        + [file["sha256"]]
        for file in card["files"]
    ]
    test, cut = card["test"], card.get("items_with_title_cut", 0)
    tables = [
        _table(["file", "form", "bytes", "lines", "broken", "sha256"], files),
        f"Settings: {', '.join(f'{name} {value}' for name, value in card['settings'].items())}.",
        _table(header, rows),
        f"Test rows: {test['warm']:,} warm, {test['cold_users']:,} with a cold user, {test['cold_items']:,} with a "
        f"cold item, of {stages['test'].reviews:,}. Items without a title: {card['items_without_title']:,}. "
        f"Reviews without a text: {card['reviews_without_text']:,}."
        + (f" Items with a title that was cut: {cut:,}." if cut else ""),
    ]
    if card["paper"]:
        compared = [[name.replace("_", " "), *numbers.values()] for name, numbers in card["paper"].items()]
        tables.append(_table(["count", "paper", "ours", "difference"], compared))
    return "\n\n".join(tables)


def warning(card: dict) -> str:
    """What to do where no test row is warm, as figures of the paper's kind need; empty where some are."""
    test, rows = card["test"], card["stages"]["test"]["reviews"]
    if test["warm"]:
        return ""
    return (
        f"none of the {rows:,} test rows is warm ({WARM} earlier reviews, one of its user and one of its item among "
        f"them), so there is no figure of the paper's kind: {test['cold_users']:,} have a new user and "
        f"{test['cold_items']:,} a new item; pass another --core, give reviews of a longer time, or put your own split "
        f"in raw_data/"
    )


def _warmth(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, int]:
    histories = HistoryIndex(train, None).of_rows(test)
    return {
        "warm": sum(history.warm for history in histories),
        "cold_users": sum(not history.user_count for history in histories),
        "cold_items": sum(not history.item_count for history in histories),
    }


def _file(reading: Reading, sha256: Mapping[Path, str]) -> dict:
    path = reading.dump.path
    return {
        "name": path.name,
        "member": reading.dump.member,
        "form": reading.dump.form,
        "bytes": path.stat().st_size,
        "sha256": sha256[path],
        "lines": reading.lines,
        "broken": reading.broken,
        "first_broken": {str(number): fault for number, fault in reading.faults.items()},
    }


def _day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def _table(header: list[str], rows: list[list]) -> str:
    return markdown.table(header, [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows])
