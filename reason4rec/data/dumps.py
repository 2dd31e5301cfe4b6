"""A raw dump, whatever it is packed in and however it is written, as numbered lines of JSON in Arrow batches.

Packed: plain, gzip, zip, tar, and these in each other (Yelp ships a tar). Written: lines of JSON, lines of Python
literals (Amazon's metadata of 2014), CSV with a header. All of it is told from the content and never from the name of
a file; of an archive, the first file that holds what is asked for is read. Memory does not grow with the dump, nor
with what a small hostile one unpacks to: that only takes time.
"""

import ast
import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from reason4rec.errors import InputError
from reason4rec.run.progress import Bar

SCHEMA = pa.schema([("number", pa.int64()), ("line", pa.string())])  # a line that is no text or no record is null
PART = 2**24  # bytes at a time
LONGEST = 2**26  # bytes of a line
ROWS = 20_000  # lines at a time where Python has to rewrite them, together not much longer than a part
HEAD = 100  # lines that tell how a file is written,
HEAD_BYTES = 2**24  # of which no more is read
LITERAL = 2**18  # characters of a line of literals; Python takes hundreds of times their memory to read them
DEEPEST = 4  # packings in each other
NOTES = (b"L", b"K", b"x", b"g", b"X")  # types of headers of a tar that Python reads whole: long names and the like
NOTE = 2**20  # bytes of such a header
HOLES = "a file with holes, which no dump needs"
DIRECTORY = 2**24  # bytes that are asked of a zip at once, such as its directory
DELIMITERS = (",", "\t", ";")
# Half a character (a lone surrogate) is no text to the engine; cut-off reviews end in one.
HALVES = re.compile(
    rb"\\u[dD](?:[89abAB]..(?:(?!\\u[dD][c-fC-F])|(?<=\\\\u[dD][89abAB]..))"
    rb"|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD][c-fC-F]))",
    re.DOTALL,
)
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
DAMAGED = (EOFError, UnicodeError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, zlib.error)

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Dump:
    """Where records lie and how they are written: the file, the one in it that is read (empty: itself), the form.

    `form` is `JSON lines`, `Python literals` or `CSV`; `delimiter` is that of CSV.
    """

    path: Path
    member: str
    form: str
    delimiter: str = ""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        # An archive may call a file as it likes, and this goes to a terminal.
        shown = "".join(character if character.isprintable() else "?" for character in self.member[:200])
        return f"{self.path}: {shown}" if shown else str(self.path)


def find(path: Path, needed: Fields, unlike: Sequence[str] = ()) -> Dump:
    """The records in a dump that have one name of each of the `needed` fields, and none of those in `unlike`.

    Only an archive is searched for them: a single file is taken as what it was given for, and its lines are judged
    one by one. InputError names a file that is missing, damaged or of no known form.
    """
    with _reading(path, quiet=True) as files:
        for member, stream in files:
            lines = _head(stream)
            for form, delimiter, fields in _forms(lines):
                fits = all(fields & set(names) for names in needed.values()) and not fields & set(unlike)
                if fits or (not member and form != "CSV" and not fields & set(unlike)):
                    return Dump(path, member, form, delimiter)
    names = "; ".join(f"{ours}: {' or '.join(names)}" for ours, names in needed.items())
    raise InputError(
        f"{path}: no JSON lines, Python literals or CSV with these fields in it: {names}; "
        "--columns gives the names in a file of reviews"
    )


def batches(dump: Dump, limit: int | None = None) -> Iterator[pa.RecordBatch]:
    """The lines of a dump, rewritten as JSON where they are not, with their numbers in the file, counted from 1.

    At most `limit` lines are read. Blank lines come too. InputError names a damaged or cut off file.
    """
    with _reading(dump.path) as files:
        stream = next((stream for member, stream in files if member == dump.member), None)
        if stream is None:
            raise InputError(f"{dump.path}: {dump.member} is no longer in it")
        rewrite = {"JSON lines": _json_lines, "Python literals": _literal_lines, "CSV": _csv_lines}[dump.form]
        left = limit
        for numbers, lines in rewrite(stream, dump):
            size = len(lines) if left is None else min(left, len(lines))
            yield pa.record_batch([pa.array(numbers[:size], pa.int64()), lines[:size]], schema=SCHEMA)
            if left is not None and not (left := left - size):
                return
        for _ in files:  # damage behind the lines is damage too
            pass


@contextmanager
def _reading(path: Path, quiet: bool = False) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    """The plain files of a dump, with a bar over its bytes."""
    try:
        bar = Bar(path.name, path.stat().st_size, "B", quiet, unit_scale=True)
        with bar, io.BufferedReader(_Counted(path, bar), 2**20) as file:
            yield _plain(file, "")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; 0_Data/1_download.py says where to get it") from None
    except RuntimeError as error:  # a password, or a way of packing that Python does not know
        raise InputError(f"{path}: cannot be unpacked here ({error}); unpack it first") from error
    except DAMAGED as error:
        raise InputError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a file, or fetch it again"
        ) from error


class _Counted(io.FileIO):
    """A file that tells a bar how far it was read."""

    def __init__(self, path: Path, bar: Bar):
        super().__init__(path)
        self.bar = bar

    def readinto(self, part: memoryview) -> int:
        count = super().readinto(part)
        self.bar.update(max(0, self.tell() - self.bar.n))
        return count


class _Asked:
    """A file that is never asked for much at once: a zip says how long its directory is, and Python reads it whole."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self.seekable, self._read = file.seek, file.tell, file.seekable, file.read

    def read(self, size: int = -1) -> bytes:
        if size > DIRECTORY:
            raise zipfile.BadZipFile(f"it announces a part of {size:,} bytes")
        return self._read(DIRECTORY if size < 0 else size)


class _Header(tarfile.TarInfo):
    """A header of a tar without long notes and without maps of holes, both of which Python reads whole."""

    @classmethod
    def frombuf(cls, *given: object) -> tarfile.TarInfo:
        header = super().frombuf(*given)
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(HOLES)
        if header.type in NOTES and header.size > NOTE:
            raise tarfile.ReadError(f"it announces a name or note of {header.size:,} bytes")
        return header

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError(HOLES)


def _plain(stream: BinaryIO, name: str, depth: int = 0) -> Iterator[tuple[str, BinaryIO]]:
    start = stream.peek(512)
    packed = start[:2] == b"\x1f\x8b"
    # A tar is no file to search.
    zipped = start[:4] == b"PK\x03\x04" and not isinstance(stream, tarfile.ExFileObject)
    tarred = start[257:265] in (b"ustar\x0000", b"ustar  \x00")
    if depth == DEEPEST and (packed or zipped or tarred):
        raise NotImplementedError(f"packed in each other more than {DEEPEST} deep")
    if packed:
        yield from _plain(gzip.GzipFile(fileobj=stream, mode="rb"), name, depth + 1)
    elif zipped:
        with zipfile.ZipFile(_Asked(stream)) as archive:
            for member in archive.infolist():
                if member.filename.endswith("/"):
                    continue
                # The other ways unpack any amount at once.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise NotImplementedError("a file in it is neither stored nor deflated")
                with archive.open(member) as file:
                    yield from _plain(file, f"{name}/{member.filename}".lstrip("/"), depth + 1)
    elif tarred:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=2**20, tarinfo=_Header) as archive:
            for member in archive:
                archive.members.clear()  # it would remember each
                if member.isfile():
                    yield from _plain(archive.extractfile(member), f"{name}/{member.name}".lstrip("/"), depth + 1)
        while stream.read(2**20):  # to its end, where the checksum of what the tar is packed in stands
            pass
    else:
        if start[:3] == b"\xef\xbb\xbf":
            stream.read(3)
        yield name, stream


def _head(stream: BinaryIO) -> list[str]:
    lines, room = [], min(HEAD_BYTES, LONGEST)
    while len(lines) < HEAD and 0 < len(line := stream.readline(room)) < room:
        room -= len(line)
        if line.strip():
            lines.append(line.decode("utf-8", "replace"))
    return lines


def _forms(lines: list[str]) -> Iterator[tuple[str, str, set[str]]]:
    """The forms that the first lines of a file can be read in, with the fields that they then have."""
    found = {}
    for form, parse in (("JSON lines", json.loads), ("Python literals", _literal)):
        found[form] = [
            record for line in lines if line.lstrip()[:1] == "{" and isinstance(record := _parsed(parse, line), dict)
        ]
    # Most JSON records are Python literals too, and a few literals are JSON.
    form = max(found, key=lambda form: len(found[form]))
    if found[form]:
        yield form, "", set().union(*found[form])
        return
    for delimiter in DELIMITERS if lines else ():
        yield "CSV", delimiter, set(_header(_rows(lines, delimiter)))


def _parsed(parse: object, line: str) -> object:
    try:
        return parse(line.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _literal(text: str) -> object:
    return ast.literal_eval(text) if len(text) <= LITERAL else None


def _lines(stream: BinaryIO, dump: Dump) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        if len(line) >= LONGEST:
            raise _too_long(dump, number)
        yield line


def _json_lines(stream: BinaryIO, dump: Dump) -> Iterator[tuple[np.ndarray, pa.Array]]:
    first = 1
    while part := stream.read(PART):
        if not part.endswith(b"\n"):
            part += stream.readline(LONGEST)
        part = _whole(part)
        ends = np.flatnonzero(np.frombuffer(part, np.uint8) == ord("\n")) + 1
        if not part.endswith(b"\n"):
            ends = np.append(ends, len(part))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        sizes = np.diff(offsets)
        if sizes.max() >= LONGEST:
            raise _too_long(dump, first + sizes.argmax())
        try:
            part.decode()
            lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(part))
        except UnicodeDecodeError:
            lines = pa.array([_text(part[start:end]) for start, end in zip(offsets, offsets[1:])], pa.string())
        yield np.arange(first, first + len(ends)), lines
        first += len(ends)


def _literal_lines(stream: BinaryIO, dump: Dump) -> Iterator[tuple[list[int], pa.Array]]:
    numbered = enumerate(map(_literal_as_json, _lines(stream, dump)), start=1)
    return _in_parts(numbered)


def _csv_lines(stream: BinaryIO, dump: Dump) -> Iterator[tuple[list[int], pa.Array]]:
    lines, held = _lines(stream, dump), 0

    def line() -> str:
        nonlocal held
        if held > LONGEST:
            held = 0
            raise csv.Error("a row that goes on and on")
        text = next(lines).decode("utf-8", "surrogateescape")
        held += len(text)
        return text

    def json_of(numbered: tuple[int, list[str] | None]) -> tuple[int, str | None]:
        nonlocal held
        held = 0
        return numbered[0], _row_as_json(header, numbered[1])

    rows = _rows(iter(line, None), dump.delimiter)
    header = _header(rows)
    return _in_parts(map(json_of, rows))


def _rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """The rows of CSV with the numbers of their last lines; None for each line of one whose quotes are at fault."""
    csv.field_size_limit(LONGEST)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        before = rows.line_num
        try:
            row = next(rows)
        except csv.Error:
            yield from ((number, None) for number in range(before + 1, rows.line_num + 1))
        except StopIteration:
            return
        else:
            yield rows.line_num, row


def _header(rows: Iterator[tuple[int, list[str] | None]]) -> list[str]:
    return next((row for _, row in rows if row), [])


def _in_parts(numbered: Iterable[tuple[int, str | None]]) -> Iterator[tuple[list[int], pa.Array]]:
    numbers, lines, room = [], [], PART
    for number, line in numbered:
        numbers.append(number)
        lines.append(line)
        room -= len(line or "")
        if len(lines) == ROWS or room <= 0:
            yield numbers, pa.array(lines, pa.string())
            numbers, lines, room = [], [], PART
    if lines:
        yield numbers, pa.array(lines, pa.string())


def _literal_as_json(line: bytes) -> str | None:
    if not line.strip():
        return ""
    record = _parsed(_literal, _text(line) or "")
    try:
        return _whole(json.dumps(record).encode()).decode() if isinstance(record, dict) else None
    except (TypeError, ValueError):
        return None


def _row_as_json(header: list[str], row: list[str] | None) -> str | None:
    if row == []:
        return ""
    if row is None or len(row) != len(header):
        return None
    return _text(json.dumps(dict(zip(header, row)), ensure_ascii=False).encode("utf-8", "surrogateescape"))


def _whole(part: bytes) -> bytes:
    """JSON with `?` in place of every half of a character."""
    return ESCAPES.sub(lambda escape: b"?" if escape[1] else escape[0], part) if HALVES.search(part) else part


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _too_long(dump: Dump, number: int) -> InputError:
    return InputError(f"{dump.name}: line {number} is longer than {LONGEST:,} bytes; give a file of one record a line")
