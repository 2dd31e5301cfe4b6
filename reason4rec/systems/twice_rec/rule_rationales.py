"""A teacher of rationales that answers by rules in this process: no server, no key, no price.

It reads the request that any teacher gets and answers in the same form. A rationale names what items of the history and
the item to come to have in common: words of their titles and descriptions, and what reviews praise or ask for. Where
that is little, or stands only in what the user rated low, the verdict is no. It knows words and no meaning: that coffee
goes with cream it cannot know. Of 600 users of Grocery, without reviews, it finds a connection to the last item for
50%, and to an item drawn from the catalogue for 34%. Our decision; the paper asks GPT-4o and GPT-4o mini.
"""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from reason4rec.errors import InputError
from reason4rec.llm.prompt import fields_of, read_back
from reason4rec.run.progress import progress
from reason4rec.systems.reason4rec.rule_teacher.english import NOUNS, clauses, is_negated, polarity
from reason4rec.systems.twice_rec.content import content_words, runs, stem, word_list
from reason4rec.systems.twice_rec.prompts import FOLDER, RATINGS, items_in

RULES = "rules"  # the name of this teacher for --teacher_model
NAME = "rules for rationales"  # and in what a step shows
WORDINGS = Path(__file__).with_name("rule_wordings.yaml")
NAMED = 3  # things in common, and items of the history, that a rationale names at most
NAME_WORDS = 7  # of a title, in a rationale
# How much an item of the history speaks for what it has, by its rating; one without a rating was chosen, after all.
LIKED = dict(zip(RATINGS, (0.0, 0.0, 0.5, 1.0, 1.5))) | {"": 1.0}
IN_TITLES, IN_TEXTS, ASKED_FOR = 2.0, 1.0, 2.0  # weight of what is shared: in both titles, in one, in a review
PAIR = 1.5  # a pair of words says more than a single one
CONNECTED = 2.0  # least weight of one thing in common that makes a connection
WISH = re.compile(
    r"\bi (?:\w+ )?(?:want|need|look|listen|prefer|care|buy|seek)\b|\bfor me\b|\bto me\b|\bmy taste\b|\ba fan of\b"
)
_NAME_ENDS = re.compile(r"\s[-–—|/]+\s|[,;:|(\[–—]")

Term = tuple[str, ...]
"""A word or a pair of words, as stems."""


class Entry(NamedTuple):
    """An item as a rationale sees it: its short name, rating (empty without one), and the terms of its texts as shown.

    `asked` has what its review praises or asks for.
    """

    name: str
    rating: str
    title: dict[Term, str]
    text: dict[Term, str]
    asked: dict[Term, str]


class RuleRationales:
    """Answers as `llm.teacher.Teacher` does, by rules; the seed chooses among wordings and nothing else.

    `templates` is the folder that the prompts were made with; InputError where its teacher.txt lacks what is read.
    """

    model = RULES
    client = None
    name = NAME

    def __init__(self, seed: int = 0, templates: Path = FOLDER):
        if missing := sorted({"history", "item"} - fields_of("teacher", templates)):
            raise InputError(
                f"--teacher_model {RULES}: reads {{{missing[0]}}} in a prompt, which {templates / 'teacher'}.txt "
                f"lacks; put it in, or name another teacher"
            )
        self.seed, self.templates = seed, templates
        self.refused: dict[str, str] = {}
        self.replies = 0

    def ask(
        self,
        prompts: Sequence[str],
        temperature: float = 0.0,
        draw: int = 0,
        quiet: bool = False,
        is_usable: Callable[[str], bool] = bool,
    ) -> list[str]:
        """One answer per prompt, in their order; temperature and form need no attention here.

        InputError for a prompt that is no request to the teacher.
        """
        replies = []
        with progress(f"asking the {self.name}", len(prompts), "prompt", quiet or not prompts) as bar:
            for prompt in prompts:
                replies.append(self._answer(prompt, draw))
                bar.update()
        self.replies += len(replies)
        return replies

    def stop(self, why: str = "interrupted") -> None:
        """Nothing is in flight that had to be ended."""

    def usage(self) -> dict[str, object]:
        """What a step shows of it: its name and its replies; there are no requests, and there is no price."""
        return {"teacher": self.name, "replies": self.replies}

    def _answer(self, prompt: str, draw: int) -> str:
        fields = read_back("teacher", prompt, self.templates)
        items = items_in(fields["item"]) if fields else []
        if len(items) != 1:
            raise InputError(
                f"--teacher_model {RULES}: it writes rationales; to have them judged, name another teacher"
            )
        text, relevant = rationale(items_in(fields["history"]), items[0], self.rng(prompt, draw))
        return f"Rationale: {text}\nConnection: {'yes' if relevant else 'no'}"

    def rng(self, prompt: str, draw: int) -> random.Random:
        """What chooses among the wordings of an answer: the same for the same seed, draw and prompt."""
        digest = hashlib.sha256(f"{self.seed}\n{draw}\n{prompt}".encode(errors="replace")).digest()
        return random.Random(int.from_bytes(digest[:8]))


def rationale(history: Sequence[dict[str, str]], item: dict[str, str], rng: random.Random) -> tuple[str, bool]:
    """A rationale of two to four sentences that leads from a history to an item, and whether there is a connection.

    Items are as `prompts.items_in` reads them, the history oldest first; `rng` chooses among wordings.
    """
    past, new = [_entry(one) for one in history], _entry(item)
    terms = _in_common(past, new)
    shown = [term for term, _ in terms]
    liked = [one for one in past if LIKED[one.rating]]
    speaking = [one for one in liked if any(_has(one, term) for term in shown)]
    say = _Say(rng, new.name)
    if not speaking:
        return (say("nothing", items=_names(past[-NAMED:])) if past else say("no_history")), False
    asked = [term for term in shown if any(term in one.asked for one in speaking)]
    speaking = sorted(speaking, key=lambda one: -LIKED[one.rating] * sum(_has(one, term) for term in shown))[:NAMED]
    words = dict(terms)
    said = [say("history", terms=listed(list(words.values())), items=_names(speaking))]
    if asked:
        said.append(say("aspects", aspects=listed([words[term] for term in asked])))
    if low := next((one for one in reversed(past) if one.rating and not LIKED[one.rating]), None):
        said.append(say("blamed", item=low.name, rating=low.rating))
    said.append(say("match", terms=listed(list(words.values()))))
    return " ".join(said), True


def _in_common(past: Sequence[Entry], new: Entry) -> list[tuple[Term, str]]:
    """Up to NAMED terms that an item shares with a history, with their words as they stand in the item.

    What counts stands in both titles, in one and the other's description, or is asked for in a review. None where no
    term that tells something weighs enough.
    """
    weights: dict[Term, float] = {}
    own = new.text | new.title
    for term in own:
        for one in past:
            titles = (term in new.title) + (term in one.title)
            weight = ASKED_FOR * (term in one.asked)
            weight = weight or (
                IN_TITLES if titles == 2 else IN_TEXTS if titles and term in one.title | one.text else 0.0
            )
            if weight * LIKED[one.rating]:
                weights[term] = weights.get(term, 0.0) + weight * LIKED[one.rating] * (PAIR if len(term) > 1 else 1.0)
    telling = {term for term in weights if not common_stems().issuperset(term)}
    if max((weights[term] for term in telling), default=0.0) < CONNECTED:
        return []
    ranked = sorted(weights, key=lambda term: (term not in telling, -weights[term], term))
    chosen: list[Term] = []
    for term in ranked:
        if len(chosen) < NAMED and not any(set(term) & set(other) for other in chosen):
            chosen.append(term)
    return [(term, own[term]) for term in chosen]


def _entry(item: dict[str, str]) -> Entry:
    title = terms_of(item["title"])
    text = terms_of(item.get("description", ""))
    return Entry(short_name(item["title"]), item.get("rating", ""), title, text, _asked(item.get("review", "")))


def _has(one: Entry, term: Term) -> bool:
    return term in one.title or term in one.text or term in one.asked


def terms_of(text: str) -> dict[Term, str]:
    """The words of content of a text and their pairs side by side, by their stems, as they first stand in it."""
    found: dict[Term, str] = {}
    for run in runs(text):
        for size in (1, 2):
            for start in range(len(run) - size + 1):
                words = run[start : start + size]
                found.setdefault(tuple(map(stem, words)), " ".join(words))
    return found


def _asked(review: str) -> dict[Term, str]:
    """What a review praises or asks for: the nouns of clauses with more praise than blame, and of wishes."""
    found: dict[Term, str] = {}
    for clause in clauses(review):
        signs = (polarity(word.text) * (-1 if is_negated(clause, k) else 1) for k, word in enumerate(clause))
        total, wish = sum(signs), WISH.search(" ".join(word.text for word in clause))
        if total > 0 or (wish and total == 0):
            for word in clause:
                if word.tag in NOUNS:
                    found |= {(stem(one),): one for one in content_words(word.text)}
    return found


def short_name(title: str) -> str:
    """The first words of a title, up to where it lists what it is made of, and for whom."""
    first = _NAME_ENDS.split(title, maxsplit=1)[0].strip() or title
    return " ".join(first.split()[:NAME_WORDS])


def _names(entries: Sequence[Entry]) -> str:
    names = dict.fromkeys(f"{one.name}{f' (rated {one.rating})' if one.rating else ''}" for one in entries)
    return listed(list(names))


def listed(words: Sequence[str]) -> str:
    """Words with commas between them, and an `and` before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


class _Say:
    """Chooses among the wordings, and fills in what they name; each begins with a capital."""

    def __init__(self, rng: random.Random, title: str):
        self.rng, self.title = rng, title

    def __call__(self, what: str, **parts: str) -> str:
        fields = parts | {"title": self.title}
        text = self.rng.choice(_wordings()[what])
        text = re.sub(r"\{(\w+)\}", lambda found: fields[found[1]], text)
        return text[:1].upper() + text[1:]


@cache
def common_stems() -> frozenset[str]:
    """The stems of properties that any kind of item may have: they may be named, but make no connection.

    In Grocery they do not tell a user's last item from any other.
    """
    return frozenset(map(stem, word_list("common")))


@cache
def _wordings() -> dict[str, list[str]]:
    return yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))
