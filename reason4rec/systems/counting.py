"""What the dry run of any system counts with: the tokens of texts, the shape of the base, and what is assumed instead.

What is assumed has a value and its origin, which the table names.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from reason4rec.llm.shape import Shape, local_file, shape_of
from reason4rec.run.cost import Survey

CHAT_TOKENS = 10  # of Llama 3's chat format around a message
ASSUMED = {
    "characters a token": (3.94, "English text in Llama 3's tokenizer, as its paper states"),
    "tokens of a padded batch, for each": (1.5, "our guess, where lengths are not known"),
    "time without gradient checkpointing": (0.67, "two passes instead of three"),
}


class Counting:
    """Tokens of texts for a base model, and values that are assumed; `assumed` and `notes` are what a reader is told.

    `adapters` is the folder of the adapters of the run, and `assumable` has what may be assumed beside `ASSUMED`.
    """

    def __init__(self, survey: Survey, adapters: Path, base_model: str, assumable: Mapping[str, tuple[float, str]]):
        self.survey, self.adapters, self.base_model = survey, adapters, base_model
        self.assumable = ASSUMED | dict(assumable)
        self.assumed: dict[str, tuple[str, str]] = {}
        self.notes: list[str] = []

    def assume(self, name: str) -> float:
        """A value that is assumed, which the table will name."""
        value, origin = self.assumable[name]
        self.assumed[name] = (f"{value:,}", origin)
        return value

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that is at hand, of an adapter or of the base model."""
        found = [*sorted(self.adapters.glob("*/tokenizer.json")), local_file(self.base_model, "tokenizer.json")]
        path = next((path for path in found if path is not None), None)
        if path is None:
            return None
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.encode_special_tokens = True  # what a user wrote is text
        return tokenizer

    @cached_property
    def shape(self) -> Shape:
        """The base model's; that of the 8B where neither its name is known nor its configuration at hand."""
        found = shape_of(self.base_model)
        if found is None:
            self.notes.append(f"{self.base_model} is not on this machine: its size is taken to be that of the 8B")
        return found or Shape()

    def count(self, texts: Sequence[str]) -> list[float]:
        """Tokens of texts."""
        if self.tokenizer is None:
            return [len(text) / self.assume("characters a token") for text in texts]
        return [len(found.ids) for found in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
