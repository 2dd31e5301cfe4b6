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
    """What of a model's configuration decides its cost; 8B of Llama 3 by default."""

    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    vocab_size: int = 128256

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block."""
        keys = self.hidden_size // self.num_attention_heads * self.num_key_value_heads
        return {
            "q_proj": (self.hidden_size, self.hidden_size),
            "k_proj": (self.hidden_size, keys),
            "v_proj": (self.hidden_size, keys),
            "o_proj": (self.hidden_size, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

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
    """The shape of a base model, None where its configuration is not on this machine; InputError if a number lacks."""
    path = local_file(base_model, "config.json")
    if path is None:
        return None
    config = _read(path)
    try:
        return Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
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
    if not all(isinstance(config.get(name), int) for name in Shape.__dataclass_fields__):
        return None
    shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
    return shape.multiplied + (0 if config.get("tie_word_embeddings") else shape.head)


def _read(path: Path) -> dict:
    """A configuration; InputError if it is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a configuration as JSON ({error}); fetch the base model again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a configuration, which is {{...}}; fetch the base model again")
    return config
