"""A teacher of texts and reasonings that answers by rules in this process: no server, no key, no price.

It reads the request that any teacher gets and answers in the same form. What it names are words of content in the
titles and descriptions that it is shown, and what reviews praise or wish for; it knows words and no meaning. In the
steps 1 to 3 of a reasoning stands nothing that the history does not have; the item to come to decides which of that is
looked for. Where it shares too little with the history, the answer is none. Our decision; the released code asks a
large model.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml

from reason4rec.errors import InputError
from reason4rec.llm.options import RULES
from reason4rec.llm.prompt import fields_of, read_back
from reason4rec.systems.gream.prompts import FOLDER, NONE, PREFERENCES, WISHES
from reason4rec.systems.gream.texts import clean
from reason4rec.systems.reason4rec.rule_teacher.english import NOUNS, clauses, is_negated, polarity
from reason4rec.systems.twice_rec.content import content_words, stem
from reason4rec.systems.twice_rec.prompts import items_in
from reason4rec.systems.twice_rec.rule_rationales import (
    CONNECTED,
    PAIR,
    WISH,
    RuleRationales,
    Term,
    common_stems,
    listed,
    short_name,
    terms_of,
)

WORDINGS = Path(__file__).with_name("rule_texts.yaml")
NAMED = 3  # things that a sentence names at most, and items that one of them is found in
LIKES = 2  # things that a taste is for
BRIEF_NAMED = 2
RECENT = 3  # items that are the last few
IN_BOTH_TITLES, IN_A_TITLE, IN_TEXTS = 2.0, 1.0, 0.5  # weight of a term that two items share, by where it stands
PRAISED, WISHED = 1.0, 2.0  # and of one in a review
LEAST = 1.0  # weight of a term that is named
KEPT = 10_000  # reviews that are read once: a history comes again with each of its user's targets
READ = {  # the fields of the templates that an answer is made from
    "teacher_reasoning": {"history", "item"},
    "teacher_item": {"title", "description", "reviews"},
    **{f"teacher_{kind}": {"history"} for kind in PREFERENCES},
    **{f"teacher_{kind}": {"item"} for kind in WISHES},
}


class Seen(NamedTuple):
    """An item as the rules see it: its short name, and the terms of its title, description and review."""

    name: str
    title: dict[Term, str]
    text: dict[Term, str]
    praised: dict[Term, str]
    wished: dict[Term, str]

    def has(self) -> dict[Term, str]:
        """What may be said of the item itself."""
        return self.praised | self.text | self.title


class RuleTexts(RuleRationales):
    """Answers as `llm.teacher.Teacher` does, by rules; the seed chooses among wordings and nothing else.

    `templates` is the folder that the prompts were made with; InputError where one of them lacks what is read in it.
    With `brief`, answers are short and of one wording each.
    """

    name = "rules for texts"

    def __init__(self, seed: int = 0, templates: Path = FOLDER, brief: bool = False):
        for name, needed in READ.items():
            if missing := sorted(needed - fields_of(name, templates)):
                raise InputError(
                    f"--teacher_model {RULES}: reads {{{missing[0]}}} in a prompt, which {templates / name}.txt lacks; "
                    f"put it in, or name another teacher"
                )
        self.seed, self.templates, self.brief = seed, templates, brief
        self.refused: dict[str, str] = {}
        self.replies = 0

    def _answer(self, prompt: str, draw: int) -> str:
        found = answer(prompt, self.rng(prompt, draw), self.templates, self.brief)
        if found is None:
            raise InputError(
                f"--teacher_model {RULES}: it writes texts on items and users, and reasonings; this prompt is for "
                f"another teacher"
            )
        return found


def answer(prompt: str, rng: random.Random, templates: Path = FOLDER, brief: bool = False) -> str | None:
    """The answer to any prompt of GREAM's teacher; None for a prompt that is no such one."""
    for name in READ:
        if fields := read_back(name, prompt, templates):
            say, kind = _Say(rng, brief), name.removeprefix("teacher_")
            shown = {field: _seen(fields[field], brief) for field in READ[name] & {"history", "item"}}
            if kind == "reasoning":
                return _reasoning(shown["history"], shown["item"][0], say)
            if kind == "item":
                return _item(fields, say)
            if kind in PREFERENCES:
                return _preference(kind, shown["history"], say)
            return _wish(kind, shown["item"][0], say)
    return None


def _reasoning(past: Sequence[Seen], new: Seen, say: "_Say") -> str:
    """Four steps, or none where the history hardly shares a thing with the item."""
    held = _held(past)
    own = new.text | new.title
    weights = {term: sum(_shared(term, one, new) for one in past) for term in own if term in held}
    shared = _heaviest({term: weight for term, weight in weights.items() if weight >= LEAST}, say.most)
    if not shared or weights[shared[0]] * _size(shared[0]) < CONNECTED:
        return "None"
    likes = _heaviest(_support(past), LIKES) or shared[:LIKES]
    themes = shared + [term for term in likes if not _overlaps(term, shared)]
    asked = _heaviest({term: 1.0 for one in past for term in one.wished}, say.most)
    wished = {term: word for one in past for term, word in one.wished.items()}
    steps = [
        say("step_1", evidence=_evidence(themes, past, held, say)),
        say("step_2", likes=listed([held[term] for term in likes])),
        say("step_3", shared=listed([held[term] for term in shared])),
        say("step_4", title=new.name, shared=listed([own[term] for term in shared])),
    ]
    if asked:
        steps[0] = " ".join(filter(None, [steps[0], say("asked", asked=listed([wished[term] for term in asked]))]))
    return "\n".join(f"Step {number}: {text}" for number, text in enumerate(steps, 1))


def _evidence(themes: Sequence[Term], past: Sequence[Seen], held: Mapping[Term, str], say: "_Say") -> str:
    """Each theme with the names of items that have it; themes of the same items stand together. If brief, no names."""
    if say.brief:
        return listed([held[term] for term in themes])
    found: dict[tuple[str, ...], list[str]] = {}
    for term in themes:
        found.setdefault(tuple(_names(term, past, NAMED)), []).append(held[term])
    return "; ".join(f"{listed(words)} in {listed(names)}" for names, words in found.items())


def _item(fields: Mapping[str, str], say: "_Say") -> str:
    """A description that adds to the one that is there what more than one review praises, or all of a few do."""
    about = clean("" if fields["description"] == NONE else fields["description"])
    reviews = [] if fields["reviews"] == NONE else fields["reviews"].split("\n")
    counts: dict[Term, float] = {}
    words: dict[Term, str] = {}
    for review in reviews:
        praised, _ = _said(review.partition(". ")[2])
        for term, word in praised.items():
            counts[term] = counts.get(term, 0.0) + 1
            words.setdefault(term, word)
    least = min(2, len(reviews))
    terms = _heaviest({term: count for term, count in counts.items() if count >= least}, NAMED)
    if say.brief:
        shown = _things(about) | {term: words[term] for term in terms}
        return say("praised", terms=listed([shown[term] for term in list(shown)[:NAMED]])) if shown else about
    told = listed([words[term] for term in terms])
    if not terms:
        return about or clean(fields["title"])
    return say("item", about=about, terms=told) if about else say("praised", terms=told)


def _preference(kind: str, past: Sequence[Seen], say: "_Say") -> str:
    """A sentence on what recurs in all items of a user, in both halves of them, or in the last few."""
    past = past[-RECENT:] if kind == "short_term" else past
    held, support = _held(past), _support(past) or _support(past, 1)
    if kind == "long_term":
        early, late = (_held(half) for half in (past[: len(past) // 2], past[len(past) // 2 :]))
        support = {term: weight for term, weight in support.items() if term in early and term in late} or support
    terms = _heaviest(support, NAMED) or _heaviest(_support(past, 1), NAMED)
    if not terms:
        return ""
    label = "" if kind == "general" else f"{kind.replace('_', '-').capitalize()} preference: "
    return label + say(kind, terms=listed([held[term] for term in terms]))


def _wish(kind: str, one: Seen, say: "_Say") -> str:
    """What the review of an item wishes for or praises, or what the item has."""
    singles = {term: word for term, word in one.title.items() if len(term) == 1}  # so that the title is not told
    for found in (one.wished, one.praised, singles) if kind == "wish_of_user" else (one.text, one.praised, singles):
        if terms := _heaviest({term: 1.0 + (term in one.title) for term in found}, NAMED):
            return say(kind, terms=listed([found[term] for term in terms]))
    return ""


def _seen(text: str, brief: bool) -> list[Seen]:
    """The items that a prompt shows; `brief` leaves out the words of titles where there is a description."""
    found = []
    for item in items_in(text):
        description = item.get("description", "")
        praised, wished = _said(item.get("review", ""))
        told = {} if description == "N/A" else _things(description)
        title = {} if brief and told else _things(item["title"])
        found.append(Seen(short_name(item["title"]), title, told, praised, wished))
    return found


@lru_cache(KEPT)
def _things(text: str) -> dict[Term, str]:
    """The terms of a text that end in a noun."""
    return {term: words for term, words in terms_of(text).items() if _is_noun(words.rpartition(" ")[2])}


@cache
def _is_noun(word: str) -> bool:
    tagged = next(clauses(word), [])
    return bool(tagged) and tagged[-1].tag in NOUNS and word not in _no_things()


@lru_cache(KEPT)
def _said(review: str) -> tuple[dict[Term, str], dict[Term, str]]:
    """The nouns of a review that it praises, and those that it wishes for."""
    praised: dict[Term, str] = {}
    wished: dict[Term, str] = {}
    for clause in clauses(review):
        sign = sum(polarity(word.text) * (-1 if is_negated(clause, k) else 1) for k, word in enumerate(clause))
        wish = WISH.search(" ".join(word.text for word in clause))
        if sign > 0 or (wish and sign == 0):
            nouns = [one for word in clause if word.tag in NOUNS for one in content_words(word.text)]
            (wished if wish else praised).update({(stem(one),): one for one in nouns if one not in _no_things()})
    return praised, wished


def _shared(term: Term, one: Seen, new: Seen) -> float:
    """How much an item of the history speaks for a term of the item to come to."""
    titles = (term in one.title) + (term in new.title)
    weight = IN_BOTH_TITLES if titles == 2 else IN_A_TITLE if titles else IN_TEXTS
    weight = weight if term in one.title or term in one.text else 0.0
    return weight + PRAISED * (term in one.praised) + WISHED * (term in one.wished)


def _support(past: Sequence[Seen], least: int = 2) -> dict[Term, float]:
    """How much of a history speaks for each term that `least` of its items have."""
    found: dict[Term, float] = {}
    for term in _held(past):
        having = [one for one in past if term in one.has()]
        if len(having) >= least:
            found[term] = len(having) + sum((term in one.title) + WISHED * (term in one.wished) for one in past)
    return found


def _held(past: Iterable[Seen]) -> dict[Term, str]:
    """All that the items of a history have, in the words of the newest."""
    return {term: word for one in past for term, word in one.has().items()}


def _names(term: Term, past: Sequence[Seen], most: int) -> list[str]:
    """The names of the last items that have a term, the oldest first."""
    names = list(dict.fromkeys(one.name for one in reversed(past) if term in one.has()))
    return names[:most][::-1]


def _heaviest(weights: Mapping[Term, float], most: int) -> list[Term]:
    """Up to `most` terms that tell something and share no word, the heaviest first, of equal ones the first."""
    chosen: list[Term] = []
    telling = [term for term, weight in weights.items() if weight and not common_stems().issuperset(term)]
    for term in sorted(telling, key=lambda one: -weights[one] * _size(one)):
        if len(chosen) < most and not _overlaps(term, chosen):
            chosen.append(term)
    return chosen


def _size(term: Term) -> float:
    return PAIR if len(term) > 1 else 1.0


def _overlaps(term: Term, others: Iterable[Term]) -> bool:
    return any(set(term) & set(other) for other in others)


class _Say:
    """Chooses among the wordings, and fills in what they name; each begins with a capital."""

    def __init__(self, rng: random.Random, brief: bool):
        self.rng, self.brief = rng, brief
        self.most = BRIEF_NAMED if brief else NAMED

    def __call__(self, what: str, **parts: str) -> str:
        wordings = _wordings()["brief" if self.brief else "full"][what]
        if not wordings:
            return ""
        text = self.rng.choice(wordings)
        for name, value in parts.items():
            text = text.replace(f"{{{name}}}", value)
        return text[:1].upper() + text[1:]


@cache
def _no_things() -> frozenset[str]:
    return frozenset(_wordings()["no_things"].split())


@cache
def _wordings() -> dict:
    return yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))
