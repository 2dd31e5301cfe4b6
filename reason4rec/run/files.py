"""The files that steps read and write: where they lie, and writing them whole or not at all.

A file is staged beside its place and moved there, so it is never half there. What is made here is the user's alone:
files are of mode 0600 and folders of 0700, those that were there keep theirs.
"""

import functools
import gzip
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.run.packed import unpacked
from reason4rec.run.plain import NeededColumnError
from reason4rec.run.safe_pickle import SafeUnpickler

if TYPE_CHECKING:
    import pandas as pd


FRESH = 2 * 10**9  # nanoseconds in which a file may be written to again without another time of change


@dataclass(frozen=True)
class Artifact:
    """A file of a dataset's folder, or a folder: its path there, and the columns of its table (none: not a table).

    `adapter` marks the folder of an adapter, which lies among the dataset's checkpoints. `other_paths` are names that
    such a file may have instead, where it was made elsewhere. Texts that are missing in the columns that `may_be_empty`
    are read as empty ones.
    """

    path: str
    columns: tuple[str, ...] = ()
    adapter: bool = False
    other_paths: tuple[str, ...] = ()
    may_be_empty: tuple[str, ...] = ()

    def within(self, folder: Path) -> Path:
        """Where it lies in a folder; under its own name, unless only a file of another of its names is there."""
        own = folder / self.path
        others = (folder / path for path in self.other_paths)
        return own if own.exists() else next((other for other in others if other.exists()), own)


def adapter(name: str) -> Artifact:
    """The folder of an adapter among a dataset's checkpoints."""
    return Artifact(name, adapter=True)


def folder_in(root: Path, name: str, what: str) -> Path:
    """The folder of a name in a root; InputError, which says `what` has it, for one that could lie elsewhere."""
    if name in ("", ".", "..") or not name.isprintable() or {"/", "\\"} & set(name):
        raise InputError(
            f"{what} {ascii(name[:60])} is not the name of a folder in {root}: a name has no slash and no control "
            f"character, and is neither empty nor . or .."
        )
    return root / name


def read_pickle(path: Path, needed: Collection[str] | None = None) -> object:
    """The frame or list in a pickle, as it is or packed by gzip, bzip2 or xz.

    InputError if it is missing, truncated, or holds anything but plain data. Where the columns are given that are
    `needed`, others that hold something else are left out, which is printed.
    """
    try:
        content = path.read_bytes()
        whole = unpacked(content)
        unpickler = SafeUnpickler(whole, None if whole is content else len(content))
        found = unpickler.load(needed)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except NeededColumnError as error:
        raise InputError(
            f"{path}: column {error}, which is not plain data; convert the column to texts or numbers and write the "
            f"file again"
        ) from None
    except OSError as error:
        if error.filename is None:  # of a damaged archive
            raise InputError(f"{path}: not a whole pickle of plain data ({error}); fetch or write it again") from error
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        # A damaged or hostile pickle can fail in any function here, with any exception.
        reason = str(error) or "it ends too early"
        raise InputError(
            f"{path}: not a whole pickle of plain data ({reason}); fetch or write it again, and open no pickle that "
            f"you do not trust"
        ) from error
    if unpickler.left_out:
        shown = ", ".join(f"{name} ({kind})" for name, kind in list(unpickler.left_out.items())[:5])
        more = f" and {len(unpickler.left_out) - 5} more" if len(unpickler.left_out) > 5 else ""
        note(path, f"left out, as they are not needed here and hold what is not plain data: {shown}{more}")
    return found


def note(path: Path, text: str) -> None:
    """Prints a note on a file, but not again where the same file is read again."""
    _print(f"note: {path}: {text}", path.stat().st_mtime_ns)


@functools.cache
def _print(line: str, _: int) -> None:
    print(line, flush=True)


def staged_path(path: Path) -> Path:
    """Where a file or folder is written before it takes its place."""
    return path.with_name(f".{path.name}.part")


def take_place(path: Path) -> None:
    """Moves a staged file or folder to its place; a folder that was there is gone then."""
    if path.is_dir():
        shutil.rmtree(path)
    staged_path(path).replace(path)


def check_place(folder: Path) -> None:
    """InputError unless a staged folder will be able to take this place; tried with an empty one, before long work."""
    if folder.is_symlink():
        raise InputError(f"{folder}: is a link to {folder.readlink()}; remove the link, or name another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, and a folder is to be written there; move it away")
    if os.path.ismount(folder):
        raise InputError(f"{folder}: is where a disk is mounted, which cannot be replaced; name a folder inside it")
    trial = [staged_path(folder.with_name(f"{folder.name}.trial{k}")) for k in range(2)]
    try:
        make_folder(folder.parent)
        trial[0].mkdir(mode=0o700, exist_ok=True)
        trial[0].rename(trial[1])
    except OSError as error:
        raise InputError(
            f"{folder.parent}: no folder can be written and moved there ({error.strerror}); mend that, or name another "
            f"place"
        ) from error
    finally:
        for left in trial:
            with suppress(OSError):
                left.rmdir()
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: is read-only, so nothing can take its place; make it writable")


@contextmanager
def atomic_write(
    path: Path,
    record: Callable[[Path], None] | None = None,
    keep: Callable[[], bool] = lambda: False,
) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when the block ends well and vanishes when it does not.

    `record` is called with the whole staged file just before it takes its place. Where the block fails, `keep` says
    whether the staged file must stay.
    """
    make_folder(path.parent)
    staged = staged_path(path)
    try:
        # One that a killed run left may be open to others, and a mode is given only to a new file.
        staged.unlink(missing_ok=True)
        staged.touch(mode=0o600)
        yield staged
        with staged.open("rb+") as file:
            os.fsync(file.fileno())
        if record is not None:
            record(staged)
    except BaseException as error:
        if not keep():
            staged.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        raise
    staged.replace(path)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it that are missing, for the user alone."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_write(path) as staged:
        staged.write_text(text, encoding="utf-8")


def pickled(content: "pd.DataFrame | list[dict]") -> bytes:
    """A frame or list as a pickle."""
    return pickle.dumps(content, protocol=5)


def json_lines(records: list[dict]) -> bytes:
    """Records as gzipped lines of JSON; the same records give the same bytes."""
    return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0)


def as_bytes(path: Path, content: "pd.DataFrame | list[dict] | dict | str") -> bytes:
    """How content is written under the ending of a path: text, JSON, gzipped lines of JSON, or else a pickle."""
    if isinstance(content, str):
        return content.encode()
    if path.suffix == ".gz":
        return json_lines(content)
    if path.suffix == ".json":
        return (json.dumps(content, indent=1) + "\n").encode()
    return pickled(content)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_write(path) as staged:
        staged.write_bytes(content)


def write_pickle(path: Path, content: "pd.DataFrame | list[dict]") -> None:
    """Writes a frame or list as a pickle, whole or not at all."""
    write_bytes(path, pickled(content))


def write_json_lines(path: Path, records: list[dict]) -> None:
    """Writes records as gzipped lines of JSON, whole or not at all."""
    write_bytes(path, json_lines(records))


def sha256(path: Path) -> str:
    """The sha256 of a file, or of the names and contents of the files directly in a folder.

    That of a file that has not been written to for a while is remembered: what is asked for again may be gigabytes.
    """
    if path.is_file():
        stat = path.stat()
        if time.time_ns() - stat.st_mtime_ns < FRESH:
            return _sha256(path)
        return _remembered(path.absolute(), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    return hashlib.sha256("".join(f"{p.name}:{sha256(p)}\n" for p in files).encode()).hexdigest()


@functools.lru_cache(maxsize=4096)
def _remembered(path: Path, *_: int) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
