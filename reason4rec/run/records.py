"""Provenance: what each output was made from, and whether that still holds.

`FILE.json` beside FILE holds the sha256 of the output, the sha256 of each input, the settings, and the versions of the
packages. A file without a record, or with another sha256 than its record's, was put there by a person and is kept.
This is the only place that compares records; a step and a dry run both ask here.
"""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.run.files import atomic_write, sha256, staged_path, write_text

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "pandas", "numpy", "duckdb", "openai")

Provenance = dict[str, dict]
"""`inputs`, the sha256 of each by its name; `settings`, by name; and what decides nothing, such as `execution`."""


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


def settings_of(path: Path) -> dict[str, object]:
    """The settings that an output was made with, by its record; none where there is no record."""
    record = read_record(path)
    return record["made_from"]["settings"] if record else {}


def record_of(path: Path) -> dict | None:
    """The record of a file or a folder, if it fits: else a person put the file there."""
    record = read_record(path) if path.exists() else None
    return record if record and record["sha256"] == sha256(path) else None


def write_record(path: Path, provenance: Provenance, content_sha256: str) -> None:
    """Writes the record of an output: its sha256, its provenance, and the versions."""
    record = {"sha256": content_sha256, "made_from": provenance, "versions": versions()}
    write_text(record_path(path), json.dumps(record, indent=1, sort_keys=True) + "\n")


@contextmanager
def recorded_write(path: Path, provenance: Provenance) -> Iterator[Path]:
    """A path to write an output to, which takes its place with its record, whole or not at all.

    The record comes just before the output takes its place, so that a file without one was put there by a person.
    """

    def record(staged: Path) -> None:
        write_record(path, provenance, sha256(staged))

    # Without the staged file that a record speaks of, the file in place would pass for one that a person put there.
    with atomic_write(path, record, keep=lambda: is_staged(path)) as staged:
        yield staged


def write_recorded(path: Path, content: object, provenance: Provenance) -> None:
    """Writes an output with its record, whole or not at all, in the form that the ending of the path says."""
    with recorded_write(path, provenance) as staged:
        staged.write_bytes(content if isinstance(content, bytes) else files.as_bytes(path, content))


def is_staged(path: Path) -> bool:
    """Whether the staged file or folder is whole and recorded, and only has to take its place."""
    staged = staged_path(path)
    if not staged.exists():
        return False
    record = read_record(path)
    return record is not None and record["sha256"] == sha256(staged)


def recover(path: Path) -> None:
    """Ends what a killed run left: a staged output that is whole takes its place, any other is removed."""
    staged = staged_path(path)
    if is_staged(path):
        files.take_place(path)
    for left in (staged, staged_path(record_path(path))):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


@dataclass(frozen=True)
class Status:
    """How the outputs of a step stand: whether they are there and current, and why not, or which was put there by hand.

    `changed` is empty where nothing changed or nothing is there yet; `manual` is the file that a person put there.
    """

    done: bool
    changed: str = ""
    manual: Path | None = None
    exists: bool = False


def status(
    outputs: Sequence[Path],
    provenance: Callable[[], Provenance],
    overwrite: bool = False,
    renamed: Mapping[str, str] | None = None,
    optional: Sequence[str] = (),
    free: Sequence[str] = (),
) -> Status:
    """How the outputs of a step stand against what they would be made from now; the provenance is asked for if needed.

    Settings that earlier versions recorded under another name are `renamed`; those that not every version records are
    `optional`, and are compared only where both have them; inputs that are `free` may have changed. InputError where
    only some outputs were put there by hand.
    """
    found = {path: sha256(path) for path in outputs if path.exists()}
    if not overwrite and (manual := _manual(outputs, found)):
        return Status(True, manual=manual, exists=True)
    now = provenance()
    changed = _changed(outputs, found, now, renamed or {}, optional, free)
    if not changed and not overwrite:
        return Status(True, exists=True)
    return Status(False, changed if found else "", exists=bool(found))


def put_there(outputs: Sequence[Path]) -> bool:
    """Whether a person put outputs there, which a step keeps whatever its inputs are."""
    return _manual(outputs, {path: sha256(path) for path in outputs if path.exists()}) is not None


def _manual(outputs: Sequence[Path], found: Mapping[Path, str]) -> Path | None:
    """The first output that a person put there; InputError if another one is missing."""
    manual = next((path for path in found if not _is_recorded(path, found[path])), None)
    absent = next((path for path in outputs if path not in found), None)
    if manual and absent:
        raise InputError(
            f"{manual} was put there by hand and {absent} is missing: put it there too, or pass --overwrite to make "
            f"both"
        )
    return manual


def _is_recorded(path: Path, found: str) -> bool:
    """Whether a file is as a step wrote it, or as a step that was cut off left it."""
    record = read_record(path)
    return record is not None and (record["sha256"] == found or is_staged(path))


def _changed(
    outputs: Sequence[Path],
    found: Mapping[Path, str],
    now: Provenance,
    renamed: Mapping[str, str],
    optional: Sequence[str],
    free: Sequence[str],
) -> str:
    """What differs from the time when the outputs were made; empty if nothing does."""
    for path in outputs:
        record = read_record(path)
        if record is None or found.get(path) != record["sha256"]:
            return f"{path} is missing or unfinished"
        for part in ("inputs", "settings"):
            then = {renamed.get(name, name): value for name, value in record["made_from"][part].items()}
            for name in sorted((then.keys() | now[part].keys()) - set(free)):
                both = name in then and name in now[part]
                if then.get(name) != now[part].get(name) and (both or name not in optional):
                    return f"{name} changed"
    return ""
