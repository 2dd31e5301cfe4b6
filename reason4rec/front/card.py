"""An answer of the experts as text for a terminal: rating, a bar for each star, the reason, both histories."""

import textwrap
from collections.abc import Sequence
from math import isfinite

from reason4rec.data.history import Entry
from reason4rec.systems.reason4rec.asking.questions import Answer
from reason4rec.systems.reason4rec.asking.spoken_of import Span, spoken_of

WIDTH = 88  # columns
BAR = 40  # columns of a bar of 100%
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def card(answer: Answer, colours: bool) -> str:
    """The whole answer; what the reason speaks of is bold where a terminal has `colours`, else between asterisks."""
    item = f"{answer.title} ({answer.item_id})" if answer.item_id else f"{answer.title} (a new item)"
    user = f"user {answer.user_id}" if answer.user_id else "a new user"
    blocks = [
        f"{harmless(item)}\nfor {harmless(user)}, by {answer.model}",
        _ratings(answer),
    ]
    if answer.reason:
        blocks.append(f"Reason (what it names is marked below)\n{_wrapped(harmless(answer.reason))}")
    for name, entries, count, average in (
        ("Reviews by the user", answer.user_history, answer.user_count, answer.user_average),
        ("Reviews of the item by others", answer.item_history, answer.item_count, answer.item_average),
    ):
        blocks.append(_history(name, entries, count, average, answer.reason, colours))
    if answer.notes:
        blocks.append("\n".join(_wrapped(f"note: {note}", "") for note in answer.notes))
    return "\n\n".join(blocks)


def bars(probabilities: Sequence[float]) -> str:
    """A bar for each rating, 5 on top."""
    lines = []
    for rating in range(len(probabilities), 0, -1):
        share = probabilities[rating - 1]
        lines.append(f"  {rating}  {'█' * round(BAR * share):<{BAR}} {share:6.1%}")
    return "\n".join(lines)


def _ratings(answer: Answer) -> str:
    if not isfinite(answer.rating):
        return "Rating unusable: the Predictor gave no probabilities"
    return f"Rating {answer.rating:.2f} (expectation), {answer.median:g} (median)\n\n{bars(answer.probabilities)}"


def ranking(answers: Sequence[Answer]) -> str:
    """Several answers for one user, a line each, with their notes below."""
    lines = [
        f"{place:>3}  {answer.rating:4.2f}  {answer.median:g}  {harmless(answer.item_id)}  {harmless(answer.title)}"
        for place, answer in enumerate(answers, 1)
    ]
    notes = dict.fromkeys(note for answer in answers for note in answer.notes)
    head = "  #  rating (expectation), median, item"
    return "\n".join([head, *lines, *(f"note: {note}" for note in notes)])


def harmless(text: str) -> str:
    """A foreign text in which nothing can move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _history(name: str, entries: Sequence[Entry], count: int, average: float | None, reason: str, colours: bool) -> str:
    if not count:
        return f"{name}: none is known"
    shown = "" if len(entries) == count else f", {len(entries)} of them shown"
    lines = [f"{name} ({count:,}{shown}; average {average:.1f})"]
    for entry, spans in zip(entries, spoken_of(entries, reason)):
        lines.append(f"  {entry.rating:g}  {harmless(entry.title)}")
        lines += [_wrapped(line, " " * 5) for line in _marked(entry.text, spans, colours).splitlines()]
    return "\n".join(lines)


def _marked(text: str, spans: Sequence[Span], colours: bool) -> str:
    before, after = (BOLD, PLAIN) if colours else ("*", "*")
    parts, end = [], 0
    for start, stop in spans:
        parts += [harmless(text[end:start]), before, harmless(text[start:stop]), after]
        end = stop
    return "".join([*parts, harmless(text[end:])])


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
