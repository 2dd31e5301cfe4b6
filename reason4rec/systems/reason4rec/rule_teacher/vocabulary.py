"""The nouns that the reviews of a dataset use for aspects of its items, learned from them, and noun phrases.

Our decision: an aspect is a noun that many reviews name and that words of opinion often stand beside.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reason4rec.systems.reason4rec.rule_teacher.english import (
    ADJECTIVES,
    ADVERBS,
    NOUNS,
    Word,
    clauses,
    polarity,
    singular,
    words,
)

LEARNED_FROM = 20_000  # reviews, evenly spread over the rows
LEAST = 0.0003  # least share of the reviews that name a noun, and that praise or blame it
DESCRIBED = 0.05  # share of its uses beside a word of opinion from which on a noun is an aspect
ITEM = 0.12  # share of its uses after this, these, my or your from which on a noun names the items themselves
THE = 0.05  # least share of its uses after an article
BRAND = 0.5  # share of uses in capitals within a sentence from which on a noun is a name

_CAPITAL = re.compile(r"(?<=[a-z,] )[A-Z][\w'-]*")


@dataclass(frozen=True)
class Vocabulary:
    """The nouns of a dataset's reviews, all in the singular: aspects, pairs of nouns, and the items themselves."""

    nouns: frozenset[str]
    pairs: frozenset[str]
    items: frozenset[str]


class Phrase(NamedTuple):
    """A noun phrase of a clause: its places, what it is, its key in the singular, and its words as they stand."""

    start: int
    first_noun: int
    end: int
    kind: str
    key: str
    shown: str
    determiner: str


def learn(reviews: Sequence[str]) -> Vocabulary:
    """The vocabulary of reviews by how many of them name a noun; the same reviews give the same one."""
    reviews = reviews[:: max(1, len(reviews) // LEARNED_FROM)]
    named, uses, pointed, articles, described, capitals = (Counter() for _ in range(6))
    for review in reviews:
        capitals.update(word.lower() for word in _CAPITAL.findall(review))
        terms = set()
        for clause in clauses(review):
            for start, first, end in _runs(clause):
                determiner = clause[start - 1].text if start else ""
                for term in _terms(clause, first, end):
                    terms.add(term)
                    uses[term] += 1
                    pointed[term] += determiner in ("this", "these", "my", "your") or _is_named(clause, start)
                    articles[term] += determiner in ("the", "its", "their", "a", "an")
                    described[term] += _is_described(clause, start, first, end)
        named.update(terms)
    least = max(1, round(LEAST * len(reviews)))
    known = words()
    never = known["stop"] | {noun for noun in named if capitals[noun] >= BRAND * uses[noun]}
    kept = {term for term, count in named.items() if count >= least and not never & set(term.split()[-1:])}
    kept = {term for term in kept if articles[term] + pointed[term] >= THE * uses[term] and _is_noun(term)}
    kept = {term for term in kept if described[term] >= max(least, DESCRIBED * uses[term])}
    items = {term for term in kept if pointed[term] >= ITEM * uses[term]}
    pairs = {term for term in kept - items if " " in term}
    pairs = {pair for pair in pairs if pair.split()[1] not in items or pointed[pair] < ITEM * uses[pair] / 4}
    pairs = {pair for pair in pairs if pair.split()[0] not in never | known["general"] | {"quality"}}
    return Vocabulary(*(frozenset(some) for some in (_single(kept - items), pairs, _single(items))))


def _terms(clause: Sequence[Word], first: int, end: int) -> list[str]:
    """The noun that a run of nouns is about, in the singular, and that noun with the one before it."""
    head = singular(clause[end - 1].text)
    return [head, f"{singular(clause[end - 2].text)} {head}"] if end - first > 1 else [head]


def _single(terms: set[str]) -> set[str]:
    return {term for term in terms if " " not in term and len(term) > 2}


def _is_named(clause: Sequence[Word], start: int) -> bool:
    """Whether a noun phrase says what the item is: `this is a tuner`, `they are strings`."""
    known = words()
    before = [word.text for word in clause[:start] if word.tag not in ADVERBS and word.text not in ("a", "an")]
    return len(before) == 2 and before[0] in known["pronouns"] and before[1] in known["copulas"]


def _is_described(clause: Sequence[Word], start: int, first: int, end: int) -> bool:
    """Whether a word of opinion stands before a noun, or behind it as in `the tone is very bright`."""
    if any(polarity(word.text) for word in clause[start:first]):
        return True
    if end == len(clause) or clause[end].text not in words()["copulas"]:
        return False
    behind = [word for word in clause[end + 1 : end + 4] if word.tag not in ADVERBS]
    return bool(behind) and behind[0].tag in ADJECTIVES and bool(polarity(behind[0].text))


def _runs(clause: Sequence[Word]) -> Iterator[tuple[int, int, int]]:
    """The places of noun phrases: of their first adjective, their first noun, and the end."""
    end = 0
    for k, word in enumerate(clause):
        if k < end or word.tag not in NOUNS:
            continue
        end = k + 1
        while end < len(clause) and clause[end].tag in NOUNS:
            end += 1
        start = k
        while start and (
            clause[start - 1].tag in (*ADJECTIVES, "VBN")
            or (clause[start - 1].text in (",", "and") and start > 1 and clause[start - 2].tag in ADJECTIVES)
        ):
            start -= 1
        yield start, k, end


def phrases_of(clause: Sequence[Word], vocabulary: Vocabulary) -> list[Phrase]:
    """The noun phrases of a clause, in their order."""
    known = words()
    found = []
    for start, first, end in _runs(clause):
        head, shown = singular(clause[end - 1].text), clause[end - 1].text
        key = head
        if end - first > 1 and (pair := f"{singular(clause[end - 2].text)} {head}") in vocabulary.pairs:
            key, shown = pair, f"{clause[end - 2].text} {shown}"
        key, shown = known["same"].get(key, key), known["same"].get(key, shown)
        kinds = (("fault", known["faults"]), ("item", vocabulary.items | known["pointers"]), ("stop", known["stop"]))
        kind = next((kind for kind, nouns in kinds if head in nouns), "")
        kind = kind or ("aspect" if head in vocabulary.nouns else "other")
        determiner = clause[start - 1].text if start else ""
        found.append(Phrase(start, first, end, kind, key, shown, determiner))
    return found


def is_owned(phrase: Phrase) -> bool:
    """Whether a phrase names an aspect as the item's own: the tone, its tone."""
    return phrase.kind == "aspect" and phrase.determiner in ("the", "its", "their")


def _is_noun(noun: str) -> bool:
    from textblob.en import parser

    return parser.lexicon.get(noun.split()[-1], "NN") in (*NOUNS, "VB", "VBG")
