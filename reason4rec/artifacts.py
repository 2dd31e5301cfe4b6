"""Every file that a step reads or writes: its name, its columns, reading it safely, writing it whole.

A pickle is read by an unpickler that may build frames, lists, strings, numbers and dates and nothing else, whatever
pandas (2.2.2 to 3.x) wrote it. It is written beside its place and moved there, so it is never half there, and a
record `FILE.json` beside it says from which inputs, settings, seed and versions it came. What is made here is the
user's alone: files are of mode 0600 and folders of 0700, those that were there keep theirs. File and column names are
those of the paper's repository, so that its pre-processed pickles can be put in their places.
"""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import importlib.metadata
import json
import os
import pickle
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reason4rec.errors import InputError
from reason4rec.safe_pickle import SafeUnpickler

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "pandas", "numpy", "duckdb", "openai")
REVIEW_COLUMNS = ("user_id", "item_id", "title", "ratings", "reviews", "unixReviewTime")
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # of peft
KEYS = ("user_id", "item_id", "unixReviewTime")
SUMMARY, TEACHER_SUMMARY = "aspect_preference_summary", "review_summary"
TEACHER_REASON, REASON, PREDICTION = "personalized_analysis", "reasoner_reply", "pred"
PROBABILITIES = ("p1", "p2", "p3", "p4", "p5")  # of the ratings 1 to 5, where a model gives them
MAY_BE_MISSING = (PREDICTION, *PROBABILITIES)  # the evaluation counts them
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system that has none

_held: dict[Path, int] = {}


@dataclass(frozen=True)
class Artifact:
    """A file of a dataset's folder: its path in it, the columns of its frame (none: a list), and who writes it."""

    path: str
    columns: tuple[str, ...]
    written_by: str


DEMO_REVIEWS = Artifact("raw/reviews_Demo.json.gz", (), "0_Data/3_make_demo_data.py")
DEMO_METADATA = Artifact("raw/meta_Demo.json.gz", (), "0_Data/3_make_demo_data.py")
TRAIN = Artifact("raw_data/train.pkl", REVIEW_COLUMNS, "0_Data/2_preprocess.py")
VALID = Artifact("raw_data/valid.pkl", REVIEW_COLUMNS, "0_Data/2_preprocess.py")
TEST = Artifact("raw_data/test.pkl", REVIEW_COLUMNS, "0_Data/2_preprocess.py")
DATA_CARD = Artifact("data_card.json", (), "0_Data/2_preprocess.py")
TEACHER_SUMMARIES = Artifact(
    "train_aspect_preference_summary.pkl",
    (*REVIEW_COLUMNS, TEACHER_SUMMARY),
    "1_Summarizer/1_distilling_aspect_preference_summary.py",
)
SUMMARIZER_ROWS = Artifact("Summarizer_train_instruct.pkl", (), "1_Summarizer/2_construct_summarizer_train_data.py")
SUMMARIES = Artifact(
    "train_summarizer_generation_results.pkl",
    (*REVIEW_COLUMNS, SUMMARY),
    "1_Summarizer/4_summarizer_generation.py",
)
REWARD_TARGETS = Artifact("review_8000.pkl", REVIEW_COLUMNS, "2_Reasoner/1_sample_train_data.py")
REASON_TARGETS = Artifact("train_12000.pkl", REVIEW_COLUMNS, "2_Reasoner/1_sample_train_data.py")
REWARD_ROWS = Artifact("review_train_data.pkl", (), "2_Reasoner/2_construct_reward_train_data.py")
TEACHER_REASONS = Artifact(
    "distilling_high_quality_reasons.pkl",
    (*REVIEW_COLUMNS, TEACHER_REASON),
    "2_Reasoner/4_distilling_possible_reason.py",
)
REASONER_ROWS = Artifact("Reasoner_train_instruct.pkl", (), "2_Reasoner/5_construct_reasoner_train_data.py")
TEST_REASONS = Artifact(
    "reason_for_test_by_reasoner.pkl", (*REVIEW_COLUMNS, REASON), "2_Reasoner/7_generate_reason_for_test.py"
)
PREDICTOR_ROWS = Artifact("Predictor_train_instruct.pkl", (), "3_Predictor/1_construct_predictor_train_data.py")
TEST_RATINGS = Artifact(
    "rating_for_test_by_predictor.pkl",
    (*REVIEW_COLUMNS, REASON, PREDICTION),
    "3_Predictor/3_generate_predict_for_test.py",
)
METRICS = Artifact("results/metrics.json", (), "3_Predictor/4_evaluate.py")
EFFORTS = Artifact("results/efforts.json", (), "3_Predictor/5_baselines.py")
ABLATIONS = Artifact("results/ablations.json", (), "3_Predictor/6_ablations.py")
REASON_QUALITY = Artifact("results/reason_quality.json", (), "3_Predictor/7_reason_quality.py")
REASON_QUALITY_ROWS = Artifact("results/reason_quality_rows.jsonl.gz", (), "3_Predictor/7_reason_quality.py")
CASE_STUDY = Artifact("results/case_study.html", (), "3_Predictor/8_case_study.py")


def predictions_of(model: str) -> Artifact:
    """The file of a baseline's or a variant's predictions for the test rows; `NAME@SEED` for one of several seeds."""
    return Artifact(f"predictions/{model}.pkl", (*KEYS, "ratings", PREDICTION), "3_Predictor/5_baselines.py")


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


def read(folder: Path, artifact: Artifact) -> pd.DataFrame | list[dict]:
    """The checked content of an artifact in a dataset's folder; InputError names the file, column or row at fault."""
    path = folder / artifact.path
    if not path.exists():
        raise InputError(f"{path} is missing: {artifact.written_by} writes it")
    content = read_pickle(path)
    if artifact.columns:
        if not isinstance(content, pd.DataFrame):
            raise InputError(f"{path}: expected a table, found a {type(content).__name__}")
        check_frame(content, artifact.columns, str(path))
        return content
    check_messages(content, str(path))
    return content


def check_frame(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    """InputError unless the columns are there and hold no NaN, no repeated review and only ratings of 1 to 5."""
    if not frame.columns.is_unique:
        twice = _printable(frame.columns[frame.columns.duplicated()][0])
        raise InputError(f"{where}: column {twice} is there twice; remove one")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{where}: no column {', '.join(missing)}; it has {', '.join(map(_printable, frame.columns))}")
    if frame.empty:
        raise InputError(f"{where}: the table is empty")
    for column in columns:
        if column not in MAY_BE_MISSING and frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise InputError(f"{where}: column {column} is empty (NaN) in row {row}; remove or fill it")
    for column in ("ratings", "unixReviewTime"):
        if column in columns and not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"{where}: column {column} does not hold numbers; convert it")
    for column in ("user_id", "item_id"):
        kind = pd.api.types.infer_dtype(frame[column]) if column in columns else "string"
        if kind not in ("string", "integer"):
            raise InputError(f"{where}: column {column} holds {kind}, not texts or whole numbers; convert it")
    for column in columns:
        if column not in (*KEYS, "ratings", *MAY_BE_MISSING) and pd.api.types.infer_dtype(frame[column]) != "string":
            raise InputError(f"{where}: column {column} does not hold text alone; convert it")
    if "ratings" in columns:
        outside = ~frame["ratings"].between(1, 5).to_numpy()
        if outside.any():
            row = int(outside.argmax())
            raise InputError(f"{where}: rating {frame['ratings'].iloc[row]} in row {row} is outside 1 to 5")
    repeated = frame.duplicated(list(KEYS)).to_numpy()
    if repeated.any():
        row = int(repeated.argmax())
        raise InputError(f"{where}: row {row} repeats the user, item and time of an earlier row; remove one of them")


def _printable(name: object) -> str:
    text = str(name)[:100]
    return text if text.isprintable() else ascii(text)


def check_messages(rows: object, where: str) -> None:
    """InputError unless it is a list of `{"messages": [user, assistant]}` with texts in both."""
    if not isinstance(rows, list):
        raise InputError(f"{where}: expected a list of training rows, found a {type(rows).__name__}")
    if not rows:
        raise InputError(f"{where}: no training rows")
    for number, row in enumerate(rows):
        messages = row.get("messages") if isinstance(row, dict) else None
        if (
            not isinstance(messages, list)
            or not all(isinstance(m, dict) for m in messages)
            or [m.get("role") for m in messages] != ["user", "assistant"]
            or not all(isinstance(m.get("content"), str) and m["content"] for m in messages)
        ):
            raise InputError(f"{where}: row {number} is not a user message and an assistant message with texts")
        if not _are_spans(row.get("optional", []), len(messages[0]["content"])):
            raise InputError(f"{where}: `optional` of row {number} is no list of [start, end] in the user's message")


def _are_spans(spans: object, length: int) -> bool:
    if not isinstance(spans, list) or not all(
        isinstance(span, (list, tuple)) and len(span) == 2 and all(type(edge) is int for edge in span) for span in spans
    ):
        return False
    edges = [edge for span in sorted(map(tuple, spans)) for edge in span]
    return edges == sorted(edges) and all(0 <= edge <= length for edge in edges)


def draft_path(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def whole_file(path: Path, made_from: dict | None = None) -> Iterator[Path]:
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


def settle(path: Path) -> None:
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


def lock_path(path: Path) -> Path:
    """The file by which one process at a time makes an output."""
    return path.with_name(f".{path.name}.lock")


def hold(path: Path) -> str:
    """Takes an output for this process until it ends or calls `release`; who has it, where another process does.

    The kernel frees the lock of a process that dies. The file is removed by its holder alone, and whoever locked one
    that was removed meanwhile takes a new one, so no two processes hold the same output. Our decision.
    """
    place = lock_path(path).absolute()
    if place in _held:
        return ""
    make_folder(place.parent)
    while True:
        number = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(number, place):
                break
        except BlockingIOError:
            holder = os.pread(number, 200, 0).decode(errors="replace")
            os.close(number)
            return holder or "another process"
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"note: {path.parent} is on a file system without locks: start no second run of this step")
            break
        os.close(number)
    _held[place] = number
    # The name is for a message alone, and a full disk is told of where it matters.
    with contextlib.suppress(OSError):
        os.ftruncate(number, 0)
        os.pwrite(number, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return ""


def release(path: Path | None = None) -> None:
    """Gives back an output that this process holds, or all of them."""
    for place in [lock_path(path).absolute()] if path else list(_held):
        number = _held.pop(place, None)
        if number is not None:
            # Before the lock is free: after it, the file may be another's.
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
            os.close(number)


def _is_at(number: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), place.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str, made_from: dict | None = None) -> None:
    """Writes a text file whole or not at all."""
    with whole_file(path, made_from) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json_lines(path: Path, records: list[dict], made_from: dict | None = None) -> None:
    """Writes a gzipped file of JSON lines whole or not at all; the same records give the same bytes."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with whole_file(path, made_from) as draft:
        draft.write_bytes(gzip.compress(text.encode(), mtime=0))


def write_pickle(path: Path, content: pd.DataFrame | list[dict], made_from: dict | None = None) -> None:
    """Writes a frame or list whole or not at all."""
    with whole_file(path, made_from) as draft, draft.open("wb") as file:
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
