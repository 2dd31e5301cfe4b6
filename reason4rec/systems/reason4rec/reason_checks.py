"""Checks of reasons without a reference: their aspects, ratings in words, repetition and duplicates."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache
from unicodedata import category

import numpy as np
import pandas as pd

from reason4rec.data.history import History
from reason4rec.run.progress import counted
from reason4rec.systems.reason4rec.artifacts import NOT_SUMMARISED, SUMMARY
from reason4rec.systems.reason4rec.prompts import SUMMARY_PARTS
from reason4rec.systems.reason4rec.reason_scores import _needed, words

LISTED = 0.05  # of the reviews that name a keyword, the least share that must list it
COUNTED = 20_000  # reviews
LONGEST_ASPECT = 5  # words of a reason that are looked up together; longer keywords are clauses
NEAR = 0.8  # share of common word trigrams (Jaccard) from which on two reasons are nearly the same
# Words of the task and of "None mentioned", which no keyword is about.
TASK_WORDS = set("user users item items review reviews reviewer rating ratings mentioned stated specified".split())

_START = r"(?<![\w.,$/])"
_DIGITS = r"(?:10|\d)(?:\.\d+)?(?: 1/2|½)?"
_NAMED = r"(?:one|two|three|four|five|ten)(?:[ -]and[ -]a[ -]half)?"
_NUMBER = rf"{_START}(?:{_DIGITS}|{_NAMED})"
# What may follow a rating, so that "give it 5." is one and "give it 5 listens" and "rates the two singers" are none.
_RATED = (
    rf"{_START}(?:{_DIGITS}(?=\s*(?:$|[^\w\s'’-]|(?:out|stars?|for|because|and|since|as|to|but|or|given|overall)\b))"
    rf"|(?<!or )(?:a one|two|three|four|five|ten)(?=\s*(?:$|[.,;:!?)\"]|(?:out|stars?)\b)))"
)
_FEW_WORDS = r"(?:[^\w.!?\n]+\w+){0,4}?[^\w.!?\n]+"
RATING = re.compile(
    "|".join(
        (
            rf"{_NUMBER}[ -]*stars?\b(?!-)",
            r"[★⭐]",
            rf"{_NUMBER}\s*(?:out of|/)\s*(?:5|five|10|ten)\b(?!/|\s+(?:songs|tracks|records|times|people|users)\b)",
            rf"\brat(?:e[sd]?|ings?)\b{_FEW_WORDS}{_RATED}",
            rf"\b(?:giv(?:e[sn]?|ing)|gave|scor(?:e[sd]?|ing)|deserv(?:e[sd]?|ing))\b{_FEW_WORDS}{_RATED}",
            rf"{_START}{_DIGITS}[ -]rating\b",
            rf"{_START}[1-5]\.[05](?!\w|\.\d|[ -](?:minutes?|hours?|inch|inches|mm|cm|gb|years?|version)\b)",
            r"\bperfect (?:5|five|10|ten)\b",
            r"\b(?:top|highest|maximum|full|perfect|lowest)(?: possible)? (?:rating|marks)\b",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)


def aspects(summary: str) -> dict[tuple[str, ...], None]:
    """The keywords in the three lines of a summary, each as the stems of its words, in their order.

    Stop words, digits, single letters and words of the task are taken from both ends; what is empty then, as None is,
    is no aspect.
    """
    found = {}
    for part in SUMMARY_PARTS:
        for line in re.findall(rf"^{part}:(.*)$", summary, re.MULTILINE):
            for keyword in re.split("[,;]", line):
                named = words(keyword)
                telling = [k for k, word in enumerate(named) if _tells(word)]
                if telling:
                    found[tuple(map(_stem, named[telling[0] : telling[-1] + 1]))] = None
    return found


def stems(text: str) -> set[str]:
    """The stems of all words of a text."""
    return set(map(_stem, words(text)))


def named_aspects(text: str, known: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The aspects of a vocabulary that a text names, each with the words that name it, in their order.

    A keyword is named where the stems of all its words stand side by side with no punctuation between, in any case;
    of two that overlap only the first and, from there, the longest is named.
    """
    found = {}
    for clause in re.split(r"[^\w\s'’-]+", text):
        named = words(clause)
        stems = tuple(map(_stem, named))
        start = 0
        while start < len(stems):
            sizes = range(min(LONGEST_ASPECT, len(stems) - start), 0, -1)
            size = next((n for n in sizes if stems[start : start + n] in known), 0)
            if size:
                found.setdefault(stems[start : start + size], " ".join(named[start : start + size]))
            start += size or 1
    return found


def vocabulary(train: pd.DataFrame, seed: int, quiet: bool = False) -> set[tuple[str, ...]]:
    """The keywords of all training summaries that are aspects: of the reviews that name one, 5% or more list it.

    Without this rule words that stand in any reason, such as "average" or "look", pass for aspects because a few
    summaries list them: reasons that only copy aspects of their histories then had a faithfulness of 0.54 (0.99 with
    it, on real reviews with summaries and reasons by the stand-in's rules). Counted on at most 20,000 reviews, drawn
    with `seed`, by a bar unless `quiet`; a keyword that none of them names stays. Our decision.
    """
    train = train[train[SUMMARY] != NOT_SUMMARISED]
    keywords = {aspect for summary in train[SUMMARY].unique() for aspect in aspects(summary)}
    sample = train.sample(n=min(len(train), COUNTED), random_state=seed)
    listed = Counter(phrase for summary in sample[SUMMARY] for phrase in _phrases(summary))
    reviews = counted(sample["reviews"].tolist(), "aspects in reviews", "review", quiet=quiet)
    named = Counter(aspect for review in reviews for aspect in named_aspects(review, keywords))
    return {aspect for aspect in keywords if listed[aspect] >= LISTED * named[aspect]}


def faithfulness(
    reasons: Sequence[str], histories: Sequence[History], known: Collection[tuple[str, ...]], seed: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Whether reasons speak of what they were shown: scores of each row, and the aspects themselves for a person.

    `aspects_named` counts the aspects of the vocabulary `known` that a reason names. `faithfulness` is the share of
    them, 0 to 1, that stand in a keyword of the row's own histories, NaN where none is named; it is by words, so a
    reason may be faithful and still turn praise into blame. `faithfulness_by_chance` is the same with the histories
    of another row, drawn with `seed`: only what lies above it says something. Take titles out of the reasons first.
    """
    shown = [_shown(history) for history in histories]
    other = other_rows(len(reasons), seed)
    named = [named_aspects(reason, known) for reason in reasons]
    by_chance = [_share(a in shown[other[k]] for a in row) if other[k] != k else np.nan for k, row in enumerate(named)]
    return {
        "aspects_named": [float(len(row)) for row in named],
        "faithfulness": [_share(aspect in shown[k] for aspect in row) for k, row in enumerate(named)],
        "faithfulness_by_chance": by_chance,
    }, {
        "named": [", ".join(row.values()) for row in named],
        "not_in_histories": [", ".join(row[a] for a in row if a not in shown[k]) for k, row in enumerate(named)],
    }


def other_rows(rows: int, seed: int) -> np.ndarray:
    """(rows,) another row for each row, drawn with the seed: each is that of one row; a single row is its own."""
    order = np.random.default_rng(seed).permutation(rows)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other


def without_titles(reason: str, title: str, history: History) -> str:
    """A reason without the titles of the item and of its histories, where they stand as written: they are given."""
    titles = {title, *(entry.title for entry in (*history.user, *history.item))}
    for known in sorted(titles, key=len, reverse=True):
        if known.strip():
            reason = re.sub(rf"(?<!\w){re.escape(known.strip())}(?!\w)", ";", reason)
    return reason


def rating_in_words(reason: str) -> str:
    """The words of a reason that tell a rating, such as "4.0", "five-star" or "rate it a 5"; empty if none do.

    Wider and narrower than the rule of the reward filter (`reward_filter`), which is the released code's: that
    one misses "5 stars." and takes "a star performer" for a rating.
    """
    found = RATING.search(reason)
    return " ".join(found[0].split()) if found else ""


def checks(reasons: Sequence[str], reviews: Sequence[str]) -> dict[str, list[float]]:
    """What a reason shows by itself; shares are 0 or 1 in a row.

    `words`; `empty`; `unfinished`: it does not end as a sentence does, as where the limit of tokens cut it;
    `repetition`: share of its word trigrams that it had already, 0 to 1; `duplicate`, `near_duplicate`: an earlier row
    has the same words, or (also) at least 0.8 of the trigrams in common (Jaccard); `shared_with_review`: words in the
    longest run that stands in the review too, which the Reasoner has not seen; `unprintable`: share of characters that
    no text holds (control, private or lone surrogate code points, the replacement character).
    """
    tokens = [words(reason) for reason in reasons]
    seen: set[tuple[str, ...]] = set()
    duplicate = [tuple(row) in seen or seen.add(tuple(row)) is not None for row in tokens]
    near = _near_duplicates(tokens)
    return {
        "words": [float(len(row)) for row in tokens],
        "empty": [float(not reason.strip()) for reason in reasons],
        "unfinished": [float(_is_unfinished(reason)) for reason in reasons],
        "repetition": [_repetition(row) for row in tokens],
        "duplicate": [float(same) for same in duplicate],
        "near_duplicate": [float(same or alike) for same, alike in zip(duplicate, near)],
        "shared_with_review": [float(_longest_common_run(row, words(review))) for row, review in zip(tokens, reviews)],
        "unprintable": [_share(_is_garbage(character) for character in reason) for reason in reasons],
    }


def distinct(reasons: Sequence[str], n: int) -> float:
    """Distinct word n-grams over all word n-grams of all reasons, 0 to 1, NaN without any. Source: Li et al., 2016."""
    grams = [gram for reason in reasons for gram in _ngrams(words(reason), n)]
    return len(set(grams)) / len(grams) if grams else np.nan


@cache
def _stem(word: str) -> str:
    with _needed("nltk"):
        from nltk.stem import PorterStemmer
    return PorterStemmer().stem(_without_s(word))


def _without_s(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s")


@cache
def _tells(word: str) -> bool:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    word = _without_s(word)
    return len(word) > 1 and not word.isdigit() and word not in TASK_WORDS and word not in ENGLISH_STOP_WORDS


def _shown(history: History) -> set[tuple[str, ...]]:
    """All phrases within the keywords of the summaries that a history shows."""
    return set().union(*(_phrases(entry.text) for entry in (*history.user, *history.item)))


@cache
def _phrases(summary: str) -> frozenset[tuple[str, ...]]:
    return frozenset(
        aspect[start:end]
        for aspect in aspects(summary)
        for start in range(len(aspect))
        for end in range(start + 1, min(len(aspect), start + LONGEST_ASPECT) + 1)
    )


def _share(marks: Iterable[bool]) -> float:
    marks = list(marks)
    return sum(marks) / len(marks) if marks else np.nan


def _ngrams(tokens: Sequence[str], n: int) -> list[str]:
    return [" ".join(tokens[k : k + n]) for k in range(len(tokens) - n + 1)]


def _repetition(tokens: Sequence[str]) -> float:
    grams = _ngrams(tokens, 3)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _is_unfinished(reason: str) -> bool:
    end = reason.rstrip("\"'”’)]* \n\t")
    return bool(end) and end[-1] not in ".!?…"


def _is_garbage(character: str) -> bool:
    return character == "\ufffd" or (category(character) in ("Cc", "Co", "Cs") and character not in "\n\r\t")


def _longest_common_run(tokens: Sequence[str], other: Sequence[str]) -> int:
    return SequenceMatcher(None, tokens, other, autojunk=False).find_longest_match().size


def _near_duplicates(tokens: Sequence[Sequence[str]]) -> np.ndarray:
    """(rows,) whether an earlier row has at least the share `NEAR` of the word trigrams in common."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        analyzer=lambda row: _ngrams(row, 3), binary=True, norm=None, alternate_sign=False, dtype=np.float32
    )
    grams = vectorizer.transform(tokens)
    sizes = np.asarray(grams.sum(axis=1)).ravel()
    near = np.zeros(len(tokens), dtype=bool)
    for start in range(0, len(tokens), 512):
        block = slice(start, min(start + 512, len(tokens)))
        common = (grams[block] @ grams.T).toarray()
        alike = common >= NEAR * np.maximum(sizes[block, None] + sizes - common, 1)
        near[block] = np.tril(alike, start - 1).any(axis=1)
    return near
