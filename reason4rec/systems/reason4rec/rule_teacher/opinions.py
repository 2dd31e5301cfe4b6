"""Aspects that a review praises or criticises, by rules on its clauses.

Our decision: the paper has ChatGPT for this. `docs/teacher.md` has what was counted by eye.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from reason4rec.systems.reason4rec.rule_teacher.english import (
    ADJECTIVES,
    ADVERBS,
    NOUNS,
    Word,
    clauses,
    is_negated,
    polarity,
    words,
)
from reason4rec.systems.reason4rec.rule_teacher.vocabulary import Phrase, Vocabulary, is_owned, phrases_of

STRONG, WEAK = 2, 1
OVERALL = "overall quality"  # of a review that praises or blames, and names no aspect


class Opinion(NamedTuple):
    """An aspect, as a key to compare and in words to show; 1 for praise or -1 for blame; and how sure that is."""

    key: str
    shown: str
    sign: int
    weight: int


def opinions(review: str, rating: float, vocabulary: Vocabulary) -> list[Opinion]:
    """What a review praises and criticises, each aspect once; `rating` (1 to 5) decides where its words do not.

    An aspect that is both is what it is more surely, or what the rating says. An unsure one never contradicts it.
    """
    parsed = [(clause, phrases_of(clause, vocabulary)) for clause in map(_before_comparing, clauses(review))]
    prior = (rating > 3) - (rating < 3)
    found = [
        one
        for clause, phrases in parsed
        for one in _in_clause(clause, phrases, prior)
        if not (prior < 0 < one.sign and _is_of_others(clause, one))
    ]
    found = [one for one in found if one.weight == STRONG or one.sign == prior or not prior]
    if not found and (sign := _of_the_whole(parsed)) * prior >= 0 and sign:
        found = [Opinion(OVERALL, OVERALL, sign, WEAK)]
    total: Counter = Counter()
    for one in found:
        total[one.key] += one.sign * one.weight
    merged: dict[str, Opinion] = {}
    for one in found:
        sign = (total[one.key] > 0) - (total[one.key] < 0) or prior
        if one.sign == sign and (one.key not in merged or len(one.shown) > len(merged[one.key].shown)):
            merged[one.key] = one
    return list(merged.values())


def mentioned(review: str, vocabulary: Vocabulary) -> list[Phrase]:
    """The aspects that a review speaks of as the item's own, whether it judges them or not."""
    parsed = [phrases_of(clause, vocabulary) for clause in map(_before_comparing, clauses(review))]
    return [phrase for phrases in parsed for phrase in phrases if is_owned(phrase)]


def _before_comparing(clause: list[Word]) -> list[Word]:
    """A clause up to where it speaks of other items: than, unlike, like other."""
    known = words()
    for k, word in enumerate(clause):
        other = {one.text for one in clause[k + 1 : k + 4]} & known["others"] and word.text == "like"
        if word.text in known["comparing"] or other:
            return clause[:k]
    return clause


def _in_clause(clause: list[Word], phrases: list[Phrase], prior: int) -> Iterator[Opinion]:
    known = words()
    texts = {word.text for word in clause}
    if _is_unreal(clause):
        return
    fixed = list(_fixed(" ".join(word.text for word in clause if word.text != ",")))
    yield from fixed
    if texts & known["others"] and not texts & {"this", "it", "these"}:
        return
    told = set()
    for one, phrase in (*_described(clause, phrases), *_predicated(clause, phrases), *_liked(clause, phrases)):
        if phrase is None or phrase not in told:
            told.add(phrase)
            yield one
    yield from _done(clause, phrases, prior)
    if not told and not fixed:
        sign = sum(polarity(word.text) * (-1 if is_negated(clause, k) else 1) for k, word in enumerate(clause))
        if sign:
            yield from (Opinion(p.key, p.shown, 1 if sign > 0 else -1, WEAK) for p in phrases if is_owned(p))


def _is_unreal(clause: Sequence[Word]) -> bool:
    """Whether a clause speaks of what is not: a condition, a wish, a question."""
    texts = {word.text for word in clause}
    if any(one.tag == "PRP" and two.text in words()["needs"] for one, two in zip(clause, clause[1:])):
        return True
    return bool(texts & words()["unreal"]) and not ("would" in texts and texts & words()["meant"])


def _is_of_others(clause: Sequence[Word], one: Opinion) -> bool:
    """Whether praise in a bad review is for another item, one that is better or worth its price."""
    return one.key == "value for money" or any(word.tag in ("JJR", "RBR") or word.text == "better" for word in clause)


def _of_the_whole(parsed: Sequence[tuple[list[Word], list[Phrase]]]) -> int:
    """1 or -1 where words of opinion stand beside the item itself, 0 where none do or they are even."""
    total = 0
    for clause, _ in parsed:
        if not _is_unreal(clause):
            total += sum(polarity(word.text) * (-1 if is_negated(clause, k) else 1) for k, word in enumerate(clause))
    return (total > 0) - (total < 0)


@cache
def _patterns() -> tuple[tuple[re.Pattern, str, int], ...]:
    return tuple(
        (re.compile(rf"\b(?:{pattern})\b"), aspect, sign)
        for name, sign in (("praised", 1), ("blamed", -1))
        for aspect, pattern in words()[name].items()
    )


def _fixed(text: str) -> Iterator[Opinion]:
    """Turns of phrase such as `easy to use`, `worth the money`, `fell apart`."""
    for pattern, aspect, sign in _patterns():
        if match := pattern.search(text):
            before = text[: match.start()].split()[-4:]
            turned = words()["negations"] | (words()["difficulties"] if sign > 0 else set())
            flipped = any(word in turned for word in before) and not match[0].startswith("beat")
            yield Opinion(aspect, aspect, -sign if flipped else sign, STRONG)


def _sign(clause: Sequence[Word], place: int) -> int:
    """What a word of opinion says where it stands: turned by a negation, by `too` and by `could be`."""
    word = clause[place]
    before = [one.text for one in clause[max(0, place - 3) : place]]
    sign = polarity(word.text)
    negated = is_negated(clause, place) != ("less" in before[-1:])
    if "too" in before and word.tag in ADJECTIVES:
        return 1 if negated else -1
    if word.text in words()["by_degree"] and words()["slightly"] & set(before) and not negated:
        return -1
    better = word.tag in ("JJR", "RBR") or word.text == "better"
    if better and sign > 0:
        if negated:
            return 1  # could not be better, never had a better one
        if {"could", "would"} & set(before):
            return -1
    return -sign if negated else sign


def _described(clause: Sequence[Word], phrases: Sequence[Phrase]) -> Iterator[tuple[Opinion, Phrase | None]]:
    """`great tone`, `thin padding`, `no hum`, `not enough room`, and of the item `a sturdy strap`."""
    known = words()
    for phrase in phrases:
        if phrase.kind == "fault":
            bought = phrase.end < len(clause) and clause[phrase.end].tag in NOUNS
            if not bought and phrase.end - phrase.first_noun == 1:
                aspect = known["faults"][phrase.key]
                if is_negated(clause, phrase.first_noun) or clause[phrase.start].text in ("less", "low", "quiet"):
                    yield Opinion(aspect, known["virtues"][aspect], 1, STRONG), phrase
                elif phrase.determiner in ("", "a", "some", "the", "much", "of"):
                    surely = STRONG if phrase.determiner in ("a", "some", "much", "of") else WEAK
                    yield Opinion(aspect, aspect, -1, surely), phrase
            continue
        if phrase.kind == "item" or phrase.key in known["pointers"] | known["solutions"]:
            for k in range(phrase.start, phrase.first_noun):
                if _qualities().get(clause[k].text) not in ("price", "light weight", None):
                    yield from ((one, None) for one in _quality(clause[k], _sign(clause, k)))
        if phrase.kind != "aspect" or phrase.determiner in known["possessives"] and phrase.start == phrase.first_noun:
            continue
        signs = [(_sign(clause, k), k) for k in range(phrase.start, phrase.first_noun) if clause[k].text not in ",and"]
        if phrase.key == "price":
            signs += [((w in known["low"]) - (w in known["high"]), k) for w, k in _texts(clause, phrase)]
        signs = [(sign, k) for sign, k in signs if sign]
        before = {word.text for word in clause[max(0, phrase.start - 2) : phrase.start]}
        if signs:
            sign, k = signs[-1]
            yield Opinion(phrase.key, _shown(phrase, clause, k, sign), sign, STRONG), phrase
        elif "enough" in before or "lack" in before or "lacks" in before:
            sign = -1 if is_negated(clause, phrase.start) else 1
            yield Opinion(phrase.key, phrase.shown, sign, STRONG), phrase


def _texts(clause: Sequence[Word], phrase: Phrase) -> Iterator[tuple[str, int]]:
    """The words before the nouns of a phrase, and their places."""
    return ((clause[k].text, k) for k in range(phrase.start, phrase.first_noun))


def _shown(phrase: Phrase, clause: Sequence[Word], place: int, sign: int) -> str:
    """The words of a phrase with the adjective that describes it, if it says more than its sign does."""
    word = clause[place].text
    plain = sign == polarity(word) and clause[place].tag in ADJECTIVES
    return f"{word} {phrase.shown}" if plain and word not in words()["general"] else phrase.shown


def _predicated(clause: Sequence[Word], phrases: Sequence[Phrase]) -> Iterator[tuple[Opinion, Phrase | None]]:
    """`the tone is bright`, and of the item as a whole `it is sturdy and comfortable`, or only `very sturdy`."""
    known = words()
    places = [k for k, word in enumerate(clause) if word.text in known["copulas"] and word.tag not in NOUNS]
    if not places:
        yield from ((one, None) for one in _at_first(clause, phrases))
        return
    place = places[0]
    subjects = [phrase for phrase in phrases if phrase.end <= place]
    subjects = [
        p
        for p in subjects
        if p.start == 0
        or clause[p.start - 1].text not in known["prepositions"]
        and (p.kind == "item" or p.determiner not in known["possessives"])
    ]
    # The subject is the nearest noun phrase, or the one that it belongs to: the clarity of the strings.
    subject = subjects[-1] if subjects else None
    pronoun = any(word.text in known["pronouns"] for word in clause[max(0, place - 3) : place]) or place == 0
    whole = subject is None and pronoun or subject is not None and subject.kind == "item"
    for k in range(place + 1, min(place + 9, len(clause))):
        word = clause[k]
        if word.tag in ADJECTIVES or polarity(word.text) and word.tag in ("VBN", "VBD", *ADVERBS):
            if any(phrase.start <= k < phrase.end for phrase in phrases):
                break
            sign = _sign(clause, k)
            if subject is not None and subject.kind == "aspect" and sign:
                yield Opinion(subject.key, _shown(subject, clause, k, sign), sign, STRONG), subject
            elif whole:
                yield from ((one, None) for one in _quality(word, sign))
        elif word.tag not in (*ADVERBS, "DT", ",", "CC", "VBN") and word.text not in (
            "not",
            "a",
            "bit",
            "little",
            "and",
        ):
            break


def _at_first(clause: Sequence[Word], phrases: Sequence[Phrase]) -> Iterator[Opinion]:
    """`very sturdy and comfortable`, where nothing stands before it."""
    for k, word in enumerate(clause):
        if word.tag not in (*ADJECTIVES, *ADVERBS, "CC", ",") or any(p.start <= k < p.end for p in phrases):
            break
        yield from _quality(word, _sign(clause, k))


@cache
def _qualities() -> dict[str, str]:
    return {word: aspect for aspect, listed in words()["qualities"].items() for word in listed.split()}


def _quality(word: Word, sign: int) -> Iterator[Opinion]:
    aspect = _qualities().get(word.text)
    if aspect and sign:
        yield Opinion(aspect, aspect, sign, STRONG)


def _liked(clause: Sequence[Word], phrases: Sequence[Phrase]) -> Iterator[tuple[Opinion, Phrase]]:
    """`i love the tone`, `i do not like the knobs`."""
    known = words()
    for k, word in enumerate(clause):
        sign = (word.text in known["likes"]) - (word.text in known["dislikes"])
        before = [one for one in clause[:k] if one.tag not in ADVERBS and one.text not in ("do", "did", "have", "not")]
        if not sign or word.tag in NOUNS or (before and before[-1].text not in ("i", "we", "and")):
            continue
        sign = -sign if is_negated(clause, k) else sign
        following = [phrase for phrase in phrases if phrase.start > k]
        if following and following[0].start - k <= 3 and following[0].kind == "aspect":
            chosen = following[0]
            yield Opinion(chosen.key, _as_described(chosen, clause), sign, STRONG), chosen
            for also in following[1:]:
                if also.kind == "aspect" and clause[also.start - 1 - bool(also.determiner)].text in ("and", ","):
                    yield Opinion(also.key, _as_described(also, clause), sign, STRONG), also


def _as_described(phrase: Phrase, clause: Sequence[Word]) -> str:
    """The words of a phrase with the last adjective before its nouns, if that says something."""
    word = clause[phrase.first_noun - 1] if phrase.start < phrase.first_noun else Word("", "")
    tells = word.tag in ADJECTIVES and word.text not in words()["general"] | words()["others"]
    return f"{word.text} {phrase.shown}" if tells else phrase.shown


def _done(clause: Sequence[Word], phrases: Sequence[Phrase], prior: int) -> Iterator[Opinion]:
    """`sounds great`, `the clamp works well`, `does not fit`, `broke`."""
    known = words()
    for k, word in enumerate(clause):
        if word.tag in NOUNS:
            continue
        subjects = [
            p for p in phrases if p.end <= k and (p.start == 0 or clause[p.start - 1].text not in known["prepositions"])
        ]
        subject = subjects[-1] if subjects and subjects[-1].kind == "aspect" and k - subjects[-1].end <= 3 else None
        if word.text in known["breaks"] and not is_negated(clause, k):
            alone = subject or not subjects or subjects[-1].kind == "item"
            if alone and word.tag.startswith("V") and "i" not in {one.text for one in clause[max(0, k - 2) : k]}:
                key, shown = (subject.key, subject.shown) if subject else ("durability", "durability")
                yield Opinion(key, shown, -1, WEAK)
            continue
        aspect = known["verbs_of"].get(word.text)
        up = k + 1 < len(clause) and clause[k + 1].text == "up"
        if not aspect or up or "i" in {one.text for one in clause[max(0, k - 2) : k]}:
            continue
        key, shown = (subject.key, subject.shown) if subject else (aspect, aspect)
        said = _said_of_verb(clause, k)
        if said:
            yield Opinion(key, shown, said[0], STRONG)
        elif word.text in known["denied"] and is_negated(clause, k):
            yield Opinion(key, shown, -1, STRONG)
        elif word.text in ("works", "fits", "worked") and prior > 0 and not subject:
            yield Opinion(key, shown, 1, WEAK)


def _said_of_verb(clause: Sequence[Word], place: int) -> list[int]:
    """The signs of what is said of a verb: right behind it, by an adverb behind its object, or just before it."""
    said = []
    for k in range(place + 1, min(place + 7, len(clause))):
        near = all(one.tag in (*ADJECTIVES, *ADVERBS) for one in clause[place + 1 : k])
        if clause[k].text == "like":
            break
        if clause[k].tag in ADVERBS or clause[k].tag in ADJECTIVES and near:
            said.append(_sign(clause, k))
    if place and clause[place - 1].tag in ADVERBS:
        said.append(_sign(clause, place - 1))
    return [sign for sign in said if sign]
