"""A language model as a step asks it: what an in-process model and a server both answer.

`local` holds the one that loads weights, `server` the one that asks a server. A step does not know which of them it
was given. Both take prompts in windows, and show how far they are.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from tqdm import tqdm

from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt

WINDOW = 2**13  # prompts; the texts and tokens of two windows at most are in memory at one time


def windows(total: int) -> Iterator[slice]:
    """Where many prompts are cut, so that memory does not grow with their number."""
    return (slice(start, start + WINDOW) for start in range(0, total, WINDOW))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar of prompts; what it gives takes how many more were answered, and the tokens that were computed for them."""
    tokens, started = 0, time.perf_counter()

    def answered(prompts: int, computed: int = 0) -> None:
        nonlocal tokens
        tokens += computed
        if computed:
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - started):,.0f} tokens/s", refresh=False)
        bar.update(prompts)

    with tqdm(total=total, desc=what, unit="prompt", disable=not (what and total)) as bar:
        yield answered


class LanguageModel(Protocol):
    """A base model with at most one adapter; `shortened` counts the prompts that lost history to fit."""

    shortened: int

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn at a temperature."""
        ...

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        said: Sequence[str] | None = None,
        what: str = "scoring",
        heads: object | None = None,
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`.

        Rows sum to 1 over the choices. `said` is what each reply says before the prefix; `heads` what `read_heads`
        gave for prompts with the same heads.
        """
        ...

    def read_heads(self, prompts: Sequence[Prompt], at_once: int = 1) -> object | None:
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
