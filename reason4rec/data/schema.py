"""The tables of reviews that steps read and write: their columns, and what a file of them must be to be used.

File and column names are those of the paper's repository, so that its pre-processed pickles can be put in their places.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from reason4rec.data import columns as of
from reason4rec.errors import InputError
from reason4rec.run.files import Artifact, note, read_pickle

REVIEW_COLUMNS = ("user_id", "item_id", "title", "ratings", "reviews", "unixReviewTime")
TIME = "unixReviewTime"
KEYS = ("user_id", "item_id", TIME)
PREDICTION = "pred"
PROBABILITIES = ("p1", "p2", "p3", "p4", "p5")  # of the ratings 1 to 5, where a model gives them
MAY_BE_MISSING = (PREDICTION, *PROBABILITIES)  # the evaluation counts them
TRAIN = Artifact("raw_data/train.pkl", REVIEW_COLUMNS)
VALID = Artifact(  # val.pkl is the authors' name
    "raw_data/valid.pkl", REVIEW_COLUMNS, other_paths=("raw_data/val.pkl",), may_be_empty=("reviews",)
)
TEST = Artifact("raw_data/test.pkl", REVIEW_COLUMNS, may_be_empty=("reviews",))
DATA_CARD = Artifact("data_card.json")


def read(folder: Path, artifact: Artifact) -> pd.DataFrame | list[dict]:
    """The checked content of an artifact in a dataset's folder; InputError names the file, column or row at fault.

    The columns that are needed are converted as `columns` says, so that ids are texts in every table. Rows that repeat
    a review are dropped and texts that may be missing are filled; a note counts them.
    """
    path = artifact.within(folder)
    content = read_pickle(path, artifact.columns or None)
    if artifact.columns:
        if not isinstance(content, pd.DataFrame):
            raise InputError(f"{path}: expected a table, found a {type(content).__name__}")
        return _understood(content, artifact, str(path))
    check_messages(content, str(path))
    return content


def _understood(frame: pd.DataFrame, artifact: Artifact, where: str) -> pd.DataFrame:
    columns = artifact.columns
    frame = _with_time(_with_labels(frame, columns, where), columns, where)
    check_columns(frame, columns, where)
    for column in artifact.may_be_empty:
        if missing := int(frame[column].isna().sum()):
            note(
                Path(where),
                f"{missing:,} of {len(frame):,} rows are without {column}; they are read with an empty text",
            )
            frame[column] = frame[column].astype(object).where(frame[column].notna(), "")
    for name in (*columns, *(name for name in MAY_BE_MISSING if name in frame and name not in columns)):
        column = frame[name]
        converted = _converter(name)(column, where)
        if converted is not column:
            frame[name] = converted
    _check_values(frame, columns, where)
    if PREDICTION in columns:
        _check_repeats(frame, where)
    elif (repeated := frame.duplicated(list(KEYS)).to_numpy()).any():
        rows = f"{repeated.sum():,} of {len(frame):,} rows"
        note(Path(where), f"{rows} repeat the user, item and time of an earlier row; the first of each is kept")
        frame = frame[~repeated]
    return frame


def _converter(name: str) -> Callable[[pd.Series, str], pd.Series]:
    if name in KEYS:
        return of.times if name == TIME else of.ids
    if name in MAY_BE_MISSING:
        return of.predictions
    return {"ratings": of.ratings, "title": of.ids}.get(name, of.texts)


def _with_labels(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> pd.DataFrame:
    """The frame with a column for each level of its index that is called like one that is needed and not there."""
    if isinstance(frame.columns, pd.CategoricalIndex):
        frame.columns = pd.Index(list(frame.columns))
    if isinstance(frame.columns, pd.MultiIndex):
        raise InputError(
            f"{where}: its columns have {frame.columns.nlevels} levels, as in {_printable(frame.columns[0])}; give "
            f"each column one name and write the file again"
        )
    needed = (*columns, "date") if TIME in columns and TIME not in (*frame, *frame.index.names) else columns
    found = {name: level for level, name in enumerate(frame.index.names) if name in needed and name not in frame}
    if found:
        levels = {name: frame.index.get_level_values(level) for name, level in found.items()}
        return frame.reset_index(drop=True).assign(**{name: pd.Series(level) for name, level in levels.items()})
    if any(name in frame for name in frame.index.names):
        # pandas refuses to sort or group by a name that is both.
        frame.index.names = [None if name in frame else name for name in frame.index.names]
    return frame


def _with_time(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> pd.DataFrame:
    """The frame with the time from `date`, or from its one column of datetimes, where it is needed and not there."""
    if TIME not in columns or TIME in frame or not frame.columns.is_unique:
        return frame
    if "date" in frame:
        return frame.assign(**{TIME: of.times(frame["date"], where)})
    found = [name for name in frame if of.is_of_times(frame[name])]
    if len(found) > 1:
        names = ", ".join(map(_printable, found))
        raise InputError(f"{where}: no column {TIME}, and several of times ({names}); call the right one {TIME}")
    if found:
        note(Path(where), f"no column {TIME}; it is taken from column {_printable(found[0])}")
        return frame.assign(**{TIME: of.times(frame[found[0]], where)})
    return frame


def check_frame(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    """InputError unless the columns are there and hold no NaN, no repeated review and only ratings of 1 to 5."""
    check_columns(frame, columns, where)
    _check_values(frame, columns, where)
    _check_repeats(frame, where)


def check_columns(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    """InputError unless the columns are there, each once, and the table has rows."""
    if not frame.columns.is_unique:
        twice = _printable(frame.columns[frame.columns.duplicated()][0])
        raise InputError(f"{where}: column {twice} is there twice; remove one")
    missing = [column for column in columns if column not in frame]
    if missing:
        there = ", ".join(map(_printable, frame.columns[:10])) + (", ..." if len(frame.columns) > 10 else "")
        raise InputError(f"{where}: no column {', '.join(missing)}; it has {there}")
    if frame.empty:
        raise InputError(f"{where}: the table is empty")


def _check_values(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    for column in columns:
        if column not in MAY_BE_MISSING and frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise InputError(f"{where}: column {column} is empty (NaN) in row {row}; remove or fill it")
    for column in ("ratings", TIME):
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


def _check_repeats(frame: pd.DataFrame, where: str) -> None:
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
