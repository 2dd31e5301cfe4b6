"""The prompts of the three experts: one plain text template per file, and the functions that fill them.

A template names its fields in braces. Fields are filled once: braces inside a review are text like any other. Copy
the `.txt` files to a folder, change them and pass `--prompts FOLDER` to replace them. What each prompt must carry is
from the paper and its released code; the wording is ours.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.history import Entry, History

FOLDER = Path(__file__).parent
RATINGS = ("1", "2", "3", "4", "5")
RATING_PREFIX = "Predicted Rating: "
NO_HISTORY = "(none)"
NO_AVERAGE = "unknown"
WORDS_PER_CUT = 64
CHARACTERS_PER_CUT = 512  # where words are longer, as in writing without spaces
SUMMARY_PARTS = ("Positive Aspects", "Negative Aspects", "User Preference Elements")


@dataclass(frozen=True)
class Prompt:
    """A filled template: its text and the spans (start, end) in it that may be cut, the first to go first.

    The first `head` characters are those of every prompt on the same target, so that they are read once.
    """

    text: str
    optional: tuple[tuple[int, int], ...] = ()
    head: int = 0

    def without(self, n: int) -> str:
        """The text without its first `n` optional spans."""
        parts, position = [], 0
        for start, end in sorted(self.optional[:n]):
            parts.append(self.text[position:start])
            position = end
        return "".join([*parts, self.text[position:]])


class OnDemand(Sequence):
    """Prompts, or texts, each made whenever it is looked at: those of a whole dataset would fill the memory.

    `make` makes one from the values at its place in `columns`. ValueError if those are not of one length.
    """

    def __init__(self, make: Callable, *columns: Iterable):
        self.make = make
        self.columns = [column if isinstance(column, Sequence) else list(column) for column in columns]
        if len({len(column) for column in self.columns}) != 1:
            raise ValueError("columns of different lengths")

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, place: int | slice) -> object:
        if isinstance(place, slice):
            return list(map(self.make, *(column[place] for column in self.columns)))
        return self.make(*(column[place] for column in self.columns))

    def __iter__(self) -> Iterator:
        # That of Sequence takes an IndexError of `make` for the end.
        return map(self.make, *self.columns)


def texts(prompts: Sequence[Prompt]) -> Sequence[str]:
    """The texts of prompts, each when it is looked at."""
    return OnDemand(attrgetter("text"), prompts)


def shorten(prompt: Prompt, fits: Callable[[str], bool]) -> tuple[str, int]:
    """The prompt with the fewest optional spans cut so that `fits(text)`, and how many were cut.

    InputError if it does not fit even without all of them: the instruction is never cut.
    """
    low, high = 0, len(prompt.optional)
    if not fits(prompt.without(high)):
        raise InputError(
            "a prompt is too long even without its histories: train with a larger --max_length, or ask for a smaller "
            "--max_new_tokens"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(prompt.without(middle)) else (middle + 1, high)
    return prompt.without(low), low


def summarizer(product_class: str, title: str, rating: float, review: str, folder: Path = FOLDER) -> Prompt:
    """Asks for the aspects and preference elements of one review; a review too long loses its end."""
    fields = {"product_class": product_class, "title": title, "rating": _one_decimal(rating), "review": review}
    text, offsets = _fill("summarizer", fields, folder)
    return Prompt(text, _from_the_end(review, offsets["review"]) if "review" in offsets else ())


def reasoner(
    product_class: str,
    title: str,
    history: History,
    hint: float | None = None,
    rated: bool = False,
    folder: Path = FOLDER,
) -> Prompt:
    """Asks for one paragraph on whether the user will like the item.

    `hint` adds the true rating (teacher only); `rated` shows the ratings in the histories, as the released code does
    in its hinted form by a reused variable.
    """
    prompt = _with_histories("reasoner", {"product_class": product_class, "title": title}, history, rated, folder)
    if hint is None:
        return prompt
    return Prompt(prompt.text + _fill("hint", {"rating": _one_decimal(hint)}, folder)[0], prompt.optional)


def predictor(
    product_class: str, title: str, history: History, reason: str | None = None, folder: Path = FOLDER
) -> Prompt:
    """Asks for a rating from rated histories and averages, with a reason or (None) in the direct form.

    Where the histories are gone and it is still too long, a reason (for the reward model a review) loses its end.
    """
    fields = {
        "product_class": product_class,
        "title": title,
        "user_average": _one_decimal(history.user_average),
        "item_average": _one_decimal(history.item_average),
    }
    prompt = _with_histories("predictor", fields, history, True, folder)
    head = len(prompt.text)
    if reason is None:
        return Prompt(prompt.text, prompt.optional, head)
    text, offsets = _fill("reason", {"reason": reason}, folder)
    last = _from_the_end(reason, head + offsets["reason"]) if "reason" in offsets else ()
    return Prompt(prompt.text + text, prompt.optional + last, head)


def with_task(prompt: Prompt, task: str, folder: Path = FOLDER) -> Prompt:
    """A prompt with the template of a further task, such as `one_step`, at its end."""
    return Prompt(prompt.text + _fill(task, {}, folder)[0], prompt.optional, prompt.head)


def judge(product_class: str, title: str, review: str, reason: str, folder: Path = FOLDER) -> Prompt:
    """Asks how well a reason foresaw the review that the user wrote later: a sentence, and a score of 0 to 100."""
    fields = {"product_class": product_class, "title": title, "review": review, "reason": reason}
    return Prompt(_fill("judge", fields, folder)[0])


def rating_answer(rating: float) -> str:
    """The Predictor's answer for a true rating of 1 to 5, such as `Predicted Rating: 4.0`."""
    return f"{RATING_PREFIX}{_one_decimal(rating)}"


def training_row(prompt: Prompt, answer: str) -> dict:
    """An instruct row: the messages, and the spans of the user's message that the trainer may cut to make it fit."""
    messages = [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "optional": [list(span) for span in prompt.optional]}


def is_summary(text: str) -> bool:
    """Whether a text has the three parts of a summary, each on a line of its own and not empty."""
    return all(re.search(rf"^{part}:[ \t]*\S", text, re.MULTILINE) for part in SUMMARY_PARTS)


def _one_decimal(value: float | None) -> str:
    return NO_AVERAGE if value is None else f"{value:.1f}"


@cache
def _template(name: str, folder: Path) -> str:
    try:
        return (folder / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
    except FileNotFoundError:
        raise InputError(f"--prompts {folder}: no {name}.txt there; copy the templates of {FOLDER}") from None


def _fill(name: str, fields: dict[str, str], folder: Path) -> tuple[str, dict[str, int]]:
    """The filled template and where in it each field starts. InputError names an unknown field or a lone brace."""
    path = folder / f"{name}.txt"
    try:
        pieces = list(string.Formatter().parse(_template(name, folder)))
    except ValueError as error:
        raise InputError(f"{path}: {error}; a brace that is meant as text is written twice") from error
    parts, offsets, length = [], {}, 0
    for literal, field, _, _ in pieces:
        parts.append(literal)
        length += len(literal)
        if field is not None:
            if field not in fields:
                raise InputError(f"{path}: no field {{{field}}} here, only {', '.join(sorted(fields))}")
            offsets[field] = length
            parts.append(fields[field])
            length += len(fields[field])
    return "".join(parts), offsets


def _from_the_end(text: str, start: int) -> tuple[tuple[int, int], ...]:
    """Spans of a text that stands at `start` of a prompt, the last words first; its first words are in none."""
    edges, last, words = [], 0, -1
    for k, character in enumerate(text):
        words += character == " "
        if (character == " " and words == WORDS_PER_CUT) or k - last == CHARACTERS_PER_CUT:
            edges.append(start + k)
            last, words = k, 0
    edges.append(start + len(text))
    return tuple(zip(edges[:-1], edges[1:]))[::-1]


def _with_histories(name: str, fields: dict[str, str], history: History, rated: bool, folder: Path) -> Prompt:
    """A filled template whose history entries may be cut, the one farthest in the past first."""
    user, item = (_entries(entries, rated) for entries in (history.user, history.item))
    blocks = {"user_history": "".join(user) or NO_HISTORY, "item_history": "".join(item) or NO_HISTORY}
    text, offsets = _fill(name, fields | blocks, folder)
    ages = []
    for field, entries in (("user_history", user), ("item_history", item)):
        start = offsets.get(field)
        if start is None:
            continue
        for k, entry in enumerate(entries):
            ages.append((len(entries) - k, start, start + len(entry)))
            start += len(entry)
    return Prompt(text, tuple((start, end) for _, start, end in sorted(ages, key=lambda a: -a[0])))


def _entries(entries: Sequence[Entry], rated: bool) -> list[str]:
    """One text per history entry, each but the last with its closing newline."""
    texts = [
        f"{k}. {e.title}{f', {_one_decimal(e.rating)};' if rated else ''}\n{e.text}\n"
        for k, e in enumerate(entries, start=1)
    ]
    return [*texts[:-1], texts[-1].removesuffix("\n")] if texts else []
