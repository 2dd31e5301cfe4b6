"""Sequences of what users chose, for next-item recommendation: their table, where it comes from, and their cases.

A sequence holds the items of one user, oldest first and each once. Its last item is the target of the test, the one
before it that of the validation, and the one before that of the training (leave-two-out, as in the released
data); the history of a target is all that comes before it.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_integer_dtype, is_numeric_dtype

from reason4rec.data import dumps, packing
from reason4rec.data.dumps import Dump
from reason4rec.data.schema import REVIEW_COLUMNS, TIME, check_columns
from reason4rec.errors import InputError

SEQUENCE_COLUMNS = ("user_id", "item_id", "position", "ratings", "reviews")
ITEM_COLUMNS = ("item_id", "title", "description", "details")
SPLITS = ("train", "valid", "test")
SHORTEST = 4  # items of a sequence: three targets, and one item before the first of them
LONGEST = 20  # items of a sequence, in the released data
LEAST_RATING = 4.0  # of an item that counts as liked, in stars; our decision


@dataclass(frozen=True, slots=True)
class Event:
    """An item that a user chose, with the rating (1 to 5) and the review, None and empty where there are none."""

    item_id: str
    rating: float | None
    review: str


@dataclass(frozen=True, slots=True)
class Case:
    """A target of a user and the history before it, oldest first and never empty."""

    user_id: str
    history: tuple[Event, ...]
    target: Event


def from_reviews(
    reviews: pd.DataFrame,
    least_rating: float = LEAST_RATING,
    shortest: int = SHORTEST,
    longest: int = LONGEST,
) -> pd.DataFrame:
    """Sequences of what users liked, a table with SEQUENCE_COLUMNS, from one with REVIEW_COLUMNS of all splits.

    A review of `least_rating` stars or more is a choice, and the first one of a user and item counts. Reviews of the
    same time keep the order of the table. Of more than `longest` items the last are taken, and users of fewer than
    `shortest` are left out. InputError says which option to change where no user is left. Our decisions.
    """
    if not SHORTEST <= shortest <= longest:
        raise InputError(
            f"--shortest {shortest} and --longest {longest} are no lengths of sequences: the shortest is {SHORTEST} or "
            f"more, and the longest no less than it"
        )
    liked = reviews.loc[reviews["ratings"] >= least_rating, list(REVIEW_COLUMNS)]
    chosen = liked.sort_values(TIME, kind="stable").drop_duplicates(["user_id", "item_id"])
    sizes = chosen.groupby("user_id")["item_id"].transform("size")
    kept = chosen[sizes >= shortest]
    if kept.empty:
        most = int(sizes.max()) if len(sizes) else 0
        raise InputError(
            f"no user has {shortest} items with a rating of {least_rating:g} or more (the most is {most}): "
            + (f"pass --shortest {most}" if most >= SHORTEST else "pass a lower --least_rating, or give more reviews")
        )
    by_user = kept.iloc[np.argsort(pd.factorize(kept["user_id"])[0], kind="stable")]
    from_end = by_user.groupby("user_id", sort=False).cumcount(ascending=False)
    return _table(by_user[from_end < longest])


def read_ready(sequences: Path, items: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables with SEQUENCE_COLUMNS and ITEM_COLUMNS from ready files, lines of JSON as they are or packed.

    A line of `sequences` is `{"user", "items": [...]}`, oldest item first, with `ratings` (1 to 5) and `reviews` of
    the same length where they are known, and one of `items` is `{"item_id", "asin", "title", "description",
    "details"}`; ids are texts or whole numbers. The `item_id` of both tables is the asin, which is unique where titles
    are not. InputError names file, line and fault.
    """
    catalogue, asin_of = _read_items(items)
    read = _read_sequences(sequences, asin_of, packing.name_of(items))
    frame = pd.DataFrame(
        [(user, *one) for user, chosen in read.items() for one in chosen],
        columns=["user_id", "item_id", "ratings", "reviews"],
    )
    return _table(frame), catalogue


def cases(sequences: pd.DataFrame, split: str) -> list[Case]:
    """The case of each user in a split of SPLITS, in the order of a table that `check_sequences` has passed.

    Of a sequence s, the target is s[-3] in train, s[-2] in valid and s[-1] in test.
    """
    from_end = len(SPLITS) - SPLITS.index(split)
    ratings = sequences["ratings"].to_numpy(dtype=float)
    known = np.where(np.isnan(ratings), None, ratings.astype(object)).tolist()
    events = list(map(Event, sequences["item_id"].tolist(), known, sequences["reviews"].tolist()))
    users, starts, ends = _bounds(sequences)
    return [
        Case(user, tuple(events[start : end - from_end]), events[end - from_end])
        for user, start, end in zip(users, starts, ends)
    ]


def numbered(sequences: pd.DataFrame, item_ids: Sequence[str]) -> list[np.ndarray]:
    """The whole sequence of each user in numbers from 1: the places of its items in `item_ids`, which hold them all."""
    numbers = pd.Index(item_ids).get_indexer(pd.Index(sequences["item_id"])) + 1
    if not numbers.all():
        row = int((numbers == 0).argmax())
        raise InputError(
            f"sequences: item {_shown(sequences['item_id'].iloc[row])} in row {row} is not in the catalogue"
        )
    _, starts, ends = _bounds(sequences)
    return [numbers[start:end] for start, end in zip(starts, ends)]


def training_parts(whole: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What comes before the valid target in each sequence of `numbered`: all that may be learned."""
    return [one[: 1 - len(SPLITS)] for one in whole]


def check_sequences(frame: pd.DataFrame, where: str, item_ids: Collection[str] | None = None) -> None:
    """InputError unless it is a table of sequences; the message names file, column and row.

    A user's rows stand together, with positions 0, 1, ... and no item twice, and are SHORTEST or more. Where `item_ids`
    are given, no other item is in it.
    """
    check_columns(frame, SEQUENCE_COLUMNS, where)
    check_texts(frame, ("user_id", "item_id", "reviews"), where)
    if not is_integer_dtype(frame["position"]) or is_bool_dtype(frame["position"]):
        raise InputError(f"{where}: column position does not hold whole numbers; convert it")
    if not is_numeric_dtype(frame["ratings"]):
        raise InputError(f"{where}: column ratings does not hold numbers; convert it")
    ratings = frame["ratings"].to_numpy(dtype=float, na_value=np.nan)
    if (outside := (ratings < 1) | (ratings > 5)).any():
        row = int(outside.argmax())
        raise InputError(f"{where}: rating {ratings[row]} in row {row} is outside 1 to 5")
    users, starts, ends = _bounds(frame)
    if (again := pd.Series(users).duplicated().to_numpy()).any():
        row = int(starts[again.argmax()])
        raise InputError(f"{where}: user {_shown(users[again.argmax()])} comes again in row {row}; sort by user")
    expected = np.arange(len(frame)) - np.repeat(starts, ends - starts)
    if (wrong := frame["position"].to_numpy() != expected).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: position {frame['position'].iloc[row]} in row {row} of a user, whose next one is {expected[row]}"
        )
    _refuse_first(frame.duplicated(["user_id", "item_id"]), frame, where, "stands in that user's sequence already")
    if (short := ends - starts < SHORTEST).any():
        user = int(short.argmax())
        raise InputError(
            f"{where}: user {_shown(users[user])} in row {starts[user]} has {ends[user] - starts[user]} items, and "
            f"{SHORTEST} are needed; leave such users out"
        )
    if item_ids is not None:
        _refuse_first(~frame["item_id"].isin(item_ids), frame, where, "is not in the catalogue; add it there")


def check_items(frame: pd.DataFrame, where: str) -> None:
    """InputError unless it is a catalogue with each item once; the message names file, column and row.

    Titles may repeat, and any text but an id may be empty: the released catalogue has an item without a title.
    """
    check_columns(frame, ITEM_COLUMNS, where)
    check_texts(frame, ITEM_COLUMNS, where)
    if (blank := (frame["item_id"].str.strip() == "").to_numpy()).any():
        raise InputError(f"{where}: column item_id is blank in row {int(blank.argmax())}; remove or fill it")
    _refuse_first(frame.duplicated("item_id"), frame, where, "has an earlier row; remove one of them")


def check_texts(frame: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """InputError unless columns hold texts and nothing else."""
    for column in columns:
        if frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise InputError(f"{where}: column {column} is empty (NaN) in row {row}; remove or fill it")
        if infer_dtype(frame[column]) != "string":
            raise InputError(f"{where}: column {column} does not hold text alone; convert it")


def _refuse_first(wrong: pd.Series, frame: pd.DataFrame, where: str, why: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise InputError(f"{where}: item {_shown(frame['item_id'].iloc[row])} in row {row} {why}")


def _table(ordered: pd.DataFrame) -> pd.DataFrame:
    """A table of sequences from rows that stand in their order."""
    position = ordered.groupby("user_id", sort=False).cumcount()
    frame = ordered.assign(position=position)[list(SEQUENCE_COLUMNS)].reset_index(drop=True)
    return frame.astype({"user_id": "str", "item_id": "str", "position": "int64", "ratings": float, "reviews": "str"})


def _bounds(sequences: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The users, and where the rows of each begin and end."""
    users = sequences["user_id"].to_numpy(dtype=object)
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    return users[starts].tolist(), starts, np.append(starts[1:], len(users))


def _read_items(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """The catalogue, and the asin of each id in the file."""
    rows, asin_of, asins = [], {}, set()
    for where, record in _records(path):
        number, asin = (_key(record.get(name)) for name in ("item_id", "asin"))
        for name, key in (("item_id", number), ("asin", asin)):
            if key is None:
                raise InputError(f"{where}: no {name}, which is a text or a whole number; add it")
        if number in asin_of:
            raise InputError(f"{where}: item_id {_shown(number)} has an earlier line; remove one of them")
        if asin in asins:
            raise InputError(f"{where}: asin {_shown(asin)} has an earlier line; remove one of them")
        texts = [_text(record, name, where) for name in ITEM_COLUMNS[1:]]
        rows.append((asin, *texts))
        asin_of[number] = asin
        asins.add(asin)
    return pd.DataFrame(rows, columns=list(ITEM_COLUMNS), dtype="str"), asin_of


def _read_sequences(path: Path, asin_of: dict[str, str], catalogue: str) -> dict[str, list[tuple[str, float, str]]]:
    """The asin, rating (NaN where unknown) and review of each user's items, oldest first."""
    found: dict[str, list[tuple[str, float, str]]] = {}
    for where, record in _records(path):
        user = _key(record.get("user"))
        if user is None:
            raise InputError(f"{where}: no user, which is a text or a whole number; add it")
        if user in found:
            raise InputError(f"{where}: user {_shown(user)} has an earlier line; join the two")
        items = record.get("items")
        if not isinstance(items, list):
            raise InputError(f"{where}: no items, which are a list of ids; add it")
        if len(items) < SHORTEST:
            raise InputError(f"{where}: {len(items)} items, and {SHORTEST} are needed; leave such users out")
        chosen = [asin_of.get(_key(item)) for item in items]
        if None in chosen:
            item = items[chosen.index(None)]
            raise InputError(f"{where}: item {_shown(item)} is not in {catalogue}; add it there")
        if len(set(chosen)) < len(chosen):
            again = next(item for k, item in enumerate(items) if chosen[k] in chosen[:k])
            raise InputError(f"{where}: item {_shown(again)} is there twice; leave one of them out")
        found[user] = list(zip(chosen, *_said(record, len(items), where)))
    return found


def _said(record: dict, length: int, where: str) -> tuple[list[float], list[str]]:
    """The ratings and reviews of a sequence, NaN and empty where it has none."""
    ratings, reviews = (record.get(name) or [None] * length for name in ("ratings", "reviews"))
    for name, given in (("ratings", ratings), ("reviews", reviews)):
        if not isinstance(given, list) or len(given) != length:
            raise InputError(f"{where}: {name} are no list of {length}, one for each item; mend it or leave it out")
    for rating in ratings:
        known = isinstance(rating, (int, float)) and not isinstance(rating, bool)
        if rating is not None and not (known and 1 <= rating <= 5):
            raise InputError(f"{where}: rating {_shown(rating)} is no number of 1 to 5; mend it or leave it out")
    for review in reviews:
        if review is not None and not isinstance(review, str):
            raise InputError(f"{where}: review {_shown(review)} is no text; mend it or leave it out")
    return [np.nan if one is None else float(one) for one in ratings], [one or "" for one in reviews]


def _records(path: Path) -> Iterator[tuple[str, dict]]:
    """The records of lines of JSON, each with what to call its line."""
    dump, found = Dump(path, "", "JSON lines"), False
    for batch in dumps.batches(dump):
        for number, line in zip(*(batch[name].to_pylist() for name in ("number", "line"))):
            if line is None or line.strip():
                where, found = f"{dump.name}: line {number}", True
                yield where, _parsed(line or "", where)
    if not found:
        raise InputError(f"{dump.name}: nothing in it; give lines of JSON")


def _parsed(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{where} is no JSON object, but '{packing.shown(line.strip(), 40)}'; mend or remove it")
    return record


def _key(value: object) -> str | None:
    """An id as text, None where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _text(record: dict, name: str, where: str) -> str:
    value = record.get(name, 0)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: no {name}, which is a text, empty where it is not known; add it")
    return value or ""


def _shown(value: object) -> str:
    # A nested list of a hostile file would take long to print.
    known = isinstance(value, (str, int, float))
    return packing.shown(str(value)[:100] if known else f"a {type(value).__name__}", 40)
