"""From raw review dumps to the three splits: read, filter, window, split, and count at every stage.

DuckDB holds the reviews' keys in bounded memory, so that the largest public dumps pass through a small machine; the
texts are read in a second pass, only those of the reviews that are left. Source of the filter and the split: paper,
section on data; where it is silent, the rule is ours and said.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from reason4rec.data import dumps
from reason4rec.data.dumps import Dump, Fields
from reason4rec.data.schema import REVIEW_COLUMNS
from reason4rec.errors import InputError

NAMES = {  # our column: the names that it has in Amazon's dumps of 2014 and 2018, of 2023, in Yelp's, and our own
    "user_id": ("reviewerID", "user_id"),
    "item_id": ("parent_asin", "asin", "business_id", "item_id"),  # 2023: titles are by parent, an asin is one variant
    "ratings": ("overall", "rating", "stars", "ratings"),
    "reviews": ("reviewText", "text", "reviews"),
    "unixReviewTime": ("unixReviewTime", "timestamp", "date"),
}
TITLES = {"item_id": NAMES["item_id"], "title": ("title", "name")}
KEYS = ("user_id", "item_id", "ratings", "unixReviewTime")
MILLISECONDS = 10**11  # a time above this is in milliseconds
LATEST = 4_102_444_800  # the year 2100 in unix seconds; a later time is none
PER_BROKEN = 1_000  # a dump with more than one broken line in so many is refused
SHOWN = 10  # broken lines that a message names
MEMORY = "2GB"  # of the engine; beyond it, it uses the disk


@dataclass(frozen=True)
class Reading:
    """What a dump held: its lines but blank ones, how many are broken, and the first of those with their faults."""

    dump: Dump
    lines: int
    broken: int
    faults: dict[int, str]


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
    """The three splits, what the dumps of reviews and of metadata held, and the counts at each stage before them."""

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    readings: list[Reading]
    stages: dict[str, Stage]
    untitled: int


def preprocess(
    reviews: Path,
    metadata: Path | None,
    scratch: Path,
    core: int = 5,
    months: int | None = None,
    window_first: bool = False,
    fields: Fields = NAMES,
    limit: int | None = None,
) -> Splits:
    """Raw reviews to splits: repeats resolved, core filter and window, then the split.

    The filter comes first unless `window_first`. That is inferred: with fewer than five reviews a user, the paper's
    Book and Yelp cannot have been filtered last. `fields` are the names of our columns in the dump; the first `limit`
    lines of it are read. `scratch` is a folder that is emptied, used where memory is short, and removed.
    """
    stages = {}
    with engine(scratch) as db:
        readings = [read_keys(db, reviews, fields, limit)]
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
                raise InputError(f"{readings[0].dump.name}: no review is left after {name}; pass a smaller --core")
        read_kept(db, readings[0].dump, fields, limit)
        if not db.execute("SELECT bool_or(reviews != '') FROM reviews").fetchall()[0][0]:
            names = " or ".join(fields["reviews"])
            raise InputError(f"{readings[0].dump.name}: no review has a text as {names}; say --columns reviews=NAME")
        if metadata is not None:
            readings.append(read_titles(db, metadata))
        without = untitled(db)
        if (metadata is not None or "title" in fields) and without == stage(db).items:
            where = readings[-1].dump.name if metadata is not None else f"--columns title={fields['title'][0]}"
            raise InputError(f"{where}: no item of the reviews has a title there; is it the right one?")
        return Splits(*split(kept_reviews(db)), readings, stages, without)


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
        raise InputError(
            f"{str(error).splitlines()[0]}: more than {MEMORY} is needed at once; keep fewer reviews (a larger --core)"
        ) from error
    except duckdb.IOException as error:
        raise InputError(f"{scratch}: no room to work in ({str(error).splitlines()[0]}); free the disk") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fields_of(columns: str) -> Fields:
    """The names of our columns in a dump: the known ones, and those given as `user_id=UserId,item_id=ProductId`.

    `title` may be given too; the reviews of the known dumps carry no title of their item.
    """
    ours = (*NAMES, "title")
    given = [pair.partition("=")[::2] for pair in columns.split(",")] if columns else []
    for name, theirs in given:
        if name not in ours or not theirs:
            raise InputError(f"--columns: {name}={theirs} is no NAME=THEIRS with NAME one of {', '.join(ours)}")
    return NAMES | {name: (theirs,) for name, theirs in given}


def read_keys(db: duckdb.DuckDBPyConnection, path: Path, fields: Fields, limit: int | None = None) -> Reading:
    """Reads a dump of reviews into the table `kept`: line number, user and item as numbers, rating, unix seconds.

    Broken lines stay out. InputError if there are more than 1 in 1,000, or no reviews at all.
    """
    dump = dumps.find(path, {name: fields[name] for name in KEYS})
    said = {name: _quoted(" or ".join(names)) for name, names in fields.items()}
    reading = _read(
        db,
        dump,
        _columns(fields, *KEYS),
        f"""
        WHEN user_id IS NULL THEN 'no ' || {said["user_id"]}
        WHEN item_id IS NULL THEN 'no ' || {said["item_id"]}
        WHEN ratings IS NULL OR ratings NOT BETWEEN 1 AND 5 THEN 'no rating of 1 to 5 as ' || {said["ratings"]}
        WHEN unixReviewTime IS NULL OR unixReviewTime NOT BETWEEN 0 AND {LATEST}
            THEN 'no time as ' || {said["unixReviewTime"]}
        """,
        limit,
    )
    db.execute(
        """
        CREATE TABLE users AS SELECT user_id, row_number() OVER () AS "user" FROM (SELECT DISTINCT user_id FROM read);
        CREATE TABLE items AS SELECT item_id, row_number() OVER () AS item FROM (SELECT DISTINCT item_id FROM read);
        CREATE TABLE kept AS SELECT number, "user", item, ratings, unixReviewTime
            FROM read JOIN users USING (user_id) JOIN items USING (item_id) WHERE fault IS NULL;
        DROP TABLE read; DROP TABLE users; DROP TABLE items;
        """
    )
    return reading


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
    return Stage(reviews, users, items, {_rating(rating): n for rating, n in ratings}, first, last)


def stage_of(part: pd.DataFrame) -> Stage:
    """The counts of the reviews in a split."""
    ratings = part["ratings"].value_counts().sort_index()
    return Stage(
        reviews=len(part),
        users=part["user_id"].nunique(),
        items=part["item_id"].nunique(),
        by_rating={_rating(rating): int(n) for rating, n in ratings.items()},
        first=int(part["unixReviewTime"].min()),
        last=int(part["unixReviewTime"].max()),
    )


def read_kept(db: duckdb.DuckDBPyConnection, dump: Dump, fields: Fields, limit: int | None = None) -> None:
    """Reads a dump again, for the ids and texts of the reviews that are kept, into the table `reviews`."""
    columns = _columns(fields, "user_id", "item_id", "title", "reviews")
    with _lines(db, dump, limit):
        db.execute(
            f"""
            CREATE TABLE texts AS SELECT number, user_id, item_id, title, reviews
            FROM ({_extracted(columns, "SEMI JOIN kept USING (number)")})
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


def read_titles(db: duckdb.DuckDBPyConnection, path: Path) -> Reading:
    """Gives the items in `reviews` their titles in a metadata dump; the first in the file counts.

    InputError if more than 1 in 1,000 lines are broken.
    """
    dump = dumps.find(path, TITLES, unlike=NAMES["user_id"])
    said = _quoted("no " + " or ".join(TITLES["item_id"]))
    reading = _read(db, dump, _columns(TITLES, *TITLES), f"WHEN item_id IS NULL THEN {said}")
    db.execute(
        """
        UPDATE reviews SET title = titles.title
        FROM (SELECT item_id, min_by(title, number) AS title FROM read WHERE title IS NOT NULL GROUP BY item_id) titles
        WHERE reviews.item_id = titles.item_id;
        DROP TABLE read;
        """
    )
    return reading


def untitled(db: duckdb.DuckDBPyConnection) -> int:
    """The number of items in `reviews` without a title."""
    items = "SELECT item_id FROM reviews GROUP BY item_id HAVING count(title) = 0"
    return db.execute(f"SELECT count(*) FROM ({items})").fetchall()[0][0]


def kept_reviews(db: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The reviews as a frame of the contract's columns, in no order.

    An item has one title, the first in the file; without any it is called by its id (our decision). Ratings are
    float64, times int64, all else texts.
    """
    return db.execute(
        f"""
        SELECT {", ".join(REVIEW_COLUMNS)} FROM (SELECT * EXCLUDE (title) FROM reviews)
        JOIN (SELECT item_id, coalesce(min_by(title, number), item_id) AS title FROM reviews GROUP BY item_id)
            USING (item_id)
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


def _read(
    db: duckdb.DuckDBPyConnection, dump: Dump, columns: Sequence[str], faults: str, limit: int | None = None
) -> Reading:
    """Reads columns of a dump into the table `read` and judges its lines."""
    with _lines(db, dump, limit):
        db.execute(
            f"""
            CREATE TABLE read AS SELECT * EXCLUDE (found),
                CASE WHEN found IS NULL THEN 'not a record' {faults} END AS fault
            FROM ({_extracted(columns)})
            """
        )
    lines, broken = db.execute("SELECT count(*), count(fault) FROM read").fetchall()[0]
    shown = f"SELECT number, fault FROM read WHERE fault IS NOT NULL ORDER BY number LIMIT {SHOWN}"
    reading = Reading(dump, lines, broken, dict(db.execute(shown).fetchall()))
    if broken * PER_BROKEN > lines:
        raise InputError(
            f"{broken_lines(reading)}; more than 1 in {PER_BROKEN:,} is no dump to trust: mend it, fetch it again, or "
            f"name its fields with --columns"
        )
    if not lines:
        raise InputError(f"{dump.name}: nothing in it")
    return reading


def broken_lines(reading: Reading) -> str:
    """How many lines of a dump are broken, and which, in words."""
    shown = ", ".join(f"line {number}: {fault}" for number, fault in reading.faults.items())
    more = ", ..." if reading.broken > len(reading.faults) else ""
    return f"{reading.dump.name}: {reading.broken:,} of {reading.lines:,} lines are broken ({shown}{more})"


@contextmanager
def _lines(db: duckdb.DuckDBPyConnection, dump: Dump, limit: int | None = None) -> Iterator[None]:
    """Makes a dump the view `lines` of one query, and gives its own complaint where reading it fails."""
    complaints = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from dumps.batches(dump, limit)
        except (InputError, OSError) as error:
            complaints.append(error)
            raise

    db.register("lines", pa.RecordBatchReader.from_batches(dumps.SCHEMA, batches()))
    try:
        yield
    except duckdb.Error as error:
        raise (complaints[0] if complaints else error) from None
    finally:
        db.unregister("lines")


def _columns(fields: Fields, *wanted: str) -> list[str]:
    """SQL of our columns from a line of JSON, in which `found` are the values of all their names."""
    columns, pointers = [], []
    for name in wanted:
        names = fields.get(name, ())
        values = [f"found[{len(pointers) + k}]" for k in range(1, len(names) + 1)]
        pointers += ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
        value = f"coalesce({', '.join(values)})" if values else "NULL"
        columns.append(f"{_as(name, value)} AS {name}")
    return [f"TRY(json_extract_string(line, [{', '.join(map(_quoted, pointers))}])) AS found", *columns]


def _as(name: str, value: str) -> str:
    """SQL of a column from its value as text."""
    if name in ("user_id", "item_id"):
        listed = f"{value}[1] IN ('[', '{{') AND json_valid({value})"  # an id may be in brackets
        return f"CASE WHEN {value} != '' AND NOT ({listed}) THEN {value} END"
    if name == "ratings":
        return f"TRY_CAST({value} AS DOUBLE)"
    if name == "reviews":
        return f"coalesce({value}, '')"
    if name == "title":
        return rf"nullif(trim(regexp_replace({value}, '[\s\x0b\x1c-\x1f\x85\p{{Z}}]+', ' ', 'g')), '')"
    # A date without marks would pass for seconds, and the engine takes words such as "epoch" for times.
    date = rf"regexp_full_match({value}, '(19|20)\d\d[01]\d[0-3]\d|[a-zA-Z]+')"
    time = (
        f"CASE WHEN NOT {date} THEN coalesce(TRY_CAST({value} AS DOUBLE), epoch(TRY_CAST({value} AS TIMESTAMPTZ))) END"
    )
    return f"TRY_CAST(floor(CASE WHEN {time} > {MILLISECONDS} THEN {time} / 1000 ELSE {time} END) AS BIGINT)"


def _extracted(columns: Sequence[str], only: str = "") -> str:
    found, *others = columns
    return f"""
        SELECT number, found, {", ".join(others)} FROM (
            SELECT number, {found} FROM lines {only} WHERE line IS NULL OR NOT regexp_full_match(line, '\\s*')
        )
    """


def _rating(rating: float) -> str:
    return repr(float(rating)).removesuffix(".0")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
