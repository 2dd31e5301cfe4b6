"""From raw review dumps to the three splits: read, filter, window, split.

Reads Amazon's formats (JSON lines; metadata also as lines of Python literals) and Yelp's, plain or gzipped, recognised
from the content. Source of the filter and the split: paper, section on data; where it is silent, the rule is ours and
said.
"""

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from reason4rec.artifacts import REVIEW_COLUMNS, check_frame
from reason4rec.errors import InputError

NAMES = {  # our column: the names that it has in Amazon's dumps of 2014 and 2018, of 2023, and in Yelp's
    "user_id": ("reviewerID", "user_id"),
    "item_id": ("parent_asin", "asin", "business_id"),  # 2023: titles are by parent, an asin is one variant
    "ratings": ("overall", "rating", "stars"),
    "reviews": ("reviewText", "text"),
    "unixReviewTime": ("unixReviewTime", "timestamp", "date"),
}
MILLISECONDS = 10**11  # a time above this is in milliseconds


def read_lines(path: Path, limit: int | None = None) -> Iterator[tuple[int, dict]]:
    """The records of a file of JSON or Python-literal lines with their line numbers, counted from 1.

    InputError names a missing file or the first line that is neither.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if limit is not None and number > limit:
                    return
                if line.strip():
                    yield number, _record(line, path, number)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; 0_Data/1_download.py says where to get it") from None
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from error


def read_reviews(path: Path, limit: int | None = None) -> pd.DataFrame:
    """A frame of the reviews in a raw dump, without titles: ratings as floats, times in unix seconds."""
    rows = []
    for number, record in read_lines(path, limit):
        row = []
        for column, names in NAMES.items():
            value = next((record[name] for name in names if name in record), None)
            if value is None:
                if column != "reviews":
                    raise InputError(f"{path}: line {number} has no {' or '.join(names)}")
                value = ""
            if column == "unixReviewTime":
                value = _seconds(value)
            elif column != "ratings":
                value = _text(value, f"{path}: line {number}")
            row.append(value)
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no reviews in it")
    frame = pd.DataFrame(rows, columns=list(NAMES))
    for column, kind in (("ratings", "float64"), ("unixReviewTime", "int64")):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        wrong = ~(numbers.abs() < 1000 * MILLISECONDS).to_numpy()
        if wrong.any():
            raise InputError(f"{path}: review {int(wrong.argmax()) + 1} has no number as {column}")
        frame[column] = numbers.astype(kind)
    late = frame["unixReviewTime"] > MILLISECONDS
    frame.loc[late, "unixReviewTime"] //= 1000
    return frame


def read_titles(path: Path) -> dict[str, str]:
    """The titles of a metadata dump by item; items without one are left out."""
    titles = {}
    for _, record in read_lines(path):
        item = next((record[name] for name in NAMES["item_id"] if record.get(name)), None)
        title = record.get("title") or record.get("name")
        if item and isinstance(title, str) and title.strip():
            titles[item] = _text(" ".join(title.split()), str(path))
    return titles


def with_titles(reviews: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """The reviews with the contract's columns; an item without a title is called by its id (our decision)."""
    named = reviews.assign(title=[titles.get(item, item) for item in reviews["item_id"]])
    return named[list(REVIEW_COLUMNS)]


def without_repeats(reviews: pd.DataFrame) -> pd.DataFrame:
    """One review per user and item: the latest, and of equally late ones the last in the file (our decision)."""
    ordered = reviews.sort_values("unixReviewTime", kind="stable")
    return ordered.drop_duplicates(["user_id", "item_id"], keep="last").sort_index()


def k_core(reviews: pd.DataFrame, k: int) -> pd.DataFrame:
    """The largest part in which every user and every item has at least k reviews."""
    while True:
        users = reviews.groupby("user_id")["user_id"].transform("size")
        items = reviews.groupby("item_id")["item_id"].transform("size")
        kept = reviews[(users >= k) & (items >= k)]
        if len(kept) == len(reviews):
            return kept
        reviews = kept


def last_months(reviews: pd.DataFrame, months: int | None) -> pd.DataFrame:
    """The reviews of the last months before and including the last review; all for None."""
    if months is None or reviews.empty:
        return reviews
    times = pd.to_datetime(reviews["unixReviewTime"], unit="s")
    return reviews[times >= times.max() - pd.DateOffset(months=months)]


def split(reviews: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train, valid and test, 8:1:1 by time over all reviews; reviews of one second all go to the earlier part.

    InputError if a part would be empty.
    """
    ordered = reviews.sort_values(["unixReviewTime", "user_id", "item_id"], kind="stable").reset_index(drop=True)
    times = ordered["unixReviewTime"]
    cuts = [times.searchsorted(times.iloc[max(0, len(times) * share // 10 - 1)], side="right") for share in (8, 9)]
    parts = ordered.iloc[: cuts[0]], ordered.iloc[cuts[0] : cuts[1]], ordered.iloc[cuts[1] :]
    for name, part in zip(("train", "valid", "test"), parts):
        if part.empty:
            raise InputError(f"the {name} split would be empty: {len(reviews)} reviews at {times.nunique()} times")
    return tuple(part.reset_index(drop=True) for part in parts)


def preprocess(
    reviews: pd.DataFrame, titles: dict[str, str], core: int, months: int | None, where: str, window_first: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Raw reviews to checked splits: repeats resolved, core filter and window, then the split.

    The filter comes first unless `window_first`. That is inferred: with fewer than five reviews a user, the paper's
    Book and Yelp cannot have been filtered last. `where` names the source in errors.
    """
    named = without_repeats(with_titles(reviews, titles))
    check_frame(named, REVIEW_COLUMNS, where)
    recent = last_months(named, months) if window_first else named
    kept = last_months(k_core(recent, core), months)
    if kept.empty:
        raise InputError(f"{where}: no review is left after the {core}-core filter; pass a smaller --core")
    return split(kept)


def _text(value: object, where: str) -> str:
    """A value as text; half a character (a lone surrogate), which no UTF-8 can hold, becomes a question mark."""
    if isinstance(value, (list, dict)):
        raise InputError(f"{where} holds a {type(value).__name__} where a text is due")
    return str(value).encode("utf-8", "replace").decode()


def _seconds(time: object) -> object:
    """A time as it is, or in unix seconds where it is a date in words such as Yelp's `2018-07-07 22:09:11`."""
    if not isinstance(time, str) or "-" not in time:
        return time
    try:
        return datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return time


def _record(line: str, path: Path, number: int) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise InputError(f"{path}: line {number} is neither JSON nor a Python literal") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: line {number} is not a record")
    return record
