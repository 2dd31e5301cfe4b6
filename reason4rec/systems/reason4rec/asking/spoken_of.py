"""What in a history a reason speaks of: the keywords of its summaries that the reason names."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite

from reason4rec.data.history import Entry
from reason4rec.systems.reason4rec.asking.questions import Answer
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS
from reason4rec.systems.reason4rec.reason_checks import aspects, named_aspects

LINE = re.compile(rf"^(?:{'|'.join(SUMMARY_PARTS)}):(.*)$", re.MULTILINE)
KEYWORD = re.compile(r"[^,;]+")

Span = tuple[int, int]


def spoken_of(entries: Sequence[Entry], reason: str) -> list[list[Span]]:
    """Where the text of each entry holds a keyword that the reason names: first and last character + 1, ascending.

    Words are compared by their stems, as in the checks of reasons. A text that is no summary has none.
    """
    known = {aspect for entry in entries for aspect in aspects(entry.text)}
    named = named_aspects(reason, known).keys()
    return [list(_spans(entry.text, named)) for entry in entries]


def _spans(text: str, named: set[tuple[str, ...]]) -> list[Span]:
    found = []
    for line in LINE.finditer(text):
        for keyword in KEYWORD.finditer(text, line.start(1), line.end(1)):
            words = keyword[0]
            if aspects(f"{SUMMARY_PARTS[0]}:{words}").keys() & named:
                start = keyword.start() + len(words) - len(words.lstrip())
                found.append((start, start + len(words.strip().rstrip("."))))
    return found


def as_data(answer: Answer) -> dict[str, object]:
    """An answer as plain data for JSON; each entry of a history has `spoken_of`, the spans that the reason names.

    A rating or probability that is no number is None.
    """
    data = asdict(answer)
    data |= {name: _number(data[name]) for name in ("rating", "median")}
    data["probabilities"] = list(map(_number, data["probabilities"]))
    for side in ("user_history", "item_history"):
        spans = spoken_of(getattr(answer, side), answer.reason)
        data[side] = [asdict(entry) | {"spoken_of": found} for entry, found in zip(getattr(answer, side), spans)]
    return data


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
