"""Reviews that a person gives in a file: JSON lines, a JSON list, or CSV with a header."""

import csv
import io
import json
import sys
from pathlib import Path

from reason4rec.errors import InputError

COLUMNS = ("title", "rating", "text", "time", "item_id")
NUMBERS = {"rating": float, "time": int}
MOST = 20_000_000  # characters of a file


def reviews_from(path: Path) -> list[dict]:
    """The reviews in a file, or, for `-`, of the standard input; InputError names the line that is no review."""
    where = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read(MOST + 1) if str(path) == "-" else _opened(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error.reason}); write it again as UTF-8") from None
    if len(text) > MOST:
        raise InputError(f"{where}: more than {MOST:,} characters; give the last reviews alone")
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise InputError(f"{where}: no reviews in it; expected JSON lines or CSV with title, rating and text")
    if text[0] == "[":
        found = _json(text, where)
        return found if isinstance(found, list) else [found]
    if text[0] == "{":
        return [_json(line, f"{where}: line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    return _rows(text, where)


def _opened(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MOST + 1)


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from None


def _rows(text: str, where: str) -> list[dict]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = [name.strip() for name in reader.fieldnames or ()]
    if missing := [name for name in COLUMNS[:3] if name not in names]:
        raise InputError(f"{where}: no column {', '.join(missing)}; expected a header with title, rating and text")
    reader.fieldnames = names
    found = []
    try:
        for row in reader:
            values = {name: value for name in COLUMNS if (value := row.get(name)) not in (None, "")}
            found.append({name: _number(name, value, where, reader.line_num) for name, value in values.items()})
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num}: {error}") from None
    return found


def _number(name: str, value: str, where: str, line: int) -> object:
    try:
        return NUMBERS.get(name, str)(value)
    except ValueError:
        raise InputError(f"{where}: line {line}: {name} {ascii(value)[:40]} is no number") from None
