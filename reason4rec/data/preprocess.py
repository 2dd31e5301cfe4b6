"""From raw review dumps to the three splits: read, filter, window, split, and count at every stage.

DuckDB holds the reviews' keys in bounded memory, so that the largest public dumps pass through a small machine; the
texts are read in a second pass, only those of the reviews that are left. Source of the filter and the split: paper,
section on data; where it is silent, the rule is ours and said.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import duckdb
import pandas as pd

from reason4rec.data import dumps, packing, reading
from reason4rec.data import metadata as metadata_of
from reason4rec.data.catalog import STARS, as_rated
from reason4rec.data.dumps import Dump, Fields
from reason4rec.data.fields import (
    KEYS,
    LATEST,
    LONGEST_TITLE,
    NAMES,
    TITLES,
    Scale,
    columns,
    extracted,
    fields_of,
    number,
    quoted,
    resolved,
    said,
    short_title,
    wanted,
)
from reason4rec.data.packing import encoding_of
from reason4rec.data.reading import Reading, Tolerance, broken_lines
from reason4rec.data.schema import REVIEW_COLUMNS
from reason4rec.errors import InputError

__all__ = ["Reading", "Splits", "Stage", "broken_lines", "fields_of", "preprocess"]

PER_BROKEN = 1_000  # a dump with more than one broken line in so many is refused, unless another share is allowed
SHOWN = 10  # broken lines that are told
MEMORY = "2GB"  # of the engine; beyond it, it uses the disk


@dataclass(frozen=True)
class Stage:
    """The reviews at one stage: counts of reviews, users, items and ratings, unix seconds of the first and last."""

    reviews: int
    users: int
    items: int
    by_rating: dict[str, int]
    first: int | None
    last: int | None


@dataclass(frozen=True)
class Splits:
    """The three splits, what the dumps of reviews and of metadata held, and the counts at each stage before them.

    `untitled` items have no title, those of `cut` a shortened one; `notes` are what a user should know of the reading.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    readings: list[Reading]
    stages: dict[str, Stage]
    untitled: int
    cut: int = 0
    notes: tuple[str, ...] = ()
    scale: Scale = STARS


@dataclass(frozen=True)
class How:
    """How dumps are read: the encodings of reviews and of metadata (empty: UTF-8), and the scale of the ratings.

    `broken` is the largest share of broken lines (None: 1 in 1,000), `folder` where those that no message has room for
    are listed.
    """

    encodings: tuple[str, str] = ("", "")
    scale: Scale = STARS
    broken: float | None = None
    folder: Path | None = None

    @property
    def tolerance(self) -> Tolerance:
        """How broken lines are dealt with."""
        if self.broken is not None and not 0 <= self.broken <= 1:
            raise InputError(f"--broken_lines: {self.broken} is no share of 0 to 1, such as 0.05")
        share = Fraction(str(self.broken)) if self.broken is not None else Fraction(1, PER_BROKEN or 1)
        return Tolerance(share, SHOWN, self.folder)


PLAINLY = How()


def encodings_of(names: str) -> tuple[str, str]:
    """The encodings of reviews and of metadata in `latin-1` or `latin-1,utf-8`; InputError if they are none."""
    found = [encoding_of(name) for name in names.split(",")] if names else [""]
    if len(found) > 2:
        raise InputError(f"--encoding: {names[:60]!r} names more than reviews and metadata")
    return found[0], found[-1]


def preprocess(
    reviews: Path,
    metadata: Path | None,
    scratch: Path,
    core: int = 5,
    months: int | None = None,
    window_first: bool = False,
    fields: Fields = NAMES,
    limit: int | None = None,
    how: How = PLAINLY,
) -> Splits:
    """Raw reviews to splits: repeats resolved, core filter and window, then the split.

    The filter comes first unless `window_first`. That is inferred: with fewer than five reviews a user, the paper's
    Book and Yelp cannot have been filtered last. `fields` are the names of our columns in the dump; the first `limit`
    lines of it are read. `scratch` is a folder that is emptied, used where memory is short, and removed.
    """
    stages, notes = {}, []
    with engine(scratch) as db:
        titles, fields = fields, _of_reviews(fields, reviews, metadata, how)
        readings = [read_keys(db, reviews, fields, limit, how)]
        where = readings[0].dump.name
        stages["raw"] = stage(db)
        drop_repeats(db)
        stages["without repeats"] = stage(db)
        filters = [(f"{core}-core", keep_core, core)]
        if months is not None:
            filters.insert(0 if window_first else 1, (f"last {months} months", keep_last_months, months))
        for name, keep, size in filters:
            keep(db, size)
            stages[name] = stage(db)
            if not stages[name].reviews:
                raise InputError(f"{where}: no review is left after {name}; pass a smaller --core")
        read_kept(db, readings[0].dump, fields, limit)
        if not db.execute("SELECT bool_or(reviews != '') FROM reviews").fetchall()[0][0]:
            names = packing.shown(said(fields["reviews"]))
            raise InputError(
                f"{where}: no review has a text as {names}; say --columns reviews=NAME "
                f"if another column has it. Ratings alone, as in MovieLens, are not enough: put texts beside them"
            )
        if metadata is not None:
            readings.append(read_titles(db, metadata, titles, how, notes))
        without = untitled(db)
        if (metadata is not None or "title" in fields) and without == stage(db).items:
            title = f"--columns title={packing.shown(fields.get('title', ('',))[0])}"
            where = readings[-1].dump.name if metadata is not None else title
            raise InputError(f"{where}: no item of the reviews has a title there; is it the right one?")
        cut = cut_titles(db)
        if cut:
            notes.append(f"{cut:,} titles were longer than {LONGEST_TITLE} characters and are cut there")
        return Splits(*split(kept_reviews(db, how.scale)), readings, stages, without, cut, tuple(notes), how.scale)


@contextmanager
def engine(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory, which uses a folder of its own where memory is short."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(scratch)}) as db:
            db.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
            yield db
    except duckdb.OutOfMemoryException as error:
        reason = packing.shown(str(error).splitlines()[0], 120)
        raise InputError(
            f"{reason}: more than {MEMORY} is needed at once; keep fewer reviews (a larger --core)"
        ) from error
    except duckdb.IOException as error:
        reason = packing.shown(str(error).splitlines()[0], 100)
        raise InputError(f"{packing.name_of(scratch)}: no room to work in ({reason}); free the disk") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_keys(
    db: duckdb.DuckDBPyConnection, path: Path, fields: Fields, limit: int | None = None, how: How = PLAINLY
) -> Reading:
    """Reads a dump of reviews into the table `kept`: line number, user and item as numbers, rating, unix seconds.

    Broken lines stay out. InputError if there are too many, or no reviews at all.
    """
    needed = wanted(fields, *KEYS)
    dump = dumps.find(path, needed, encoding=how.encodings[0])
    names = resolved(fields, dump)
    (low, high), latest = how.scale, f"unixReviewTime NOT BETWEEN 0 AND {LATEST}"
    rated = f"no rating of {number(low)} to {number(high)} as "
    faults = [
        ("user_id IS NULL", quoted("no " + said(names["user_id"])), "raw_user_id"),
        ("item_id IS NULL", quoted("no " + said(names["item_id"])), "raw_item_id"),
        (
            f"ratings IS NULL OR ratings NOT BETWEEN {low!r} AND {high!r}",
            quoted(rated + said(names["ratings"])),
            "raw_ratings",
        ),
        (
            f"unixReviewTime IS NULL OR {latest}",
            quoted("no time as " + said(names["unixReviewTime"])),
            "raw_unixReviewTime",
        ),
    ]
    found = reading.read(db, dump, columns(names, dump, *KEYS), faults, needed, how.tolerance, limit)
    db.execute(
        """
        CREATE TABLE users AS SELECT user_id, row_number() OVER () AS "user" FROM (SELECT DISTINCT user_id FROM read);
        CREATE TABLE items AS SELECT item_id, row_number() OVER () AS item FROM (SELECT DISTINCT item_id FROM read);
        CREATE TABLE kept AS SELECT number, "user", item, ratings, unixReviewTime
            FROM read JOIN users USING (user_id) JOIN items USING (item_id) WHERE fault IS NULL;
        DROP TABLE read; DROP TABLE users; DROP TABLE items;
        """
    )
    return found


def drop_repeats(db: duckdb.DuckDBPyConnection) -> None:
    """Keeps one review per user and item: the latest, and of equally late ones the last in the file (our decision)."""
    db.execute(
        """
        CREATE OR REPLACE TABLE kept AS SELECT * FROM kept SEMI JOIN
            (SELECT max_by(number, (unixReviewTime, number)) AS number FROM kept GROUP BY "user", item) USING (number)
        """
    )


def keep_core(db: duckdb.DuckDBPyConnection, k: int) -> None:
    """Keeps the largest part in which every user and every item has at least k reviews."""
    size = None
    while size != (size := db.execute("SELECT count(*) FROM kept").fetchall()[0]):
        db.execute(
            f"""
            CREATE OR REPLACE TABLE kept AS SELECT * FROM kept
            WHERE "user" IN (SELECT "user" FROM kept GROUP BY "user" HAVING count(*) >= {k:d})
            AND item IN (SELECT item FROM kept GROUP BY item HAVING count(*) >= {k:d})
            """
        )


def keep_last_months(db: duckdb.DuckDBPyConnection, months: int) -> None:
    """Keeps the reviews of the last months before and including the last review."""
    db.execute(
        f"""
        CREATE OR REPLACE TABLE kept AS SELECT * FROM kept WHERE make_timestamp(unixReviewTime * 1000000) >=
            (SELECT make_timestamp(max(unixReviewTime) * 1000000) - to_months({months:d}) FROM kept)
        """
    )


def stage(db: duckdb.DuckDBPyConnection) -> Stage:
    """The counts of the reviews that are kept."""
    counts = 'count(*), count(DISTINCT "user"), count(DISTINCT item), min(unixReviewTime), max(unixReviewTime)'
    reviews, users, items, first, last = db.execute(f"SELECT {counts} FROM kept").fetchall()[0]
    ratings = db.execute("SELECT ratings, count(*) FROM kept GROUP BY ratings ORDER BY ratings").fetchall()
    return Stage(reviews, users, items, {number(rating): n for rating, n in ratings}, first, last)


def stage_of(part: pd.DataFrame, scale: Scale = STARS) -> Stage:
    """The counts of the reviews in a split, by their ratings on the scale of the dump."""
    ratings = part["ratings"].value_counts().sort_index()
    if scale != STARS:
        ratings.index = as_rated(ratings.index, scale).to_numpy().round(9)
    return Stage(
        reviews=len(part),
        users=part["user_id"].nunique(),
        items=part["item_id"].nunique(),
        by_rating={number(rating): int(n) for rating, n in ratings.items()},
        first=int(part["unixReviewTime"].min()),
        last=int(part["unixReviewTime"].max()),
    )


def read_kept(db: duckdb.DuckDBPyConnection, dump: Dump, fields: Fields, limit: int | None = None) -> None:
    """Reads a dump again, for the ids and texts of the reviews that are kept, into the table `reviews`."""
    kept = columns(resolved(fields, dump), dump, "user_id", "item_id", "title", "reviews")
    with reading.lines(db, dump, limit):
        db.execute(
            f"""
            CREATE TABLE texts AS SELECT number, user_id, item_id, title, reviews
            FROM ({extracted(kept, "SEMI JOIN kept USING (number)")})
            """
        )
    # Not in one statement: the engine cannot know how many lines are coming, and would hold all texts in memory.
    db.execute(
        """
        CREATE TABLE reviews AS SELECT number, user_id, item_id, title, ratings, reviews, unixReviewTime
        FROM texts JOIN kept USING (number);
        DROP TABLE texts;
        """
    )


def read_titles(
    db: duckdb.DuckDBPyConnection,
    path: Path,
    fields: Fields = NAMES,
    how: How = PLAINLY,
    notes: list[str] | None = None,
) -> Reading:
    """Gives the items in `reviews` their titles in a metadata dump, as `metadata.read` finds them."""
    return metadata_of.read(db, path, fields, how.encodings[1], how.tolerance, [] if notes is None else notes)


def _of_reviews(fields: Fields, reviews: Path, metadata: Path | None, how: How) -> Fields:
    """The names of columns in the reviews: one of the item that only the metadata has is none of theirs."""
    given = fields["item_id"]
    if metadata is None or given == NAMES["item_id"]:
        return fields
    known = fields | {"item_id": NAMES["item_id"]}
    try:
        there = set().union(*dumps.find(reviews, wanted(known, *KEYS), encoding=how.encodings[0]).first)
        needed = {"item_id": given, "title": (*fields.get("title", ()), *wanted(TITLES, "title")["title"])}
        items = set().union(*metadata_of.find(metadata, needed, how.encodings[1]).first)
    except InputError:
        return fields
    return known if not there & set(given) and items & set(given) else fields


def untitled(db: duckdb.DuckDBPyConnection) -> int:
    """The number of items in `reviews` without a title."""
    items = "SELECT item_id FROM reviews GROUP BY item_id HAVING count(title) = 0"
    return db.execute(f"SELECT count(*) FROM ({items})").fetchall()[0][0]


def cut_titles(db: duckdb.DuckDBPyConnection) -> int:
    """The number of items in `reviews` whose title is too long."""
    titles = "SELECT min_by(title, number) AS title FROM reviews GROUP BY item_id"
    return db.execute(f"SELECT count(*) FROM ({titles}) WHERE length(title) > {LONGEST_TITLE}").fetchall()[0][0]


def kept_reviews(db: duckdb.DuckDBPyConnection, scale: Scale = STARS) -> pd.DataFrame:
    """The reviews as a frame of the contract's columns, in no order.

    An item has one title, the first in the file, no longer than 200 characters; without any it is called by its id (our
    decision). Ratings of another scale are mapped to 1 to 5. They are float64, times int64, all else texts.
    """
    low, high = scale
    rating = "ratings" if scale == STARS else f"1 + (ratings - {low!r}::DOUBLE) * 4 / {high - low!r}::DOUBLE AS ratings"
    names = ", ".join(rating if name == "ratings" else name for name in REVIEW_COLUMNS)
    return db.execute(
        f"""
        SELECT {names} FROM (SELECT * EXCLUDE (title) FROM reviews)
        JOIN (SELECT item_id, coalesce({short_title("title")}, item_id) AS title FROM
            (SELECT item_id, min_by(title, number) AS title FROM reviews GROUP BY item_id)) USING (item_id)
        """
    ).df()


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
