"""Requests to the teacher as a batch, for half the price: the files of OpenAI's Batch API, written and read.

Lines of results may be as OpenAI and `vllm run-batch` write them, in any order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.answers import AnswerError, Reply, outgrown, read_reply
from reason4rec.llm.client import CHAT, error_in, refusal_of, tame
from reason4rec.run.files import atomic_write

if TYPE_CHECKING:
    from reason4rec.llm.teacher import Teacher

BATCH_URL = f"/v1/{CHAT}"
BATCH_REQUESTS, BATCH_BYTES = 50_000, 200_000_000  # in one file; OpenAI
COUNTS = ("taken", "kept before", "refused", "failed", "empty", "unknown", "cut off")  # of a batch's lines
LINES_AT_ONCE = 5_000


def write_export(teacher: "Teacher") -> list[tuple[Path, int]]:
    """Writes the requests that `ask` missed as JSON lines of OpenAI's Batch API; the files and their requests.

    They are ordered by prompt, so that the same requests give the same bytes. What does not fit into one file goes
    to FILE-2 and so on; such files of an earlier export that are no longer needed are removed.
    """
    written: list[tuple[Path, int]] = []
    lines = _export_lines(teacher)
    line = next(lines, None)
    while line is not None:
        path = _part(teacher.export, len(written) + 1)
        count = size = 0
        with atomic_write(path) as draft, draft.open("wb") as file:
            while line is not None and count < BATCH_REQUESTS and (not count or size + len(line) <= BATCH_BYTES):
                file.write(line)
                count, size = count + 1, size + len(line)
                line = next(lines, None)
        written.append((path, count))
    number = max(len(written), 1) + 1
    while (stale := _part(teacher.export, number)).exists():
        stale.unlink()
        number += 1
    return written


def _export_lines(teacher: "Teacher") -> Iterator[bytes]:
    for key, body in sorted(teacher.wanted.items(), key=lambda item: (item[1]["messages"][0]["content"], item[0])):
        line = {"custom_id": key, "method": "POST", "url": BATCH_URL, "body": body}
        yield json.dumps(line).encode() + b"\n"


def import_batch(teacher: "Teacher", path: Path) -> dict[str, int]:
    """Keeps the replies in a batch's result file, or in all *.jsonl of a folder; prints and returns the counts.

    Lines as OpenAI (results and errors) and `vllm run-batch` write them, in any order. A reply that is kept
    already stays. What failed or came back empty is left to be asked again. InputError with the line's number for
    what is no result, and if no line holds a reply.
    """
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    good: dict[str, Reply] = {}
    refused: dict[str, Reply] = {}
    for where, line in _result_lines(path, counts):
        key = line["custom_id"]
        if not re.fullmatch("[0-9a-f]{64}", key):
            counts["unknown"] += 1
            continue
        teacher.imported.add(key)
        reply = _result(line, where, teacher.reply_tokens)
        if isinstance(reply, str):
            failures[reply] += 1
        elif reply.empty:
            counts["empty"] += 1
        else:
            (refused if reply.refused else good).setdefault(key, reply)
        if len(good) >= LINES_AT_ONCE:
            _take(teacher, good, counts)
    _take(teacher, good, counts)
    kept = {key: one for key, one in teacher.store.get_all(refused).items() if not outgrown(one, teacher.reply_tokens)}
    refused = {key: reply for key, reply in refused.items() if key not in kept}
    counts["refused"], counts["failed"] = len(refused), failures.total()
    trouble = ", ".join(f"{count:,} {reason}" for reason, count in failures.most_common(3))
    if not (teacher.answered or refused or kept):
        raise InputError(f"{path}: holds no reply to a request of this program ({trouble or 'no results in it'})")
    with teacher.lock:
        teacher.count_batch(refused.values())
        teacher.doubtful |= {key: {"refused": reply.refused} for key, reply in refused.items()}
        doubtful = teacher.doubts() if teacher.answered else {}
    teacher.store.put(doubtful, replace=False)
    counted = f"{counts['taken']:,} replies taken, {counts['kept before']:,} kept before, {len(refused):,} refused"
    again = f"{counts['failed']:,} failed{f' ({trouble})' if trouble else ''} and {counts['empty']:,} empty"
    odd = "".join(f", {counts[name]:,} {name}" for name in ("unknown", "cut off") if counts[name])
    print(f"{path}: {counted}; to be asked again: {again}{odd}")
    return {name: counts[name] for name in COUNTS}


def _take(teacher: "Teacher", good: dict[str, Reply], counts: Counter) -> None:
    """Keeps replies of a batch in one transaction, in the place of refusals but never of replies."""
    kept = teacher.store.get_all(good)
    new = {key: reply for key, reply in good.items() if key not in kept}
    mended = {key: good[key].text for key, value in kept.items() if isinstance(value, dict)}
    teacher.store.put({key: reply.text for key, reply in new.items()}, replace=False)
    teacher.store.put(mended)
    counts["taken"] += len(new) + len(mended)
    counts["kept before"] += len(good) - len(new) - len(mended)
    with teacher.lock:
        teacher.answered |= bool(good)
        teacher.count_batch([*new.values(), *(good[key] for key in mended)])
    good.clear()


def _part(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _result_lines(path: Path, counts: Counter) -> Iterator[tuple[str, dict]]:
    """The lines of a batch's result files with their places; what is no result is an InputError."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no *.jsonl in this folder; give the file of a batch's results, or their folder")
    for each in files:
        try:
            with each.open("rb") as file:
                for number, text in enumerate(file, 1):
                    where = f"{each}, line {number}"
                    if not text.strip():
                        continue
                    try:
                        line = json.loads(text)
                    except (ValueError, RecursionError):
                        if not text.endswith(b"\n"):  # only the last line, of a file that is not whole
                            counts["cut off"] += 1
                            continue
                        raise InputError(f"{where}: not JSON; fetch the batch's results again") from None
                    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
                        raise InputError(f"{where}: no result of a batch (it has no custom_id)")
                    if "method" in line:
                        raise InputError(f"{where}: a request, not a result; give the file that the service returned")
                    yield where, line
        except FileNotFoundError:
            raise InputError(f"{each}: no such file") from None


def _result(line: dict, where: str, limit: int) -> Reply | str:
    """What a line of results says: a reply, or in a word why there is none."""
    response, error = line.get("response"), line.get("error")
    if not isinstance(response, dict | None):
        raise InputError(f"{where}: no result of a batch (its response is no object)")
    status, body = (response or {}).get("status_code"), (response or {}).get("body")
    if status == 200 and not error:
        try:
            return read_reply(body, limit)
        except AnswerError:
            status = None
        except ValueError:
            return "not in OpenAI's form"
    error = error_in(error or body)
    if reason := refusal_of(status, error):
        return Reply("", reason, 0, 0, "")
    words = [str(status) if isinstance(status, int) else "", tame(error.get("code")) or tame(error.get("type"))]
    return " ".join(filter(None, words)) or "without a word why"
