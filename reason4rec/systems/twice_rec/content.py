"""The words that carry the content of a text on items, and their stems, by which texts are compared.

Left out are stop words of English, words with digits, and the words of the trade and of the task in `words.yaml`.
Our decision.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

WORDS = Path(__file__).with_name("words.yaml")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d[\w.]*|[^\w\s'’-]+")


def runs(text: str) -> Iterator[list[str]]:
    """The words of content of a text in lower case, in runs of those that stand side by side.

    A run ends at a stop word, a number and a punctuation mark, and not at a hyphen.
    """
    run: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _tells(word):
            run.append(word)
        elif run:
            yield run
            run = []
    if run:
        yield run


def content_words(text: str) -> list[str]:
    """The words of content of a text in lower case, in their order."""
    return [word for run in runs(text) for word in run]


def content_stems(text: str) -> set[str]:
    """The stems of the words of content of a text."""
    return set(map(stem, content_words(text)))


@cache
def word_list(name: str) -> frozenset[str]:
    """A list of `words.yaml`."""
    return frozenset(yaml.safe_load(WORDS.read_text(encoding="utf-8"))[name].split())


@cache
def stem(word: str) -> str:
    """What a word and its plural and other forms have in common, by Porter's rules."""
    return _stemmer().stem(_bare(word))


@cache
def _stemmer() -> object:
    from nltk.stem import PorterStemmer

    return PorterStemmer()


def _bare(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s")


@cache
def _tells(word: str) -> bool:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    word = _bare(word)
    return word[0].isalpha() and len(word) > 1 and word not in word_list("trade") and word not in ENGLISH_STOP_WORDS
