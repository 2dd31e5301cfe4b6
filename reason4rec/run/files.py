"""Every file that a step reads or writes: its name, its columns, reading it safely, writing it whole.

A pickle is read by an unpickler that may build frames, lists, strings, numbers and dates and nothing else, whatever
pandas (2.2.2 to 3.x) wrote it. It is written beside its place and moved there, so it is never half there, and a
record `FILE.json` beside it says from which inputs, settings, seed and versions it came. What is made here is the
user's alone: files are of mode 0600 and folders of 0700, those that were there keep theirs. File and column names are
those of the paper's repository, so that its pre-processed pickles can be put in their places.
"""

import gzip
import hashlib
import importlib.metadata
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reason4rec.errors import InputError
from reason4rec.run.safe_pickle import SafeUnpickler

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "pandas", "numpy", "duckdb", "openai")


@dataclass(frozen=True)
class Artifact:
    """A file of a dataset's folder: its path in it, the columns of its frame (none: a list), and who writes it."""

    path: str
    columns: tuple[str, ...]
    written_by: str


def read_pickle(path: Path) -> object:
    """The frame or list in a pickle; InputError if it is missing, truncated, or holds anything but plain data."""
    try:
        return SafeUnpickler(path.read_bytes()).load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        # A damaged or hostile pickle can fail in any function here, with any exception.
        reason = str(error) or "it ends too early"
        raise InputError(
            f"{path}: not a whole pickle of plain data ({reason}); fetch or write it again, and open no pickle that "
            f"you do not trust"
        ) from error


def draft_path(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def atomic_write(path: Path, made_from: dict | None = None) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well and vanishes when it does not.

    With `made_from`, a record is written just before, so that a file without one was put there by a person.
    """
    make_folder(path.parent)
    draft = draft_path(path)
    try:
        # One that a killed run left may be open to others, and a mode is given only to a new file.
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        if made_from is not None:
            write_record(path, made_from, sha256(draft))
    except BaseException as error:
        # Without the draft that a record speaks of, the file in place would pass for one that a person put there.
        if not is_due(path):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        raise
    # Cut off here, the draft that the record speaks of is still there, and `settle` puts it in its place.
    draft.replace(path)


def is_due(path: Path) -> bool:
    """Whether the draft of a file or folder is whole and recorded, and only has to take its place."""
    draft = draft_path(path)
    if not draft.exists():
        return False
    record = read_record(path)
    return record is not None and record["sha256"] == sha256(draft)


def recover(path: Path) -> None:
    """Ends what a killed run left of a file or folder: a draft that is due takes its place, any other is removed."""
    draft = draft_path(path)
    if is_due(path):
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
    for left in (draft, draft_path(record_path(path))):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it that are missing, for the user alone."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def write_text(path: Path, text: str, made_from: dict | None = None) -> None:
    """Writes a text file whole or not at all."""
    with atomic_write(path, made_from) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json_lines(path: Path, records: list[dict], made_from: dict | None = None) -> None:
    """Writes a gzipped file of JSON lines whole or not at all; the same records give the same bytes."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with atomic_write(path, made_from) as draft:
        draft.write_bytes(gzip.compress(text.encode(), mtime=0))


def write_pickle(path: Path, content: pd.DataFrame | list[dict], made_from: dict | None = None) -> None:
    """Writes a frame or list whole or not at all."""
    with atomic_write(path, made_from) as draft, draft.open("wb") as file:
        pickle.dump(content, file, protocol=5)


def sha256(path: Path) -> str:
    """The sha256 of a file, or of the names and contents of the files directly in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    return hashlib.sha256("".join(f"{p.name}:{sha256(p)}\n" for p in files).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of the packages that can change a result."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def record_path(path: Path) -> Path:
    """Where the record of an output stands: beside it."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path) -> dict | None:
    """The record of an output, or None if there is none (a file that a person put there)."""
    try:
        record = json.loads(record_path(path).read_text(encoding="utf-8"))
        parts = [record["made_from"][part] for part in ("inputs", "settings")]
        if not isinstance(record["sha256"], str) or not all(isinstance(part, dict) for part in parts):
            raise TypeError("no sha256, inputs or settings in it")
        return record
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{record_path(path)}: not a record ({error}); remove it") from error


def write_record(path: Path, made_from: dict, content_sha256: str) -> None:
    """Writes the record of an output: its sha256, the inputs and settings it was made from, and the versions."""
    record = {"sha256": content_sha256, "made_from": made_from, "versions": versions()}
    write_text(record_path(path), json.dumps(record, indent=1, sort_keys=True) + "\n")
