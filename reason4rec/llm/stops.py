"""Where a reply that runs on is cut: one that repeats itself, or that writes on after it is finished.

The cut depends on the reply's text alone, so that a batch, a single prompt and a server give the same. A text is read
from its beginning, and the first end that is found counts: what a model would have written later changes nothing, so
that a model in this process stops there. Our decision; the released code lets a model write to its limit.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

from reason4rec.llm.answers import OPENED

REPEATS = 3  # times that a passage stands in a row
LEAST = 64  # characters that these have together
LONGEST = 400  # characters of one passage
SENTENCE_END = re.compile(r"[.!?][\"')\u2019\u201d]*(?=\s|$)")
REPEATED, WROTE_ON = "repeated themselves", "wrote on when finished"

# How many characters of a text are kept because it was finished there and goes on, or None while neither is so; the
# answer for a text must be that for every longer one.
Finish = Callable[[str], int | None]


class Reply:
    """A reply as it is written: `end` looks at what was added, and says where the reply is cut, if it is.

    What is said in thoughts at its beginning is no answer yet, unless `thoughts` says that they belong to the answer.
    """

    def __init__(self, finish: Finish | None = None, thoughts: bool = False):
        self.finish, self.thoughts, self.seen = finish, thoughts, LEAST

    def end(self, text: str) -> tuple[int, str] | None:
        """How many characters of the text are kept, and why no more; None where nothing is cut yet.

        Every text must begin with the one before it.
        """
        looped = None
        for end in range(self.seen, len(text) + 1):
            if (looped := _loop_before(text, end)) is not None:
                text = text[:end]
                break
        self.seen = max(self.seen, len(text))
        looks = self.finish is not None and (self.thoughts or not OPENED.match(text))
        finished = self.finish(text) if looks else None
        if finished is not None:
            return finished, WROTE_ON
        return None if looped is None else (looped, REPEATED)


def _loop_before(text: str, end: int) -> int | None:
    """How many characters to keep of a text that repeats itself just before `end`: up to the first repetition."""
    last = text[end - LEAST // 4 : end]
    lowest = max(0, end - LONGEST - len(last))
    at = text.rfind(last, lowest, end - 1)
    while at >= 0:
        period = end - len(last) - at
        start = end - max(REPEATS * period, LEAST)
        if start >= 0 and text[start : end - period] == text[start + period : end]:
            return start + period
        at = text.rfind(last, lowest, at + len(last) - 1)
    return None


def kept(texts: Iterable[str], finish: Finish | None, stopped: Counter[str], thoughts: bool = False) -> list[str]:
    """Texts up to where each is cut, without the blanks and commas there; `stopped` counts why.

    One that ends where it is finished is not counted.
    """
    found = []
    for text in texts:
        if end := Reply(finish, thoughts).end(text):
            if text[end[0] :].strip():
                stopped[end[1]] += 1
            text = text[: end[0]].rstrip(" \t\n,;")
            if end[1] == REPEATED:
                text = _whole_sentences(text)
        found.append(text)
    return found


def _whole_sentences(text: str) -> str:
    """A text without the sentence that a cut has left unfinished at its end, where its last line has an earlier one."""
    before, newline, line = text.rpartition("\n")
    ends = [found.end() for found in SENTENCE_END.finditer(line)]
    return before + newline + line[: ends[-1]] if ends else text


def finish_name(finish: Finish | None, thoughts: bool = False) -> dict[str, object]:
    """What the key of a kept reply says of how it was finished: nothing where it is written to its end."""
    return {} if finish is None else {"finish": finish.__name__} | ({"thoughts": True} if thoughts else {})
