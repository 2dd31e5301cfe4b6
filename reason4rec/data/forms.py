"""How the records in a plain file are written, and their lines as numbered lines of JSON.

Written: lines of JSON, one JSON array of them, lines of Python literals (Amazon's metadata of 2014), CSV with a header,
Parquet. A line that is no text or no record has no JSON.
"""

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from reason4rec.data import packing
from reason4rec.data.packing import Limits
from reason4rec.data.parquet import Rows
from reason4rec.errors import InputError

DELIMITERS = (",", "\t", ";", "|")
COLONS = "::"  # MovieLens; without quotes
# Half a character (a lone surrogate) is no text to the engine; cut-off reviews end in one.
HALVES = re.compile(
    rb"\\u[dD](?:[89abAB]..(?:(?!\\u[dD][c-fC-F])|(?<=\\\\u[dD][89abAB]..))"
    rb"|[c-fC-F](?<!\\u[dD][89abAB]..\\u[dD][c-fC-F]))",
    re.DOTALL,
)
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
# What divides JSON, up to and with its next sign: between elements, within one, within a text that is cut.
TEXT = rb'"(?:[^"\\]++|\\.)*+"'
BETWEEN = re.compile(rb'(?:[^"{}\[\],]++|' + TEXT + rb')*+["{}\[\],]', re.DOTALL)
WITHIN = re.compile(rb'(?:[^"{}\[\]]++|' + TEXT + rb')*+["{}\[\]]', re.DOTALL)
QUOTED = re.compile(rb'[^"\\]*+["\\]')
ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")
QUOTE = re.compile(r'(\\+)"')

Lines = tuple[Sequence[int], pa.Array]


@dataclass(frozen=True)
class Dump:
    """Where records lie and how they are written: the file, the one in it that is read (empty: itself), the form.

    `form` is `JSON lines`, `JSON array`, `Parquet`, `Python literals` or `CSV`. Of CSV, `delimiter` divides cells;
    where it is `escaped`, a backslash stands before a quote in a cell; where it is `spaced`, spaces stand around cells.
    `encoding` is that of the text (empty: UTF-8). `first` are its first records.
    """

    path: Path
    member: str
    form: str
    delimiter: str = ""
    escaped: bool = False
    spaced: bool = False
    encoding: str = ""
    first: Sequence[dict] = field(default=(), compare=False, repr=False)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        path = packing.name_of(self.path)
        return f"{path}: {packing.shown(self.member, 60)}" if self.member else path

    @property
    def unit(self) -> str:
        """What its numbers count."""
        return "record" if self.form in ("JSON array", "Parquet") else "line"


def forms(path: Path, member: str, stream: BinaryIO, limits: Limits) -> Iterator[Dump]:
    """The forms that a file can be read in, judged by its first lines, each with the records that they then are."""
    raw, rest = _head(stream, limits)
    if array := _array(raw, rest, limits):
        yield Dump(path, member, "JSON array", first=array)
        return
    lines = [line.decode("utf-8", "replace") for line in raw]
    found = {}
    for form, parse in (("JSON lines", json.loads), ("Python literals", _literal_of(limits))):
        found[form] = [
            record for line in lines if line.lstrip()[:1] == "{" and isinstance(record := _parsed(parse, line), dict)
        ]
    # Most JSON records are Python literals too, and a few literals are JSON.
    form = max(found, key=lambda form: len(found[form]))
    if found[form]:
        yield Dump(path, member, "Parquet" if isinstance(stream, Rows) else form, first=found[form])
        return
    for delimiter in (*DELIMITERS, COLONS) if lines else ():
        dump = Dump(path, member, "CSV", delimiter, _is_escaped(lines, delimiter, limits))
        yield replace(dump, first=(records := _records(lines, dump, limits)))
        spaced = replace(dump, spaced=delimiter != COLONS)
        if (others := _records(lines, spaced, limits))[0].keys() != records[0].keys():
            yield replace(spaced, first=others)


def batches(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[Lines]:
    """The lines of a file as JSON, with their numbers, counted from 1; InputError names one that has no end."""
    write = {"JSON lines": _json_lines, "Parquet": _json_lines, "JSON array": _array_lines}
    return (write | {"Python literals": _literal_lines, "CSV": _csv_lines})[dump.form](stream, dump, limits)


def text_of(line: bytes) -> str | None:
    """A line as text, None where it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _head(stream: BinaryIO, limits: Limits) -> tuple[list[bytes], bytes]:
    """The first lines of a file that are not blank, and the start of one that is too long to be one of them."""
    lines, room = [], min(limits.head_bytes, limits.longest)
    while len(lines) < limits.head and (line := stream.readline(room)):
        if len(line) == room:
            return lines, line
        room -= len(line)
        if line.strip():
            lines.append(line)
    return lines, b""


def _parsed(parse: object, line: str) -> object:
    try:
        return parse(line.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _literal_of(limits: Limits) -> object:
    return lambda text: ast.literal_eval(text) if len(text) <= limits.literal else None


def _lines(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(limits.longest):
        number += 1
        if len(line) >= limits.longest:
            raise _too_long(dump, number, limits)
        yield line


def _json_lines(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[Lines]:
    first = 1
    while part := stream.read(limits.part):
        if not part.endswith(b"\n"):
            part += stream.readline(limits.longest)
        part = _whole(part)
        ends = np.flatnonzero(np.frombuffer(part, np.uint8) == ord("\n")) + 1
        if not part.endswith(b"\n"):
            ends = np.append(ends, len(part))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        sizes = np.diff(offsets)
        if sizes.max() >= limits.longest:
            raise _too_long(dump, first + sizes.argmax(), limits)
        try:
            part.decode()
            lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(part))
        except UnicodeDecodeError:
            lines = pa.array([text_of(part[start:end]) for start, end in zip(offsets, offsets[1:])], pa.string())
        yield np.arange(first, first + len(ends)), lines
        first += len(ends)


def _array(raw: list[bytes], rest: bytes, limits: Limits) -> list[dict]:
    """The first records of a JSON array of records; none where a file begins with no such array."""
    start = b"".join(raw) + rest
    # A line of JSON may be an array too, but is then one of others.
    if not ARRAY.match(start) or (len(raw) > 1 and _parsed(json.loads, text_of(raw[0]) or "") is not None):
        return []
    found = []
    for element in _elements(iter([start]), limits.longest):
        if isinstance(element, bytes) and isinstance(record := _parsed(json.loads, text_of(element) or ""), dict):
            found.append(record)
        if len(found) == limits.head:
            break
    return found


def _array_lines(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[Lines]:
    def lines() -> Iterator[str | None]:
        parts = iter(lambda: stream.read(min(2**20, limits.part)), b"")
        for number, element in enumerate(_elements(parts, limits.longest), start=1):
            if element is Ellipsis:
                raise _too_long(dump, number, limits)
            if element is None:
                raise EOFError("the array in it has no end")
            yield text_of(_whole(element.replace(b"\n", b" ").replace(b"\r", b" ")))

    return _in_parts(enumerate(lines(), start=1), limits)


def _elements(parts: Iterable[bytes], longest: int) -> Iterator[bytes | None]:
    """The elements of a JSON array, and what stands behind it as one more; `...` for one too long, None for no end."""
    depth, quoted, element, at = 0, False, bytearray(), 0
    for part in parts:
        start, ended = 0, depth < 0
        while not ended and (mark := (QUOTED if quoted else WITHIN if depth > 1 else BETWEEN).match(part, at)):
            at, sign = mark.end(), part[mark.end() - 1 : mark.end()]
            if quoted:
                at += sign == b"\\"  # the next one is escaped
                quoted = sign != b'"'
            elif sign == b'"':
                quoted = True
            elif sign in b"{[":
                depth += 1
                if depth == 1:
                    element, start = bytearray(), at
            elif sign in b"}]":
                depth -= 1
            if not quoted and ((sign == b"," and depth == 1) or (sign in b"}]" and depth == 0)):
                yield bytes(element) + part[start : at - 1]
                element, start = bytearray(), at
                depth, ended = (-1, True) if not depth else (depth, False)
        at = max(0, at - len(part)) if depth >= 0 else 0
        element += part[start:]
        if depth < 0:
            element = element.strip()[:100]
        if len(element) >= longest:
            yield Ellipsis
            return
    if depth >= 0:
        yield None
    elif element.strip():
        yield bytes(element)


def _literal_lines(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[Lines]:
    parse = _literal_of(limits)
    return _in_parts(
        enumerate((_literal_as_json(line, parse) for line in _lines(stream, dump, limits)), start=1), limits
    )


def _csv_lines(stream: BinaryIO, dump: Dump, limits: Limits) -> Iterator[Lines]:
    lines, held = _lines(stream, dump, limits), 0

    def line() -> str:
        nonlocal held
        if held > limits.longest:
            held = 0
            raise csv.Error("a row that goes on and on")
        text = next(lines).decode("utf-8", "surrogateescape")
        held += len(text)
        return text

    def json_of(numbered: tuple[int, list[str] | None]) -> tuple[int, str | None]:
        nonlocal held
        held = 0
        return numbered[0], _row_as_json(header, numbered[1])

    rows = _rows(iter(line, None), dump, limits)
    header = _header(rows)
    return _in_parts(map(json_of, rows), limits)


def _rows(lines: Iterable[str], dump: Dump, limits: Limits) -> Iterator[tuple[int, list[str] | None]]:
    """The rows of CSV with the numbers of their last lines; None for each line of one whose quotes are at fault."""
    if dump.delimiter == COLONS:
        for number, line in enumerate(lines, start=1):
            yield number, line.rstrip("\r\n").split(COLONS) if line.strip() else []
        return
    csv.field_size_limit(limits.longest)
    lines = map(_doubled, lines) if dump.escaped else lines
    rows = csv.reader(lines, delimiter=dump.delimiter, strict=not dump.spaced, skipinitialspace=dump.spaced)
    while True:
        before = rows.line_num
        try:
            row = next(rows)
        except csv.Error:
            yield from ((number, None) for number in range(before + 1, rows.line_num + 1))
        except StopIteration:
            return
        else:
            yield rows.line_num, [cell.strip() for cell in row] if dump.spaced else row


def _doubled(line: str) -> str:
    """A line of CSV with quotes doubled where they stand behind a backslash."""
    return QUOTE.sub(lambda quote: quote[1][:-1] + '""' if len(quote[1]) % 2 else quote[0], line)


def _is_escaped(lines: list[str], delimiter: str, limits: Limits) -> bool:
    """Whether lines of CSV are rows only where quotes behind a backslash are part of a cell."""
    if delimiter == COLONS or not any(map(QUOTE.search, lines)):
        return False
    wrong = []
    for escaped in (False, True):
        rows = [row for _, row in _rows(iter(lines), Dump(Path(), "", "CSV", delimiter, escaped), limits)]
        width = next((len(row) for row in rows if row), 0)
        wrong.append(sum(row is None or len(row) != width for row in rows))
    return wrong[1] < wrong[0]


def _records(lines: list[str], dump: Dump, limits: Limits) -> list[dict]:
    """The rows of CSV that are as long as its header; the header alone as one of empty cells where none is."""
    rows = _rows(iter(lines), dump, limits)
    header = _header(rows)
    found = [dict(zip(header, row)) for _, row in rows if row is not None and len(row) == len(header)]
    return found or [dict.fromkeys(header, "")]


def _header(rows: Iterator[tuple[int, list[str] | None]]) -> list[str]:
    return next((row for _, row in rows if row), [])


def _in_parts(numbered: Iterable[tuple[int, str | None]], limits: Limits) -> Iterator[Lines]:
    numbers, lines, room = [], [], limits.part
    for number, line in numbered:
        numbers.append(number)
        lines.append(line)
        room -= len(line or "")
        if len(lines) == limits.rows or room <= 0:
            yield numbers, pa.array(lines, pa.string())
            numbers, lines, room = [], [], limits.part
    if lines:
        yield numbers, pa.array(lines, pa.string())


def _literal_as_json(line: bytes, parse: object) -> str | None:
    if not line.strip():
        return ""
    record = _parsed(parse, text_of(line) or "")
    try:
        return _whole(json.dumps(record).encode()).decode() if isinstance(record, dict) else None
    except (TypeError, ValueError):
        return None


def _row_as_json(header: list[str], row: list[str] | None) -> str | None:
    if row == []:
        return ""
    if row is None or len(row) != len(header):
        return None
    return text_of(json.dumps(dict(zip(header, row)), ensure_ascii=False).encode("utf-8", "surrogateescape"))


def _whole(part: bytes) -> bytes:
    """JSON with `?` in place of every half of a character."""
    return ESCAPES.sub(lambda escape: b"?" if escape[1] else escape[0], part) if HALVES.search(part) else part


def _too_long(dump: Dump, number: int, limits: Limits) -> InputError:
    return InputError(
        f"{dump.name}: {dump.unit} {number} is longer than {limits.longest:,} bytes; give a file of one record a line"
    )
