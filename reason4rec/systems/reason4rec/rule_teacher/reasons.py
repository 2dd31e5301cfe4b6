"""Summaries and reasons in the rule teacher's words: three lines of keywords, and one paragraph from two histories."""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from reason4rec.data.catalog import nearest_star
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS
from reason4rec.systems.reason4rec.reward_filter import gives_away
from reason4rec.systems.reason4rec.rule_teacher.english import singular, words
from reason4rec.systems.reason4rec.rule_teacher.opinions import OVERALL, mentioned, opinions
from reason4rec.systems.reason4rec.rule_teacher.vocabulary import Vocabulary

WORDINGS = Path(__file__).with_name("wordings.yaml")
KEYWORDS = 6  # of a line of a summary, at most
LONGEST = 6  # words of a keyword that a reason names
WANTED, NAMED = 12, 3  # aspects that a user's history is searched for, and those that a sentence names
NOTHING = "None"
# Of the verdict without a hint: how much the match, the item's own balance and the user's count, and where the five
# verdicts part. Measured on the earlier half of Musical Instruments by least squares, which gave the match nothing, and
# by the shares of its ratings. What is little known is taken for the usual praise.
MATCH, ITEM, USER = 0.3, 1.0, 1.4
PARTS = (1.0, 1.3, 1.6, 2.0)
USUAL, AFTER = 0.75, 2  # a balance, and as many keywords as it weighs

_LINE = re.compile(rf"^({'|'.join(SUMMARY_PARTS)}):(.*)$", re.MULTILINE)
_EMPTY = re.compile(r"(?:none|not|nothing|n/a|no)\b(?: .*)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d")


def summary_of(review: str, rating: float, vocabulary: Vocabulary) -> str:
    """The three lines of a review's summary; `rating` is its own, of 1 to 5.

    Preference elements are what the review speaks of, whether it praises it or not, and first what it praises.
    """
    found = opinions(review, rating, vocabulary)
    praised = [one.shown for one in found if one.sign > 0]
    blamed = [one.shown for one in found if one.sign < 0]
    virtues = words()["virtues"]
    wanted = {one.key: one.shown for one in found if one.sign > 0 and one.key != OVERALL}
    wanted |= {one.key: virtues.get(one.key, one.key) for one in found if one.sign < 0 and one.key != OVERALL}
    if len(wanted) < KEYWORDS // 2:
        wanted = {phrase.key: phrase.shown for phrase in mentioned(review, vocabulary)} | wanted
    lines = (praised, blamed, [*dict.fromkeys(wanted.values())])
    return "\n".join(f"{part}: {', '.join(line[:KEYWORDS]) or NOTHING}" for part, line in zip(SUMMARY_PARTS, lines))


@dataclass(frozen=True)
class Told:
    """What the summaries of a history name: how often each aspect, by its key, and in which words most often.

    `good` has the words of praise and of wishes, `bad` those of blame.
    """

    praised: Counter
    blamed: Counter
    wanted: Counter
    good: dict[str, str]
    bad: dict[str, str]

    @property
    def balance(self) -> float:
        """From -1, all is blamed, to 1, all is praised; near USUAL where little is said."""
        praised, blamed = self.praised.total(), self.blamed.total()
        return (praised - blamed + AFTER * USUAL) / (praised + blamed + AFTER)


def told_in(history: str) -> Told:
    """What the summaries in the text of a history name."""
    praised, blamed, wanted = (Counter() for _ in SUMMARY_PARTS)
    counts = dict(zip(SUMMARY_PARTS, (praised, blamed, wanted)))
    good: dict[str, Counter] = {}
    bad: dict[str, Counter] = {}
    for part, line in _LINE.findall(history):
        for keyword in dict.fromkeys(one.strip(" .;*\"'") for one in line.split(",")):
            if not keyword or _EMPTY.fullmatch(keyword) or _NUMBER.search(keyword) or gives_away(f"{keyword} "):
                continue
            if len(keyword.split()) > LONGEST:
                continue
            key = key_of(keyword)
            counts[part][key] += 1
            forms = bad if counts[part] is blamed else good
            forms.setdefault(key, Counter())[_in_a_sentence(keyword)] += 1
    return Told(praised, blamed, wanted, _most_often(good), _most_often(bad))


def _most_often(forms: Mapping[str, Counter]) -> dict[str, str]:
    return {key: min(found, key=lambda form: (-found[form], len(form), form)) for key, found in forms.items()}


def key_of(keyword: str) -> str:
    """What two keywords for one thing have in common: their noun, in the singular."""
    found = keyword.lower().split()
    if "of" in found or "for" in found or len(found) == 1:
        return singular(found[0]) if len(found) == 1 else " ".join(found)
    return " ".join(found[-2:]) if found[-1] == "quality" else singular(found[-1])


def _in_a_sentence(keyword: str) -> str:
    first, rest = keyword[:1], keyword[1:]
    return first.lower() + rest if rest == rest.lower() else keyword


class Match(NamedTuple):
    """Aspects that a user cares for, by what others say of the item: praise, blame, or nothing; and the rest."""

    met: list[str]
    missed: list[str]
    open: list[str]
    strong: list[str]
    weak: list[str]
    liked: list[str]
    resented: list[str]


def reason_of(title: str, user_history: str, item_history: str, rng: random.Random, rating: float | None = None) -> str:
    """One paragraph of three to six sentences on whether a user will like an item, without a number in it.

    The histories are texts with summaries in them. With `rating` (1 to 5) the verdict follows it, and what speaks
    for it is said first. `rng` chooses among wordings and among things to name, so that draws differ.
    """
    user, item = told_in(user_history), told_in(item_history)
    weights = _weights(user)
    level = verdict(user, item, weights) if rating is None else max(-2, min(2, nearest_star(rating) - 3))
    match = _match(user, item, weights, rng)
    name = title if len(title) <= 60 and not _NUMBER.search(title) and not gives_away(f"{title} ") else "the item"
    say = Say(rng)
    said = [_of_the_user(match, say), _of_the_item(name, match, say), *_of_both(match, level, say), say(level)]
    return " ".join(f"{one[:1].upper()}{one[1:].removesuffix('.')}." for one in said)


def _weights(user: Told) -> Counter:
    weights = Counter({key: 2 * count for key, count in user.wanted.items()}) + user.praised + user.blamed
    weights.pop(OVERALL, None)
    return weights


def verdict(user: Told, item: Told, weights: Counter) -> int:
    """-2 to 2, from what the user cares for and others praise or blame, and from how both mostly judge."""
    known = {key: item.praised[key] + item.blamed[key] for key in weights}
    share = sum(weights[key] * (item.praised[key] - item.blamed[key]) / n for key, n in known.items() if n)
    match = (share + AFTER * USUAL) / (sum(weights[key] for key, n in known.items() if n) + AFTER)
    value = MATCH * match + ITEM * item.balance + USER * user.balance
    return sum(value >= part for part in PARTS) - 2


def _match(user: Told, item: Told, weights: Counter, rng: random.Random) -> Match:
    wanted = sorted(weights, key=lambda key: (-weights[key], key))[:WANTED]
    met = [key for key in wanted if item.praised[key] > item.blamed[key]]
    missed = [key for key in wanted if 0 < item.blamed[key] >= item.praised[key]]
    unknown = [key for key in wanted if not item.praised[key] and not item.blamed[key]]
    strong = [key for key in _ranked(item.praised) if item.praised[key] > item.blamed[key] and key not in met]
    weak = [key for key in _ranked(item.blamed) if item.blamed[key] >= item.praised[key] and key not in missed]
    liked = [key for key in wanted if user.praised[key] >= user.blamed[key]]
    resented = [key for key in _ranked(user.blamed) if user.blamed[key] > user.praised[key]]
    virtues = words()["virtues"]
    good = {key: virtues.get(key, key) for key in weights} | item.good | user.good
    bad = item.bad | user.bad
    parts = ((met, good), (missed, bad), (unknown, good), (strong, good), (weak, bad), (liked, good), (resented, bad))
    return Match(*([shown[key] for key in _some(part, rng)] for part, shown in parts))


def _ranked(counts: Counter) -> list[str]:
    return sorted((key for key in counts if key != OVERALL), key=lambda key: (-counts[key], key))


def _some(keys: Sequence[str], rng: random.Random) -> list[str]:
    """Up to NAMED of the first keys, drawn, in their order: the earlier ones more often."""
    among = keys[: NAMED + 2]
    drawn = sorted(among, key=lambda key: rng.random() * (among.index(key) + 2))[:NAMED]
    return [key for key in among if key in drawn]


class Say:
    """Chooses among the wordings of `wordings.yaml`, and fills in lists of aspects."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def __call__(self, what: str | int, **lists: Sequence[str]) -> str:
        texts = wordings()[what] if isinstance(what, str) else wordings()["verdicts"][what]
        text = self.rng.choice(texts)
        for name, words_ in lists.items():
            text = text.replace(f"{{{name}}}", _list(words_))
        return text


def _of_the_user(match: Match, say: Say) -> str:
    if not match.liked and not match.resented:
        return say("unknown_user")
    if not match.liked:
        return say("critical", resented=match.resented)
    others = [one for one in match.resented if one not in match.liked][:2]
    return say("looks_for", liked=match.liked) + (say("resents", resented=others) if others else "")


def _of_the_item(name: str, match: Match, say: Say) -> str:
    praised, blamed = [*match.met, *match.strong][:NAMED], [*match.missed, *match.weak][:NAMED]
    which = "praised_and_blamed" if praised and blamed else "praised" if praised else "blamed" if blamed else ""
    return say(which or "unknown_item", praised=praised, blamed=blamed).replace("{name}", name)


def _of_both(match: Match, level: int, say: Say) -> list[str]:
    """What meets and what fails the user's wishes; what speaks for the verdict comes first, the other side as less."""
    if level > 0:
        least = say("despite_missed", missed=match.missed[:1]) if match.missed else ""
        most = say("met", met=match.met) if match.met else say("hopes", open=match.open) if match.open else ""
        return [most or say("outlook_good"), *([say("turns_up") + least] if least else [])]
    if level < 0:
        least = say("despite_met", met=match.met[:1]) if match.met else ""
        most = say("missed", missed=match.missed) if match.missed else ""
        most = most or (say("doubts", open=match.open) if match.open else "")
        return [most or say("outlook_bad"), *([least] if least else [])]
    both = [say("met", met=match.met)] if match.met else []
    both += [say("turns_up") + say("missed", missed=match.missed)] if match.missed and both else []
    both += [say("missed", missed=match.missed)] if match.missed and not both else []
    both += [say("turns_up") + say("outlook_open")] if len(both) == 1 else []
    return both or [say("open", open=match.open) if match.open else say("outlook_open")]


@cache
def wordings() -> dict:
    """The wordings of reasons, by what they say."""
    return yaml.safe_load(WORDINGS.read_text(encoding="utf-8"))


def _list(words_: Sequence[str]) -> str:
    if len(words_) < 2:
        return "".join(words_)
    return f"{', '.join(words_[:-1])} and {words_[-1]}"
