"""The prompts of the recommender and of its teacher, as plain text files, and what fills them.

A file of a task has a wording on each line: a question, an arrow and what is to be answered, with fields in braces. All
other files are one template each. Copy the `.txt` files to a folder, change them and pass `--prompts FOLDER` to replace
them. The tasks and their fields are those of the released code; the wording is ours.

The released code tells the two modes apart by the system message. Here the instruction of the mode leads the user's
message: chat templates such as Gemma's write no system message, and every trainer, server and loader of this repository
takes one message of the user. Our decision.
"""

import string
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from reason4rec.data.sequences import Event
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt, fields_of, fill, template
from reason4rec.systems.gream.pasts import Past, window
from reason4rec.systems.gream.replies import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK, without_tokens
from reason4rec.systems.twice_rec.catalogue import Catalogue, Item
from reason4rec.systems.twice_rec.prompts import one_line, short

FOLDER = Path(__file__).parent
DIRECT, REASONED = "direct", "reasoned"  # the two modes in which the recommender answers
ALONE = "reasoned_alone"  # the template of the second where the thoughts are followed by the answer alone
SEQREC, TO_ITEM, FROM_ITEM = "seqrec", "item2index", "index2item"
FUSION, SEARCH, PREFERENCE = "fusion", "search", "preference"
TASKS = (SEQREC, TO_ITEM, FROM_ITEM, FUSION, SEARCH, PREFERENCE)
PREFERENCES = ("general", "long_term", "short_term")  # what a teacher says of a user's taste; released code
WISHES = ("wish_of_user", "wish_of_item")  # and of what the user looked for before the last item; released code
FIELDS = {  # what a wording of each task may name
    SEQREC: {"history", "item"},
    TO_ITEM: {"title", "description", "both", "item"},
    FROM_ITEM: {"title", "description", "both", "item"},
    FUSION: {"history", "titles", "title", "description", "both", "item"},
    SEARCH: {"history", "preference", "wish", *WISHES, "item"},
    PREFERENCE: {"history", "preference"},
}
CUT = 300  # characters of a description, unless told otherwise, and of a review; our decision, as in TWiCE-Rec
REVIEWS, LEAST_REVIEW = 8, 20  # reviews that a teacher reads of an item, and characters of the shortest; released code
BETWEEN = ", "  # items of a history; released code
ARROW = " => "
NONE = "(none)"
_PLACE = "\0"

Values = Mapping[str, str | Sequence[str]]


class Wording(NamedTuple):
    """One way to put a task: the question, what is to be answered, and the fields that both name."""

    question: str
    answer: str
    needs: frozenset[str]


@cache
def wordings(task: str, folder: Path = FOLDER) -> tuple[Wording, ...]:
    """The wordings of one of TASKS, in the order of its file; InputError names a line that is none."""
    path, found = folder / f"{task}.txt", []
    for number, line in enumerate(template(task, folder).split("\n"), 1):
        question, arrow, answer = line.partition(ARROW)
        if not (question.strip() and answer.strip()):
            raise InputError(f"{path}: line {number} is no wording: write a question, '{arrow or ARROW}' and an answer")
        try:
            needs = frozenset(name for _, name, _, _ in string.Formatter().parse(line) if name is not None)
        except ValueError as error:
            raise InputError(
                f"{path}: line {number}: {error}; a brace that is meant as text is written twice"
            ) from None
        if unknown := sorted(needs - FIELDS[task]):
            raise InputError(
                f"{path}: line {number}: no field {{{unknown[0]}}}, only {', '.join(sorted(FIELDS[task]))}"
            )
        found.append(Wording(question, answer, needs))
    return tuple(found)


def ask(wording: Wording, values: Values, mode: str = DIRECT, folder: Path = FOLDER) -> Prompt:
    """The question of a wording in a mode. A value that is a list is written with commas.

    Of such a list all entries but the last may be cut where the prompt is too long, the oldest first.
    """
    text, spans = _filled(wording.question, values)
    before, after = _around(mode, folder)
    start = len(before)
    return Prompt(f"{before}{text}{after}", tuple((start + begin, start + end) for begin, end in spans))


def answer(wording: Wording, values: Values) -> str:
    """What is to be answered to the question of a wording."""
    return _filled(wording.answer, values)[0]


def template_of(mode: str, restates: bool) -> str:
    """The template of a mode; the answer of the reasoned one has the history again where it `restates` it."""
    return ALONE if mode == REASONED and not restates else mode


def next_item(
    history: Sequence[str], mode: str, wording: int = 0, folder: Path = FOLDER, restates: bool = True
) -> Prompt:
    """Asks for the next item by the semantic ids of a history, oldest first; `wording` counts the lines of seqrec."""
    return ask(wordings(SEQREC, folder)[wording], {"history": history}, template_of(mode, restates), folder)


def reasoned_answer(steps: str, history: Sequence[str], item: str, folder: Path = FOLDER, restates: bool = True) -> str:
    """The answer in the mode REASONED: the steps, the history once more where it `restates` it, and the item.

    The history is a verbatim copy of what was asked about. The paper speaks of a denoised sequence; the released code
    leaves nothing out of it either.
    """
    values = {"steps": steps, "history": BETWEEN.join(history), "item": item}
    return fill(f"{template_of(REASONED, restates)}_answer", values, folder)[0]


def describe(item: Item, reviews: Sequence[str], cut: int = CUT, folder: Path = FOLDER) -> Prompt:
    """Asks the teacher for a description of an item, from what is said of it and from reviews."""
    listed = "\n".join(f"{number}. {review(text)}" for number, text in enumerate(reviews, 1))
    shown = {"title": item.title, "description": short(item.description, cut) or NONE, "reviews": listed or NONE}
    return Prompt(fill("teacher_item", {name: without_tokens(text) for name, text in shown.items()}, folder)[0])


def preference(kind: str, items: Catalogue, past: Past, cut: int = CUT, folder: Path = FOLDER) -> Prompt:
    """Asks the teacher for one of PREFERENCES, from the items of a user before the last one of the training part.

    Descriptions are shown beside the titles: a title alone, as in the released code, often tells of no property.
    """
    shown = _listed(items, window(past.events, len(past.events) - 1), cut, reviews=False)
    return Prompt(fill(f"teacher_{kind}", {"history": shown}, folder)[0])


def wish(kind: str, items: Catalogue, past: Past, cut: int = CUT, folder: Path = FOLDER) -> Prompt:
    """Asks the teacher for one of WISHES, from the last item of the training part and its review, if there is one."""
    return Prompt(fill(f"teacher_{kind}", {"item": _listed(items, past.events[-1:], cut)}, folder)[0])


def reasoning(
    items: Catalogue, history: Sequence[Event], item_id: str, cut: int = CUT, folder: Path = FOLDER
) -> Prompt:
    """Asks the teacher for the four steps from a history to the item that came after it.

    Shown are titles, descriptions and, of the history, reviews; no ids. The released code shows no reviews.
    """
    item = _listed(items, [Event(item_id, None, "")], cut)
    return Prompt(fill("teacher_reasoning", {"history": _listed(items, history, cut), "item": item}, folder)[0])


def review(text: str) -> str:
    """A review as the teacher reads it: up to CUT characters, ending at a word."""
    whole, cut = one_line(text), short(text, CUT)
    return cut if len(whole) <= CUT else cut.rpartition(" ")[0] or cut


def check(folder: Path = FOLDER, restates: bool = True) -> None:
    """InputError unless all wordings can be read, and what is asked and answered has its fields and tags.

    Those of SEQREC ask about a history and answer with the id alone, since a search writes nothing beside it.
    """
    for task in TASKS:
        wordings(task, folder)
    for number, one in enumerate(wordings(SEQREC, folder), 1):
        if "{history}" not in one.question or one.answer.strip() != "{item}":
            raise InputError(f"{folder / SEQREC}.txt: line {number}: ask about {{history}} and answer {{item}} alone")
    reasoned = template_of(REASONED, restates)
    for mode in (DIRECT, reasoned):
        _around(mode, folder)
    path, needed = folder / f"{reasoned}_answer.txt", {"steps", "item"} | ({"history"} if restates else set())
    if missing := sorted(needed - fields_of(path.stem, folder)):
        raise InputError(f"{path}: no field {{{missing[0]}}} in it; put it in")
    text = template(path.stem, folder)
    places = [text.find(tag) for tag in (OPEN_THINK, CLOSE_THINK, OPEN_ANSWER, CLOSE_ANSWER)]
    if min(places) < 0 or places != sorted(places):
        tags = f"{OPEN_THINK}, {CLOSE_THINK}, {OPEN_ANSWER} and {CLOSE_ANSWER}"
        raise InputError(f"{path}: must have {tags} in this order; put them in")


@cache
def _around(mode: str, folder: Path) -> tuple[str, str]:
    """What a mode writes before a question and after it."""
    before, place, after = fill(mode, {"question": _PLACE}, folder)[0].partition(_PLACE)
    if not place or _PLACE in after:
        raise InputError(f"{folder / mode}.txt: the field {{question}} must be in it, and once")
    return before, after


@cache
def _pieces(text: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, name) for literal, name, _, _ in string.Formatter().parse(text))


def _filled(text: str, values: Values) -> tuple[str, list[tuple[int, int]]]:
    """A filled wording, and the spans in it that may be cut."""
    filled, spans = "", []
    for literal, name in _pieces(text):
        filled += literal
        if name is None:
            continue
        value = values[name]
        if isinstance(value, str):
            filled += value
            continue
        for place, entry in enumerate(value):
            written = entry + (BETWEEN if place < len(value) - 1 else "")
            if place < len(value) - 1:
                spans.append((len(filled), len(filled) + len(written)))
            filled += written
    return filled, spans


def _listed(items: Catalogue, events: Sequence[Event], cut: int, reviews: bool = True) -> str:
    """Items as blocks of lines with their names, an empty line between them, as TWiCE-Rec's `items_in` reads them."""
    blocks = []
    for event in events:
        item = items[event.item_id]
        lines = {"title": one_line(item.title), "description": short(item.description, cut) or "N/A"}
        lines |= {"review": review(event.review)} if reviews and event.review.strip() else {}
        blocks.append("\n".join(f"{name}: {without_tokens(text)}" for name, text in lines.items() if text))
    return "\n\n".join(blocks)
