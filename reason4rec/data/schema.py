"""The tables of reviews that steps read and write: their columns, and what a file of them must be to be used.

File and column names are those of the paper's repository, so that its pre-processed pickles can be put in their places.
"""

from pathlib import Path

import pandas as pd

from reason4rec.errors import InputError
from reason4rec.run.files import Artifact, read_pickle

REVIEW_COLUMNS = ("user_id", "item_id", "title", "ratings", "reviews", "unixReviewTime")
KEYS = ("user_id", "item_id", "unixReviewTime")
PREDICTION = "pred"
PROBABILITIES = ("p1", "p2", "p3", "p4", "p5")  # of the ratings 1 to 5, where a model gives them
MAY_BE_MISSING = (PREDICTION, *PROBABILITIES)  # the evaluation counts them
TRAIN = Artifact("raw_data/train.pkl", REVIEW_COLUMNS)
VALID = Artifact("raw_data/valid.pkl", REVIEW_COLUMNS, other_paths=("raw_data/val.pkl",))  # the authors' name
TEST = Artifact("raw_data/test.pkl", REVIEW_COLUMNS)
DATA_CARD = Artifact("data_card.json")


def read(folder: Path, artifact: Artifact) -> pd.DataFrame | list[dict]:
    """The checked content of an artifact in a dataset's folder; InputError names the file, column or row at fault."""
    path = artifact.within(folder)
    content = read_pickle(path)
    if artifact.columns:
        if not isinstance(content, pd.DataFrame):
            raise InputError(f"{path}: expected a table, found a {type(content).__name__}")
        check_frame(content, artifact.columns, str(path))
        return content
    check_messages(content, str(path))
    return content


def check_frame(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    """InputError unless the columns are there and hold no NaN, no repeated review and only ratings of 1 to 5."""
    if not frame.columns.is_unique:
        twice = _printable(frame.columns[frame.columns.duplicated()][0])
        raise InputError(f"{where}: column {twice} is there twice; remove one")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{where}: no column {', '.join(missing)}; it has {', '.join(map(_printable, frame.columns))}")
    if frame.empty:
        raise InputError(f"{where}: the table is empty")
    for column in columns:
        if column not in MAY_BE_MISSING and frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise InputError(f"{where}: column {column} is empty (NaN) in row {row}; remove or fill it")
    for column in ("ratings", "unixReviewTime"):
        if column in columns and not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"{where}: column {column} does not hold numbers; convert it")
    for column in ("user_id", "item_id"):
        kind = pd.api.types.infer_dtype(frame[column]) if column in columns else "string"
        if kind not in ("string", "integer"):
            raise InputError(f"{where}: column {column} holds {kind}, not texts or whole numbers; convert it")
    for column in columns:
        if column not in (*KEYS, "ratings", *MAY_BE_MISSING) and pd.api.types.infer_dtype(frame[column]) != "string":
            raise InputError(f"{where}: column {column} does not hold text alone; convert it")
    if "ratings" in columns:
        outside = ~frame["ratings"].between(1, 5).to_numpy()
        if outside.any():
            row = int(outside.argmax())
            raise InputError(f"{where}: rating {frame['ratings'].iloc[row]} in row {row} is outside 1 to 5")
    repeated = frame.duplicated(list(KEYS)).to_numpy()
    if repeated.any():
        row = int(repeated.argmax())
        raise InputError(f"{where}: row {row} repeats the user, item and time of an earlier row; remove one of them")


def _printable(name: object) -> str:
    text = str(name)[:100]
    return text if text.isprintable() else ascii(text)


def check_messages(rows: object, where: str) -> None:
    """InputError unless it is a list of `{"messages": [user, assistant]}` with texts in both."""
    if not isinstance(rows, list):
        raise InputError(f"{where}: expected a list of training rows, found a {type(rows).__name__}")
    if not rows:
        raise InputError(f"{where}: no training rows")
    for number, row in enumerate(rows):
        messages = row.get("messages") if isinstance(row, dict) else None
        if (
            not isinstance(messages, list)
            or not all(isinstance(m, dict) for m in messages)
            or [m.get("role") for m in messages] != ["user", "assistant"]
            or not all(isinstance(m.get("content"), str) and m["content"] for m in messages)
        ):
            raise InputError(f"{where}: row {number} is not a user message and an assistant message with texts")
        if not _are_spans(row.get("optional", []), len(messages[0]["content"])):
            raise InputError(f"{where}: `optional` of row {number} is no list of [start, end] in the user's message")


def _are_spans(spans: object, length: int) -> bool:
    if not isinstance(spans, list) or not all(
        isinstance(span, (list, tuple)) and len(span) == 2 and all(type(edge) is int for edge in span) for span in spans
    ):
        return False
    edges = [edge for span in sorted(map(tuple, spans)) for edge in span]
    return edges == sorted(edges) and all(0 <= edge <= length for edge in edges)
