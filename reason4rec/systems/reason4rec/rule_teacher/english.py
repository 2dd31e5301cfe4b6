"""English as the rule teacher reads it: sentences, clauses, words with their parts of speech, and words of opinion.

Parts of speech come from textblob's tagger, polarities from VADER's lexicon, then textblob's; `words.yaml` has what
both lack or have otherwise than reviews of things mean it. Nothing is downloaded.
"""

import html
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

WORDS = Path(__file__).with_name("words.yaml")
POLAR = 0.25  # least polarity, of 0 to 1, of an adjective in textblob's lexicon that counts as an opinion
ADJECTIVES, NOUNS, ADVERBS = ("JJ", "JJR", "JJS"), ("NN", "NNS", "NNP", "NNPS"), ("RB", "RBR", "RBS")
NEGATION_REACHES = 5  # words
LONGEST = 60  # words of a clause, for texts without punctuation

_SENTENCE = re.compile(r"(?<=[.!?;:\n)(])|\s-+\s|\.\.+")
_TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*|[0-9]+(?:[.,/][0-9]+)*|[,?]")
_SHORT = (
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\b(?:dont|doesnt|didnt|isnt|wasnt|wont|cant|couldnt|wouldnt)\b"), lambda m: f"{m[0][:-2]} not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(it|that|this|there|here|what|he|she|who)'s\b"), r"\1 is"),
    (re.compile(r"'(?:s|)(?=\W|$)"), ""),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
)


class Word(NamedTuple):
    """A word in lower case, and its part of speech as in the Penn Treebank."""

    text: str
    tag: str


@cache
def words() -> dict:
    """The lists of `words.yaml`; those of single words are sets."""
    lists = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return {name: set(value.split()) if isinstance(value, str) else value for name, value in lists.items()}


@cache
def polarity(word: str) -> int:
    """1 for a word of praise, -1 for one of blame, 0 for any other."""
    known = words()
    for name, sign in (("neutral", 0), ("praise", 1), ("blame", -1)):
        if word in known[name]:
            return sign
    vader, pattern = _lexicons()
    value = vader.get(word, 0.0)
    if not value:
        about = dict.get(pattern, word, {})
        value = about["JJ"][0] if "JJ" in about and abs(about["JJ"][0]) >= POLAR else 0.0
    return (value > 0) - (value < 0)


@cache
def _lexicons() -> tuple[dict, dict]:
    from textblob.en import sentiment
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    sentiment.load()
    return SentimentIntensityAnalyzer().lexicon, sentiment


@cache
def singular(noun: str) -> str:
    """The singular of a noun, as far as endings tell."""
    from textblob.en.inflect import singularize

    return noun if noun.endswith(("ss", "us", "is")) or len(noun) < 4 else singularize(noun)


def clauses(text: str) -> Iterator[list[Word]]:
    """The clauses of a text, each a list of words without its commas; questions are left out."""
    text = html.unescape(text).replace("’", "'").replace("`", "'").lower()
    for short, long in _SHORT:
        text = short.sub(long, text)
    for sentence in _SENTENCE.split(text):
        tokens = _TOKEN.findall(sentence or "")
        if tokens and tokens[-1] != "?":
            yield from _split(_tagged(tokens))


def _tagged(tokens: Sequence[str]) -> list[Word]:
    """The words with their parts of speech, mended where textblob's lexicon has the sense of news, not of reviews."""
    from textblob.en import tag as tags_of

    found: list[Word] = []
    tagged = [Word(word, tag) for word, (_, tag) in zip(tokens, tags_of(" ".join(tokens), tokenize=False), strict=True)]
    for k, word in enumerate(tagged):
        after = tagged[k + 1] if k + 1 < len(tagged) else Word("", "")
        found.append(Word(word.text, _mended(word, found, after)))
    return found


def _mended(word: Word, earlier: Sequence[Word], after: Word) -> str:
    known, (text, tag) = words(), word
    before = earlier[-1] if earlier else Word("", "")
    subject = next((one for one in reversed(earlier[-3:]) if one.tag not in (*ADVERBS, "MD")), Word("", ""))
    modified = before.tag in ("DT", "PRP$", *ADJECTIVES) and before.text not in ("this", "that", "these", "all")
    if text in known["adjectives"] and (before.text in known["copulas"] or before.tag in ADVERBS or after.tag in NOUNS):
        return "JJ"
    if text in known["adverbs"] or tag in ADJECTIVES and text.endswith("ly") and not polarity(text):
        return "RB"
    joined = before.tag in ("NNS", "CC", "MD", *ADVERBS) and subject.tag != "DT"
    if text in known["verbs_of"] and joined and after.tag in (*ADJECTIVES, *ADVERBS):
        return "VB"
    if tag in NOUNS and (before.text == "not" or before.tag == "MD"):
        return "VB"
    if text in known["verbs"]:
        return "NN" if modified or (before.tag in NOUNS and after.text in known["copulas"]) else "VB"
    if tag in NOUNS and (subject.tag == "PRP" or before.text == "to") and before.tag not in ADJECTIVES:
        return "VB"
    named = tag in ("VB", "VBP") or tag == "VBG" and after.tag not in ("DT", "PRP", "PRP$", "RP", "IN")
    return "NN" if modified and named else tag


def _split(sentence: list[Word]) -> Iterator[list[Word]]:
    """The clauses of a sentence: cut at conjunctions, and at commas and `and` before a new subject with a verb."""
    clause: list[Word] = []
    conjunctions = words()["conjunctions"]
    for k, word in enumerate(sentence):
        ahead = sentence[k + 1 : k + 6]
        points = word.text == "that" and bool(ahead) and ahead[0].tag in ("VBG", *ADJECTIVES, *NOUNS)
        starts = word.text in conjunctions and not points or word.text in (",", "and", "so") and _is_clause(ahead)
        if (starts or len(clause) == LONGEST) and clause:
            yield clause
            clause = []
        if not (starts and word.text in (",", "and", "but")):
            clause.append(word)
    if clause:
        yield clause


def _is_clause(ahead: Sequence[Word]) -> bool:
    """Whether words ahead begin with a subject and have a verb."""
    while ahead and ahead[0].text in (",", "and", "or"):
        ahead = ahead[1:]
    if len(ahead) > 1 and ahead[0].tag in ADJECTIVES and ahead[1].tag in NOUNS:
        ahead = ahead[1:]
    if not ahead or not (ahead[0].tag in ("PRP", "DT", "PRP$", "EX", *NOUNS) or ahead[0].text in ("this", "that")):
        return False
    return any(one.tag in ("VB", "VBP", "VBZ", "VBD", "MD") for one in ahead[1:])


def is_negated(clause: Sequence[Word], place: int) -> bool:
    """Whether a word of a clause stands under a negation, such as `not`, `no` or `lack of`."""
    known = words()
    odd = False
    for k in range(place - 1, max(-1, place - 1 - NEGATION_REACHES), -1):
        text = clause[k].text
        if text == "," and clause[place].tag not in ADJECTIVES:
            break
        if text in known["negations"] and clause[k + 1].text not in ("only", "just"):
            odd = not odd
    return odd
