"""What is read from what a generator writes: its thoughts, and the semantic ID that it answers with.

A semantic ID is a run of tokens such as `<|a_17|>`, one for each level, and one more where items share all of these.
The tags are those of the released code.
"""

import re
from dataclasses import dataclass

from reason4rec.systems.gream.semantic_ids import TOKEN

OPEN_THINK, CLOSE_THINK = "<think>", "</think>"
OPEN_ANSWER, CLOSE_ANSWER = "<answer>", "</answer>"

_RUN = rf"(?:{TOKEN.pattern})+"
_CLOSED = re.compile(f"{OPEN_ANSWER}({_RUN}){CLOSE_ANSWER}")
_OPENED = re.compile(f"{OPEN_ANSWER}({_RUN})")


@dataclass(frozen=True)
class Reply:
    """What a reasoned completion says.

    `think` is what stands in its first closed think block, stripped, or None without one. `answer` are the tokens of
    its answer, none where there is no answer, and `closed` says whether the answer has its closing tag.
    """

    think: str | None
    answer: tuple[str, ...]
    closed: bool

    @property
    def well_formed(self) -> bool:
        """Whether a think block and, after it, an answer of tokens alone are both closed."""
        return self.think is not None and self.closed


def without_tokens(text: str) -> str:
    """A text with a space in the place of each token of a semantic ID: in what a shop writes they are no items."""
    return TOKEN.sub(" ", text)


def tokens_in(text: str) -> tuple[str, ...]:
    """All tokens of semantic IDs that stand in a text, in their order."""
    return tuple(TOKEN.findall(text))


def read(text: str) -> Reply:
    """What a reasoned completion says, read from any text.

    The first answer after the thoughts counts that holds tokens, nothing else, and its closing tag; without one, the
    tokens right after the first opening tag that has any. An answer in a think block is a thought. Source: released
    code, which also reads answers within the thoughts.
    """
    _, opened, rest = text.partition(OPEN_THINK)
    inside, closed, after = rest.partition(CLOSE_THINK)
    think = inside.strip() if opened and closed else None
    said = text if think is None else after
    if found := _CLOSED.search(said):
        return Reply(think, tokens_in(found[1]), True)
    found = _OPENED.search(said)
    return Reply(think, tokens_in(found[1]) if found else (), False)
