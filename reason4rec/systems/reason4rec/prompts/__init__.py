"""The prompts of the three experts: one plain text template per file, and the functions that fill them.

A template names its fields in braces. Fields are filled once: braces inside a review are text like any other. Copy
the `.txt` files to a folder, change them and pass `--prompts FOLDER` to replace them. What each prompt must carry is
from the paper and its released code; the wording is ours.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from reason4rec.data.catalog import nearest_star
from reason4rec.data.history import Entry, History
from reason4rec.llm.prompt import Prompt, cuts_from_the_end, fill

FOLDER = Path(__file__).parent
RATINGS = ("1", "2", "3", "4", "5")
RATING_PREFIX = "Predicted Rating: "
NO_HISTORY = "(none)"
NO_AVERAGE = "unknown"
SUMMARY_PARTS = ("Positive Aspects", "Negative Aspects", "User Preference Elements")


def summarizer(product_class: str, title: str, rating: float, review: str, folder: Path = FOLDER) -> Prompt:
    """Asks for the aspects and preference elements of one review; a review too long loses its end."""
    fields = {"product_class": product_class, "title": title, "rating": _one_decimal(rating), "review": review}
    text, offsets = fill("summarizer", fields, folder)
    return Prompt(text, cuts_from_the_end(review, offsets["review"]) if "review" in offsets else ())


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
    return Prompt(prompt.text + fill("hint", {"rating": _one_decimal(hint)}, folder)[0], prompt.optional)


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
    text, offsets = fill("reason", {"reason": reason}, folder)
    last = cuts_from_the_end(reason, head + offsets["reason"]) if "reason" in offsets else ()
    return Prompt(prompt.text + text, prompt.optional + last, head)


def with_task(prompt: Prompt, task: str, folder: Path = FOLDER) -> Prompt:
    """A prompt with the template of a further task, such as `one_step`, at its end."""
    return Prompt(prompt.text + fill(task, {}, folder)[0], prompt.optional, prompt.head)


def judge(product_class: str, title: str, review: str, reason: str, folder: Path = FOLDER) -> Prompt:
    """Asks how well a reason foresaw the review that the user wrote later: a sentence, and a score of 0 to 100."""
    fields = {"product_class": product_class, "title": title, "review": review, "reason": reason}
    return Prompt(fill("judge", fields, folder)[0])


def rating_answer(rating: float) -> str:
    """The Predictor's answer for a true rating of 1 to 5, such as `Predicted Rating: 4.0`.

    It is the nearest of the five that the model weighs, of two the higher one: 3.5 is answered with 4.0.
    """
    return f"{RATING_PREFIX}{_one_decimal(nearest_star(rating))}"


def is_summary(text: str) -> bool:
    """Whether a text has the three parts of a summary, each on a line of its own and not empty."""
    return all(re.search(rf"^{part}:[ \t]*\S", text, re.MULTILINE) for part in SUMMARY_PARTS)


def end_of_summary(text: str) -> int | None:
    """How many characters of a text are a summary where it goes on after the line of its last part; else None.

    A code fence that was opened before it may be closed behind it, so that it is known as one around all of it.
    """
    parts = [re.search(rf"^{part}:[ \t]*\S", text, re.MULTILINE) for part in SUMMARY_PARTS]
    end = text.find("\n", max(part.end() for part in parts)) if all(parts) else -1
    if end < 0:
        return None
    fenced = text.lstrip().startswith("```")
    if not text[end:].strip(" \t\r\n`" if fenced else None):
        return None
    closed = re.compile(r"\s*```").match(text, end) if fenced else None
    return closed.end() if closed else end


def as_summary(text: str) -> str:
    """A summary in the form that is asked for: a line for each part, as `Positive Aspects: melody, voice`.

    Read are headings in bold, with marks before them or with a full-width colon, and lists below them. A text that has
    that form already, or that has not all three parts, stays as it is.
    """
    if is_summary(text):
        return text
    found: dict[str, list[str]] = {}
    said = None
    for line in text.splitlines():
        if heading := _HEADING.fullmatch(line):
            part = next(part for part in SUMMARY_PARTS if part.lower().startswith(heading["part"].lower()))
            # A model that runs on writes another one.
            said = found.setdefault(part, []) if part not in found else []
            line = heading["said"] or ""
        words = _MARKS.sub("", line).strip().strip("*").strip()
        if words and said is not None:
            said.append(words)
    if not all(found.get(part) for part in SUMMARY_PARTS):
        return text
    return "\n".join(f"{part}: {', '.join(found[part])}" for part in SUMMARY_PARTS)


_MARKS = re.compile(r"^[\s>#•–-]*(?:\*(?!\*)\s*)?(?:\d+[.)]\s+)?")
_HEADING = re.compile(
    rf"[\s>#*_•–-]*(?:\d+[.)]\s*)?[\s*_]*(?P<part>{'|'.join(part[:-1] for part in SUMMARY_PARTS)})s?[\s*_]*"
    r"(?:[:：][\s*_]*(?P<said>.*)|(?P<nothing>))",
    re.IGNORECASE,
)


def _one_decimal(value: float | None) -> str:
    return NO_AVERAGE if value is None else f"{value:.1f}"


def _with_histories(name: str, fields: dict[str, str], history: History, rated: bool, folder: Path) -> Prompt:
    """A filled template whose history entries may be cut, the one farthest in the past first."""
    user, item = (_entries(entries, rated) for entries in (history.user, history.item))
    blocks = {"user_history": "".join(user) or NO_HISTORY, "item_history": "".join(item) or NO_HISTORY}
    text, offsets = fill(name, fields | blocks, folder)
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
