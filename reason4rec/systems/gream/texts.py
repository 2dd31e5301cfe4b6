"""What the teacher says of items and users: for which of them, by which prompts, and which replies are kept.

Items are described from reviews of the training parts, users from their own training part. Source: released code,
which writes a fixed sentence where the teacher fails; here such a text is empty, and no row is made from it.
"""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.llm.answers import answer_of
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.systems.gream import prompts
from reason4rec.systems.gream.artifacts import KINDS
from reason4rec.systems.gream.pasts import Past
from reason4rec.systems.gream.prompts import CUT, FOLDER, LEAST_REVIEW, PREFERENCES, REVIEWS, WISHES
from reason4rec.systems.gream.replies import without_tokens
from reason4rec.systems.twice_rec.catalogue import Catalogue, Item, clean_title
from reason4rec.systems.twice_rec.prompts import one_line
from reason4rec.systems.twice_rec.replies import ANY_TAG
from reason4rec.systems.twice_rec.rule_rationales import short_name

TEMPERATURE = 0.0  # our decision
LONGEST = 2_000  # characters of a description; released code, which drops longer ones, where here their end is cut off
MOST_WORDS = 120  # of a text on a user
NO_ANSWER, NOT_IN_FORM = "no answer", "not in the form"
TOKENS = re.compile(r"<\|")  # how a semantic id begins
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_LABELLED = ("long_term", "short_term")  # answered after a label and a colon


@dataclass(frozen=True)
class UserTexts:
    """What a teacher says of a user; a text that it failed to give is empty.

    Three preferences, in the third person, and two wishes before the last item of the training part, in the first.
    """

    general: str = ""
    long_term: str = ""
    short_term: str = ""
    wish_of_user: str = ""
    wish_of_item: str = ""

    def preferences(self) -> list[str]:
        """The preferences that are there."""
        return [text for text in (self.general, self.long_term, self.short_term) if text]

    def wishes(self) -> dict[str, str]:
        """The wishes that are there, by their kinds."""
        return {name: getattr(self, name) for name in WISHES if getattr(self, name)}

    def drawn(self, rng: np.random.Generator) -> dict[str, str]:
        """The fields of a row: one of the preferences, one of the wishes, and each wish by its kind."""
        preferences, wishes = self.preferences(), self.wishes()
        found = dict(wishes)
        if preferences:
            found["preference"] = preferences[rng.integers(len(preferences))]
        if wishes:
            found["wish"] = list(wishes.values())[rng.integers(len(wishes))]
        return found


def clean(text: str) -> str:
    """A description on one line, without HTML, tokens of semantic ids and double quotes, and with one full stop.

    It may be empty. Of more than LONGEST characters the last sentences are left out; where these are more than half of
    them, the last words; and where there are no spaces either, what is too much.
    """
    text = one_line(without_tokens(_TAG.sub(" ", html.unescape(text))).replace('"', ""))
    if len(text) > LONGEST:
        text = text[:LONGEST]
        ends = (text.rfind(". ") + 1, text.rfind(" "))
        text = text[: next((end for end in ends if end > LONGEST // 2), LONGEST)]
    text = text.rstrip(" .")
    return f"{text}." if text else ""


def to_describe(items: Catalogue, pasts: Sequence[Past]) -> dict[str, list[str]]:
    """The reviews in the training parts by the items that have one, in the order of the catalogue."""
    found: dict[str, list[str]] = {}
    for past in pasts:
        for event in past.events:
            if event.review.strip():
                found.setdefault(event.item_id, []).append(event.review)
    return {item.item_id: found[item.item_id] for item in items if item.item_id in found}


def item_prompts(
    items: Catalogue, reviews: Mapping[str, Sequence[str]], seed: int, cut: int = CUT, folder: Path = FOLDER
) -> Sequence[Prompt]:
    """The teacher's prompt for each item of `to_describe`, with up to 8 of its reviews, drawn at random.

    Reviews of fewer than 20 characters are left out. Source: released code.
    """
    rng, drawn = np.random.default_rng(seed), []
    for texts in reviews.values():
        told = [text for text in texts if len(text.strip()) >= LEAST_REVIEW]
        places = sorted(rng.choice(len(told), min(REVIEWS, len(told)), replace=False).tolist()) if told else []
        drawn.append([told[place] for place in places])
    ask = partial(prompts.describe, cut=cut, folder=folder)
    return OnDemand(ask, [items[item_id] for item_id in reviews], drawn)


def item_texts(
    items: Catalogue, asked: Iterable[str], replies: Iterable[str | None]
) -> tuple[list[tuple[str, str]], Counter[str]]:
    """The id and the description of every item, in the order of the catalogue, and how many replies came to what.

    A reply takes the place of the description of its item; where it cannot, and of items that were not asked about, the
    description stays as it is, cleaned.
    """
    written, counts = {}, Counter()
    for item_id, reply in zip(asked, replies, strict=True):
        text, why = item_text(reply)
        counts[f"refused, {why}" if why else "written"] += 1
        if not why:
            written[item_id] = text
    return [(item.item_id, written.get(item.item_id) or clean(item.description)) for item in items], counts


def item_text(reply: str | None) -> tuple[str, str]:
    """The description in a reply, and why it is refused: empty where it is not."""
    said = answer_of(reply or "")
    text = clean(said)
    return text, _why_refused(text) or ("has tags" if TOKENS.search(html.unescape(said)) else "")


def is_item_text(reply: str) -> bool:
    """Whether a reply is a description that can be kept."""
    return not item_text(reply)[1]


def described(items: pd.DataFrame, texts: pd.DataFrame) -> Catalogue:
    """The catalogue of a table of items, each with its description in a table of `item_texts`."""
    by_id = dict(zip(texts["item_id"], texts["description"]))
    return Catalogue(items.assign(description=[by_id.get(item_id, "") for item_id in items["item_id"]]))


def user_prompts(
    kind: str, items: Catalogue, pasts: Sequence[Past], cut: int = CUT, folder: Path = FOLDER
) -> Sequence[Prompt]:
    """The teacher's prompt for a text of one of KINDS on each user."""
    make = prompts.preference if kind in PREFERENCES else prompts.wish
    return OnDemand(lambda past: make(kind, items, past, cut, folder), pasts)


def user_text(kind: str, reply: str | None, item: Item) -> tuple[str, str]:
    """The text of one of KINDS in a reply, and why it is refused: empty where it is not.

    `item` is the last one of the training part, whose title a wish may not tell.
    """
    text = one_line(answer_of(reply or ""))
    if kind in _LABELLED and text:
        _, colon, text = text.partition(":")
        text = text.strip(" *_")
        if not colon or not text:
            return "", NOT_IN_FORM
    if why := _why_refused(text) or ("too long" if len(text.split()) > MOST_WORDS else ""):
        return "", why
    if kind in WISHES and tells(text, item.title):
        return "", "tells the title"
    return text, ""


def is_usable(kind: str) -> Callable[[str], bool]:
    """Says of a reply whether it has the form of one of KINDS."""
    nameless = Item("", "", "", "")
    return lambda reply: not user_text(kind, reply, nameless)[1]


def user_texts(
    items: Catalogue, pasts: Sequence[Past], replies: Mapping[str, Sequence[str | None]]
) -> tuple[list[tuple[str, ...]], Counter[str]]:
    """The id of each user and its texts in the order of KINDS, and how many replies came to what."""
    rows, counts = [], Counter()
    for place, past in enumerate(pasts):
        item, texts = items[past.events[-1].item_id], []
        for kind in KINDS:
            text, why = user_text(kind, replies[kind][place], item)
            counts[f"{kind} refused, {why}" if why else f"{kind} written"] += 1
            texts.append(text)
        rows.append((past.user_id, *texts))
    return rows, counts


def by_user(frame: pd.DataFrame) -> dict[str, UserTexts]:
    """The texts of each user in a table of `user_texts`."""
    columns = [frame[kind] for kind in KINDS]
    return {user: UserTexts(*texts) for user, *texts in zip(frame["user_id"], *columns)}


def tells(text: str, title: str, beside: Iterable[str] = ()) -> bool:
    """Whether a text has the title of an item in it, or the name of three words or more that the title begins with.

    A title of one word, and a name of two, may be what a kind of item is called. What titles `beside` have too is not
    looked for.
    """
    name, known = short_name(title), [clean_title(one) for one in beside]
    wanted = [clean_title(one) for one in (title, name if name.count(" ") > 1 else title)]
    return any(" " in one and _has(clean_title(text), one) and not any(_has(of, one) for of in known) for one in wanted)


def _has(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _why_refused(text: str) -> str:
    if not text:
        return NO_ANSWER
    return "has tags" if ANY_TAG.search(text) or TOKENS.search(text) else ""
