"""The shape of a model: what of its configuration decides how much it computes and keeps."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from reason4rec.errors import InputError
from reason4rec.llm.known_bases import located
from reason4rec.run.project import find


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides its cost; 8B of Llama 3 by default.

    Without a `head_dim` the heads of the attention share the hidden size.
    """

    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    vocab_size: int = 128256
    head_dim: int | None = None

    @property
    def keys(self) -> int:
        """The width of a token's keys in a layer, which is that of its values."""
        return self._head_dim * self.num_key_value_heads

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block."""
        queries = self._head_dim * self.num_attention_heads
        return {
            "q_proj": (self.hidden_size, queries),
            "k_proj": (self.hidden_size, self.keys),
            "v_proj": (self.hidden_size, self.keys),
            "o_proj": (queries, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

    @property
    def _head_dim(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.hidden_size * self.vocab_size

    @property
    def multiplied(self) -> int:
        """Weights that every token is multiplied with: all but the input embedding and the norms."""
        return self.num_hidden_layers * sum(n * m for n, m in self.widths.values()) + self.head

    def trained(self, rank: int, lm_head: bool) -> int:
        """Weights of an adapter on all linear layers of the blocks."""
        blocks = self.num_hidden_layers * sum(rank * (n + m) for n, m in self.widths.values())
        return blocks + lm_head * self.head


# From the configurations of these bases on the hub, for machines that do not have them yet.
KNOWN = {
    "unsloth/llama-3-8b-Instruct-bnb-4bit": Shape(),
    "google/gemma-3-1b-it": Shape(1152, 6912, 26, 4, 1, 262144, 256),
}
NEEDED = tuple(name for name in Shape.__dataclass_fields__ if name != "head_dim")


def local_file(base_model: str, name: str) -> Path | None:
    """A file of a base model that is on this machine, in its folder or in the hub's cache."""
    folder = located(base_model)
    if folder.exists():
        return folder / name if (folder / name).is_file() else None
    try:
        found = try_to_load_from_cache(base_model, name)
    except ValueError:  # no name of the hub
        return None
    return Path(found) if isinstance(found, str) else None


def shape_of(base_model: str) -> Shape | None:
    """The shape of a base model, None where it is not known and its configuration is not on this machine.

    InputError if a number lacks.
    """
    path = local_file(base_model, "config.json")
    if path is None:
        return KNOWN.get(base_model)
    config = _read(path)
    try:
        return _shape_in(config)
    except KeyError as error:
        raise InputError(f"{path}: no {error.args[0]} in it, so its cost cannot be told") from None


def size_of(base_model: str) -> float | None:
    """About how many weights a base model has; None where it cannot be told.

    A folder's configuration says it, and for other bases their name: `Qwen2.5-0.5B` has 5e8. Nothing is fetched.
    InputError for a configuration that is none.
    """
    path = find(base_model) / "config.json"
    if not path.is_file():
        sizes = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", base_model.lower())
        return float(sizes[-1][0]) * {"b": 1e9, "m": 1e6}[sizes[-1][1]] if sizes else None
    config = _read(path)
    if not all(isinstance(config.get(name), int) for name in NEEDED):
        return None
    shape = _shape_in(config)
    return shape.multiplied + (0 if config.get("tie_word_embeddings") else shape.head)


def _shape_in(config: dict) -> Shape:
    return Shape(**{name: config[name] for name in NEEDED}, head_dim=config.get("head_dim"))


def _read(path: Path) -> dict:
    """A configuration; InputError if it is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a configuration as JSON ({error}); fetch the base model again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a configuration, which is {{...}}; fetch the base model again")
    return config
