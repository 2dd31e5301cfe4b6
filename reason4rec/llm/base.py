"""A language model as a step asks it: what an in-process model and a server both answer.

`local` holds the one that loads weights, `server` the one that asks a server. A step does not know which of them it
was given. Both take prompts in windows, and show how far they are.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.stops import Finish
from reason4rec.run.progress import Bar
from reason4rec.run.progress import progress as bar_of

if TYPE_CHECKING:
    from reason4rec.llm.trie import Trie

WINDOW = 2**13  # prompts; the texts and tokens of two windows at most are in memory at one time
AWAY = 600.0  # seconds that a server is waited for which cannot be reached any more


def windows(total: int) -> Iterator[slice]:
    """Where many prompts are cut, so that memory does not grow with their number."""
    return (slice(start, start + WINDOW) for start in range(0, total, WINDOW))


class PromptBar:
    """A bar of prompts, with the rate of the tokens that were computed for them."""

    def __init__(self, bar: Bar):
        self.bar, self.started = bar, time.perf_counter()
        self.tokens = self.in_batch = 0

    def answered(self, prompts: int, computed: int = 0) -> None:
        """Counts prompts that were answered, and the tokens that were computed for them."""
        self.tokens += computed
        self.in_batch = 0
        if computed:
            self._show(self.tokens)
        self.bar.update(prompts)

    def writing(self, tokens: int) -> None:
        """Counts tokens of replies that are not whole yet, so that the bar moves inside a batch."""
        self.in_batch += tokens
        self._show(self.tokens + self.in_batch)
        self.bar.update(0)

    def _show(self, tokens: int) -> None:
        self.bar.set_postfix_str(f"{tokens / (time.perf_counter() - self.started):,.0f} tokens/s", refresh=False)


@contextmanager
def progress(what: str, total: int) -> Iterator[PromptBar]:
    """A bar of prompts for the time of a block; none where `what` is empty."""
    with bar_of(what, total, "prompt", quiet=not (what and total)) as bar:
        yield PromptBar(bar)


class LanguageModel(Protocol):
    """A base model with at most one adapter.

    `shortened` counts the prompts that lost history to fit, `stopped` the replies that were cut, by the reason.
    """

    shortened: int
    stopped: Counter[str]

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
        finish: Finish | None = None,
        thoughts: bool = False,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn at a temperature.

        Drawn are all tokens, or the `top_k` likeliest (0: all), and of these those whose probabilities make up `top_p`.
        A reply is cut where it repeats itself, or goes on where `finish` says that it is finished, and counted.
        Thoughts between marks such as <think> are left out of it, unless `thoughts` says that they belong to it.
        """
        ...

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        reply_prefixes: Sequence[str] | None = None,
        what: str = "scoring",
        prefix_cache: object | None = None,
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`.

        Rows sum to 1 over the choices. `reply_prefixes` is what each reply has before the prefix; `prefix_cache`
        what `read_prefixes` gave for prompts with the same beginning.
        """
        ...

    def beams(
        self,
        prompts: Sequence[Prompt],
        trie: "Trie",
        num_beams: int,
        begun: Sequence[str] | None = None,
        excluded: Sequence[Sequence[int]] | None = None,
        what: str = "searching",
        length_penalty: float = 1.0,
    ) -> list[list[tuple[tuple[int, ...], float]]]:
        """For each prompt the likeliest answers of a trie with their scores; InputError where a server is asked."""
        ...

    def read_prefixes(self, prompts: Sequence[Prompt], at_once: int = 1) -> object | None:
        """What these prompts share with others on the same targets, to be read once.

        None where a server sees to that, or there is no room to keep `at_once` times as much.
        """
        ...


def resolve_device(device: str) -> str:
    """`cuda` or `cpu` for a --device of auto, cuda or cpu; InputError where CUDA is asked for and absent."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is at hand; use --device cpu, or a machine with a GPU")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
