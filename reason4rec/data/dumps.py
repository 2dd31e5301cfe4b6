"""A raw dump, whatever it is packed in and however it is written, as numbered lines of JSON in Arrow batches.

`packing` says what it may be packed in, `forms` how it may be written. All of it is told from the content and never
from the name of a file; of an archive, the first file that holds what is asked for is read. Memory does not grow with
the dump, nor with what a small hostile one unpacks to: that only takes time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from reason4rec.data import forms, guess, packing
from reason4rec.data.fields import Fields
from reason4rec.data.forms import DELIMITERS, Dump
from reason4rec.data.packing import Limits, Source
from reason4rec.errors import InputError

__all__ = ["DELIMITERS", "Dump", "Fields", "batches", "find", "no_text"]

SCHEMA = pa.schema([("number", pa.int64()), ("line", pa.string())])  # a line that is no text or no record is null
PART = 2**24  # bytes at a time
LONGEST = 2**26  # bytes of a line
ROWS = 20_000  # lines at a time where Python has to rewrite them, together not much longer than a part
HEAD = 100  # lines that tell how a file is written,
HEAD_BYTES = 2**24  # of which no more is read
LITERAL = 2**18  # characters of a line of literals; Python takes hundreds of times their memory to read them
DEEPEST = 4  # packings in each other
NOTE = 2**20  # bytes of a header of a tar that Python reads whole
DIRECTORY = 2**24  # bytes that are asked of a zip at once, such as its directory


def find(path: Path, needed: Fields, unlike: Sequence[str] = (), encoding: str = "") -> Dump:
    """The records in a dump that have one name of each of the `needed` fields, and none of those in `unlike`.

    Only an archive is searched for them: a single file is taken as what it was given for, and its lines are judged
    one by one. InputError names a file that is missing, damaged or of no known form.
    """
    nearest = None
    for dump in _candidates(path, encoding):
        there = set().union(*dump.first)
        fits = all(there & set(names) for names in needed.values())
        # A line that is no record of ours is one that is broken, where the file can be nothing else.
        judged = not dump.member and dump.form in ("JSON lines", "Python literals")
        if (fits or judged) and not there & set(unlike):
            return dump
        if not dump.member and (nearest is None or len(there) > len(set().union(*nearest.first))):
            nearest = dump
    raise InputError(guess.answer(packing.name_of(path), nearest.first if nearest else (), needed, unlike))


def batches(dump: Dump, limit: int | None = None) -> Iterator[pa.RecordBatch]:
    """The lines of a dump, rewritten as JSON where they are not, with their numbers in the file, counted from 1.

    At most `limit` lines are read. Blank lines come too. InputError names a damaged or cut off file.
    """
    limits = _limits()
    with packing.reading(Source(dump.path, limits, dump.encoding)) as files:
        stream = next((stream for member, stream in files if member == dump.member), None)
        if stream is None:
            raise InputError(f"{packing.name_of(dump.path)}: {packing.shown(dump.member)} is no longer in it")
        left = limit
        for numbers, lines in forms.batches(stream, dump, limits):
            size = len(lines) if left is None else min(left, len(lines))
            yield pa.record_batch([pa.array(numbers[:size], pa.int64()), lines[:size]], schema=SCHEMA)
            if left is not None and not (left := left - size):
                return
        for _ in files:  # damage behind the lines is damage too
            pass


def no_text(dump: Dump) -> tuple[int, str] | None:
    """The number of the first line of a file that is not UTF-8, and where it ceases to be; None where all are."""
    if dump.form == "Parquet":
        return None
    with packing.reading(Source(dump.path, _limits(), dump.encoding), quiet=True) as files:
        stream = next(stream for member, stream in files if member == dump.member)
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST), b""), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                start = error.start
                return number, packing.shown(repr(line[max(0, start - 20) : start + 5])[1:], 60)
    return None


def _candidates(path: Path, encoding: str) -> Iterator[Dump]:
    limits = _limits()
    with packing.reading(Source(path, limits, encoding), quiet=True) as files:
        for member, stream in files:
            for dump in forms.forms(path, member, stream, limits):
                yield replace(dump, encoding=encoding)


def _limits() -> Limits:
    return Limits(PART, LONGEST, ROWS, HEAD, HEAD_BYTES, LITERAL, DEEPEST, NOTE, DIRECTORY)
