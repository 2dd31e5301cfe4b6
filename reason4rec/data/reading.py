"""The lines of a dump in the engine: which of them are broken, and what is said of those."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import duckdb
import pyarrow as pa

from reason4rec.data import dumps, guess, packing
from reason4rec.data.dumps import Dump, Fields
from reason4rec.data.fields import extracted
from reason4rec.errors import LONGEST, InputError
from reason4rec.run import files

BROKEN = "broken_lines.txt"
LISTED = 10_000  # broken lines that are listed in a file, where a message has no room for them
VALUE = 60  # characters of a value that a message shows,
RECORD = 30  # and of a line
NO_RECORD = "not a record"


@dataclass(frozen=True)
class Reading:
    """What a dump held: its lines but blank ones, how many are broken, and the first of those with their faults.

    `values` are what stood there instead, where something did.
    """

    dump: Dump
    lines: int
    broken: int
    faults: dict[int, str]
    values: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tolerance:
    """How broken lines are dealt with: the largest share of them, how many are told, the folder to list more in."""

    share: Fraction | None
    shown: int
    folder: Path | None = None


def read(
    db: duckdb.DuckDBPyConnection,
    dump: Dump,
    columns: Sequence[str],
    faults: Sequence[tuple[str, str, str]],
    needed: Fields,
    tolerance: Tolerance,
    limit: int | None = None,
) -> Reading:
    """Reads columns of a dump into the table `read` and judges its lines.

    `faults` are what is wrong with a line as SQL, the words for it, and the value at fault as SQL. InputError where
    more lines are broken than are tolerated; where the file lacks a column of those `needed`, it says so.
    """
    cases = " ".join(f"WHEN {wrong} THEN {words}" for wrong, words, _ in faults)
    values = " ".join(f"WHEN {wrong} THEN {value}" for wrong, _, value in faults)
    with lines(db, dump, limit):
        db.execute(
            f"""
            CREATE TABLE read AS SELECT * EXCLUDE (found, line) REPLACE (CASE WHEN fault IS NULL THEN NULL ELSE
                left(value, {VALUE + 1}) END AS value) FROM (
                SELECT *, CASE WHEN found IS NULL THEN '{NO_RECORD}' {cases} END AS fault,
                    CASE WHEN found IS NULL THEN line {values} END AS value
                FROM ({extracted(columns)})
            )
            """
        )
    total, broken = db.execute("SELECT count(*), count(fault) FROM read").fetchall()[0]
    query = "SELECT number, fault, value FROM read WHERE fault IS NOT NULL ORDER BY number"
    found = db.execute(f"{query} LIMIT {tolerance.shown}").fetchall()
    values = {number: value for number, _, value in found if value is not None}
    reading = Reading(dump, total, broken, {number: fault for number, fault, _ in found}, values)
    if not total:
        raise InputError(f"{dump.name}: nothing in it")
    if tolerance.share is not None and broken > tolerance.share * total:
        raise InputError(_refusal(db, reading, needed, tolerance, query))
    return reading


def broken_lines(reading: Reading, end: str = "") -> str:
    """How many lines of a dump are broken, and as many of them as there is room for, in one line of words."""
    unit = reading.dump.unit
    start = f"{reading.dump.name}: {reading.broken:,} of {reading.lines:,} {unit}s are broken ("
    room = LONGEST - len(start) - len(end) - len(", ...)")
    told, valued = [], False
    for number, fault in reading.faults.items():
        words = f"{unit} {number}: {_short(fault, reading.dump)}"
        left = room - len(", ".join([*told, words]))
        if told and left < 0:
            break
        # One value tells most of what is wrong.
        if not valued and number in reading.values and left > 16:
            most = min(RECORD if fault == NO_RECORD else VALUE, left - len(", but ''"))
            words, valued = f"{words}, but '{packing.shown(reading.values[number].strip(), most)}'", True
        told.append(words)
    return f"{start}{', '.join(told)}{', ...' if reading.broken > len(told) else ''}){end}"


def _short(fault: str, dump: Dump) -> str:
    """A fault with only those names of a field that the file has."""
    what, sign, names = fault.partition(" as ")
    there = [name for name in names.split(" or ") if any(name in record for record in dump.first)]
    return f"{what} as {' or '.join(there)}" if sign and there else fault


def _refusal(db: duckdb.DuckDBPyConnection, reading: Reading, needed: Fields, tolerance: Tolerance, query: str) -> str:
    dump = reading.dump
    there = set().union(*dump.first)
    if len(there) > 1 and not all(there & set(names) for names in needed.values()):
        return guess.answer(dump.name, dump.first, needed)
    share = f"1 in {round(1 / tolerance.share):,}" if 0 < tolerance.share < 1 else f"{float(tolerance.share):g} of all"
    faults, mend = " ".join(reading.faults.values()), "mend it, name its fields (--columns)"
    if "no rating" in faults:
        mend = "give --scale LOWEST:HIGHEST, name the field (--columns)"
    elif "no time" in faults:
        mend = "write times as unix seconds or 2017-12-31"
    listed = f", see {BROKEN}" if tolerance.folder and reading.broken > 1 else ""
    ends = [
        f"; more than {share}: {mend} or allow more (--broken_lines){listed}",
        f"; {mend} or --broken_lines{listed}",
    ]
    ends.append(f"; mend it or allow more (--broken_lines){listed}")
    if NO_RECORD in faults and (alien := dumps.no_text(dump)):
        how = f"not {dump.encoding}" if dump.encoding else "not UTF-8"
        end = f"line {alien[0]} is {how} ({alien[1]}): say how it is written with --encoding"
        ends, listed = [f"; {end}, such as latin-1", f"; {end}"], ""
    whole = _messages(reading, [end.removesuffix(listed) for end in ends])
    if whole and ", ...)" not in whole[0]:
        return whole[0]
    if listed:
        _list(db, reading, tolerance.folder, query)
    return (_messages(reading, ends) or [broken_lines(reading, ends[-1])[:LONGEST]])[0]


def _messages(reading: Reading, ends: Sequence[str]) -> list[str]:
    """The messages with these ends that are short enough, those with a value at fault first."""
    messages = [broken_lines(reading, end) for end in ends]
    short = [message for message in messages if len(message) <= LONGEST]
    return sorted(short, key=lambda message: bool(reading.values) and ", but '" not in message)


def _list(db: duckdb.DuckDBPyConnection, reading: Reading, folder: Path, query: str) -> None:
    rows = db.execute(f"{query} LIMIT {LISTED}").fetchall()
    start = f"{reading.dump.name}: {reading.broken:,} of {reading.lines:,} {reading.dump.unit}s are broken\n"
    files.write_text(
        folder / BROKEN,
        start
        + "".join(
            f"{reading.dump.unit} {number}: {fault}"
            + (f", but '{packing.shown(value.strip(), VALUE)}'" if value is not None else "")
            + "\n"
            for number, fault, value in rows
        ),
    )


@contextmanager
def lines(db: duckdb.DuckDBPyConnection, dump: Dump, limit: int | None = None) -> Iterator[None]:
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
