"""The prompts of the recommender, its teacher and its judge: one plain text template per file, and what fills them.

A template names its fields in braces. Copy the `.txt` files to a folder, change them and pass `--prompts FOLDER` to
replace them. The three tasks, the tags and the fields of an item are those of the released code; the wording is ours.
"""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reason4rec.data.catalog import nearest_star
from reason4rec.data.sequences import Event
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt, fill
from reason4rec.systems.twice_rec.catalogue import Catalogue, Item
from reason4rec.systems.twice_rec.replies import INFO, ITEM_ID, THINK, TITLE

FOLDER = Path(__file__).parent
ABOUT = "about"  # what is said of reviews and ratings
DESCRIBE, ITEM_ONLY, RATIONALE_FIRST = "describe", "item_only", "rationale_first"  # the tasks 1, 2 and 3
CUT = 300  # characters of a description, of details and of a review; released code
FIELDS = ("description", "details", "review", "rating")  # what is shown of an item beside its title and its id
LONG = ("details", "description", "review")  # the texts among them, in the order in which they are cut
RATINGS = ("Terrible", "Bad", "Okay", "Good", "Excellent")  # for 1 to 5; released code
NO_HISTORY = "(none)"
SHORT = 100  # characters of a description that stands on one line with its title
BETWEEN = " | "  # where an item is one line

_HTML = re.compile(r"</?[a-zA-Z][^<>]*>")


def describe(title: str, folder: Path = FOLDER) -> Prompt:
    """Asks for the id, the description and the details of an item: task 1."""
    return Prompt(fill(DESCRIBE, {"title": title}, folder)[0])


def recommend(
    catalogue: Catalogue,
    history: Sequence[Event],
    candidates: Sequence[str],
    task: str = RATIONALE_FIRST,
    fields: Sequence[str] = FIELDS,
    cut: int = CUT,
    folder: Path = FOLDER,
) -> Prompt:
    """Asks for the best of some candidates, by their ids: task 2 (`ITEM_ONLY`) or task 3 (`RATIONALE_FIRST`).

    Of each item its title, its id and those of `fields` are shown that it has, texts up to `cut` characters; reviews
    and ratings stand in the history alone. An item with little to show is one line, as `is_one_line` says. What may be
    cut where the prompt is too long: the history but for its newest entry, the oldest first; then the details and
    after them the descriptions of the candidates, the last candidate first; then the texts of the newest entry.
    """
    past = _history(catalogue, history, fields, cut)
    listed = _Block([_shown(catalogue[item_id], fields, cut) for item_id in candidates], not is_one_line(fields, cut))
    texts = [("candidates", span) for name in LONG for span in listed.texts(name)]
    newest = [("history", span) for name in LONG for span in past.texts(name)[:1] if span[0] > past.starts[-1]]
    # Nothing is said of reviews and ratings where none are shown.
    about = f"\n{fill(ABOUT, {}, folder)[0]}" if past.texts("review") or past.texts("rating") else ""
    blocks = {"about": about, "history": past, "candidates": listed}
    return _filled(task, blocks, [*_oldest(past), *texts, *newest], folder)


def teacher(
    catalogue: Catalogue,
    history: Sequence[Event],
    chosen: str,
    fields: Sequence[str] = FIELDS,
    cut: int = CUT,
    folder: Path = FOLDER,
) -> Prompt:
    """Asks for a rationale that leads from a history to the item that was chosen, by its id, and for a verdict.

    No ids are shown. The history may be cut as in `recommend`. What is asked for is from the paper: one call writes
    the rationale and says whether there is a logical connection. That nothing may tell of the choice is our decision.
    """
    past, item = _untold(catalogue, history, chosen, fields, cut)
    return _filled("teacher", {"history": past, "item": item}, _oldest(past), folder)


def judge(
    catalogue: Catalogue,
    history: Sequence[Event],
    item_id: str,
    rationale: str,
    fields: Sequence[str] = FIELDS,
    cut: int = CUT,
    folder: Path = FOLDER,
) -> Prompt:
    """Asks for a grade of 0 to 3 of the rationale for an item that was recommended.

    The scale is the paper's: 0 incorrect, 1 correct and insufficient, 2 acceptable, 3 satisfying. There, an item that
    is not in the catalogue makes a 0; of such a one nobody needs to be asked.
    """
    past, item = _untold(catalogue, history, item_id, fields, cut)
    blocks = {"history": past, "item": item, "rationale": one_line(rationale)}
    return _filled("judge", blocks, _oldest(past), folder)


def answer(item: Item, rationale: str | None = None) -> str:
    """The answer that recommends an item, on one line; with a rationale that of task 3, else that of task 2."""
    reasons = f"<{THINK}> {one_line(rationale)} </{THINK}> " if rationale is not None else ""
    return f"{reasons}<{TITLE}> {item.title} </{TITLE}> <{ITEM_ID}> {item.item_id} </{ITEM_ID}>"


def description(item: Item, cut: int = CUT) -> str:
    """The answer of task 1: id, description and details of an item, each on a line; what it lacks is left out."""
    lines = [("item_id", item.item_id), ("description", short(item.description, cut))]
    lines.append(("details", short(item.details, cut)))
    return f"<{INFO}> " + "\n".join(f"{name}: {text}" for name, text in lines if text) + f" </{INFO}>"


def rating_word(rating: float) -> str:
    """The word for a rating of 1 to 5, of two the better one: 3.5 is Good. InputError outside of 1 to 5."""
    if not 1 <= rating <= 5:
        raise InputError(f"rating {rating}: the recommender has words for 1 to 5; prepare the data with --scale")
    return RATINGS[nearest_star(rating) - 1]


def short(text: str, cut: int) -> str:
    """A text without HTML, on one line, up to a number of characters."""
    return one_line(_HTML.sub(" ", html.unescape(text)))[:cut].rstrip()


def one_line(text: str) -> str:
    """A text with a space for white space of any kind and number."""
    return " ".join(text.split())


def items_in(text: str) -> list[dict[str, str]]:
    """The items of a history, or of one item, as a prompt of the teacher shows them: each by the names of its fields.

    For those who answer a prompt by rules.
    """
    if text == NO_HISTORY:
        return []
    if text.startswith("title: "):
        blocks = [block.split("\n") for block in text.split("\n\n")]
        return [dict(line.split(": ", 1) for line in block) for block in blocks]
    found = []
    for line in text.split("\n"):
        title, _, rating = line.rpartition(BETWEEN)
        found.append({"title": title, "rating": rating} if title and rating in RATINGS else {"title": line})
    return found


def is_one_line(fields: Sequence[str], cut: int) -> bool:
    """Whether an item is shown on one line: where no text but a short description is shown. Our decision."""
    texts = set(LONG).intersection(fields)
    return not texts or (texts == {"description"} and cut <= SHORT)


class _Block:
    """Items as the text of a field, and where in it each item and each of its lines stands.

    An item has a line with its name for each of its fields, and an empty line after it, or is one line without names.
    """

    def __init__(self, items: Sequence[dict[str, str]], named: bool):
        self.starts: list[int] = []
        self._lines: dict[str, list[tuple[int, int]]] = {}
        text = ""
        for item in items:
            text += ("\n\n" if named else "\n") if text else ""
            self.starts.append(len(text))
            for name, value in item.items():
                start = len(text)
                text += "" if name == "title" else "\n" if named else BETWEEN
                text += f"{name}: {value}" if named else value
                self._lines.setdefault(name, []).append((start, len(text)))
        self.text = text or NO_HISTORY

    def texts(self, name: str) -> list[tuple[int, int]]:
        """The spans of the lines of a field, that of the last item first."""
        return self._lines.get(name, [])[::-1]


def _history(catalogue: Catalogue, history: Sequence[Event], fields: Sequence[str], cut: int) -> _Block:
    return _Block([_event(catalogue, one, fields, cut) for one in history], not is_one_line(fields, cut))


def _untold(
    catalogue: Catalogue, history: Sequence[Event], item_id: str, fields: Sequence[str], cut: int
) -> tuple[_Block, _Block]:
    """A history and an item, both without ids."""
    shown = [*(_event(catalogue, one, fields, cut) for one in history), _shown(catalogue[item_id], fields, cut)]
    for item in shown:
        del item["item_id"]
    named = bool(set(LONG).intersection(fields))  # so that a rule can read them back
    return _Block(shown[:-1], named), _Block(shown[-1:], named)


def _shown(item: Item, fields: Sequence[str], cut: int) -> dict[str, str]:
    texts = {"description": short(item.description, cut), "details": short(item.details, cut)}
    kept = {name: text for name, text in texts.items() if text and name in fields}
    return {"title": item.title, "item_id": item.item_id} | kept


def _event(catalogue: Catalogue, event: Event, fields: Sequence[str], cut: int) -> dict[str, str]:
    rating = "" if event.rating is None else rating_word(event.rating)
    said = {"review": short(event.review, cut), "rating": rating}
    kept = {name: text for name, text in said.items() if text and name in fields}
    return _shown(catalogue[event.item_id], fields, cut) | kept


def _oldest(past: _Block) -> list[tuple[str, tuple[int, int]]]:
    """The spans of all entries of a history but the newest, the oldest first."""
    return [("history", span) for span in zip(past.starts, past.starts[1:])]


def _filled(
    name: str, blocks: Mapping[str, _Block | str], cuts: Sequence[tuple[str, tuple[int, int]]], folder: Path
) -> Prompt:
    """A filled template with the spans in its fields that may be cut; a field that the template lacks has none."""
    fields = {field: block if isinstance(block, str) else block.text for field, block in blocks.items()}
    text, offsets = fill(name, fields, folder)
    spans = ((offsets[field] + start, offsets[field] + end) for field, (start, end) in cuts if field in offsets)
    return Prompt(text, tuple(spans))
