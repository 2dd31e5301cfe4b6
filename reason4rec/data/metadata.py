"""The titles of items, from a dump of metadata."""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pandas as pd

from reason4rec.data import dumps, guess, packing, reading
from reason4rec.data.dumps import Dump, Fields
from reason4rec.data.fields import NAMES, TITLES, columns, extracted, quoted, resolved, said, wanted
from reason4rec.data.reading import Reading, Tolerance
from reason4rec.errors import InputError

SAMPLE = 100_000  # lines that tell which column is the item


def read(
    db: duckdb.DuckDBPyConnection,
    path: Path,
    fields: Fields,
    encoding: str,
    tolerance: Tolerance,
    notes: list[str],
) -> Reading:
    """Gives the items in the table `reviews` their titles in a metadata dump; the first in the file counts.

    The names in `fields` count where the file has them, and those that are known where it has not. An item whose column
    has no such name is told from the items of the reviews, with a note. InputError if too many lines are broken.
    """
    given = {name: fields[name] for name in TITLES if fields.get(name, TITLES[name]) != TITLES[name]}
    needed = {name: (*given.get(name, ()), *names) for name, names in wanted(TITLES, *TITLES).items()}
    dump = find(path, needed, encoding)
    there = set().union(*dump.first)
    names = resolved(TITLES, dump) | {name: one for name, one in given.items() if there & set(one)}
    if dump.first and not there & set(names["item_id"]) and there & set(names["title"]):
        names = names | {"item_id": (_item_column(db, dump, names["title"]),)}
        notes.append(f"{dump.name}: its column {packing.shown(names['item_id'][0])} holds the items of the reviews")
    faults = [("item_id IS NULL", quoted("no " + said(names["item_id"])), "raw_item_id")]
    found = reading.read(db, dump, columns(names, dump, *TITLES), faults, names, tolerance)
    db.execute(
        """
        UPDATE reviews SET title = titles.title
        FROM (SELECT item_id, min_by(title, number) AS title FROM read WHERE title IS NOT NULL GROUP BY item_id) titles
        WHERE reviews.item_id = titles.item_id;
        DROP TABLE read;
        """
    )
    return found


def find(path: Path, needed: Fields, encoding: str) -> Dump:
    """The metadata in a dump: records of items that have a title, and best the item by a known name."""
    try:
        return dumps.find(path, needed, NAMES["user_id"], encoding)
    except InputError as error:
        try:
            return dumps.find(path, {"title": needed["title"]}, NAMES["user_id"], encoding)
        except InputError:
            raise error from None


def _item_column(db: duckdb.DuckDBPyConnection, dump: Dump, titles: Sequence[str]) -> str:
    """The column of metadata that holds most items of the reviews; InputError if none or several do."""
    there = [name for name in dict.fromkeys(name for record in dump.first for name in record) if name not in titles]
    counts = {}
    for name in there[:50]:
        with reading.lines(db, dump, SAMPLE):
            ids = extracted(columns({"item_id": (name,)}, dump, "item_id"))
            query = f"SELECT count(DISTINCT item_id) FROM ({ids}) SEMI JOIN reviews USING (item_id)"
            counts[name] = db.execute(query).fetchall()[0][0]
    most = max(counts.values(), default=0)
    found = [name for name, count in counts.items() if count == most]
    if not most or len(found) > 1:
        raise InputError(guess.no_items(dump.name, there, found if most else []))
    return found[0]


def texts_of_items(path: Path) -> pd.DataFrame:
    """The item_id, description and details of each item in a metadata dump, as texts; the first in the file counts.

    A list is written as its parts with spaces between them, an object as its JSON without the outer braces. InputError
    where the file has no items.
    """
    dump = find(path, wanted(TITLES, *TITLES), "")
    names = resolved(TITLES, dump) | {"description": ("description",), "details": ("details", "feature", "features")}
    db = duckdb.connect()
    with reading.lines(db, dump):
        found = extracted(columns(names, dump, "item_id", "description", "details"))
        query = f"SELECT item_id, raw_description, raw_details FROM ({found}) WHERE item_id IS NOT NULL ORDER BY number"
        rows = db.execute(query).fetchall()
    if not rows:
        raise InputError(
            f"{dump.name}: no items in it by a known name ({', '.join(names['item_id'])}); name another file"
        )
    return pd.DataFrame(
        [(item, _plain(description), _plain(details)) for item, description, details in rows],
        columns=["item_id", "description", "details"],
        dtype="str",
    ).drop_duplicates("item_id")


def _plain(value: str | None) -> str:
    """A value of a dump as text: a list or an object is there as JSON."""
    try:
        read = json.loads(value) if value and value[0] in "[{" else value
    except ValueError:
        read = value
    if isinstance(read, list):
        return " ".join(part if isinstance(part, str) else json.dumps(part) for part in read)
    return json.dumps(read)[1:-1] if isinstance(read, dict) else read or ""
