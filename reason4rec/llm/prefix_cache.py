"""What prompts have in common at their beginning is read once: prefixes, and their keys and values.

On a CPU a prefix is read alone: batches gain nothing there, and what is read alone needs no mask, which halves its
attention.
"""

from dataclasses import dataclass, field

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedConfig

CPU_BYTES = 2**29  # of keys and values that a CPU keeps


@dataclass
class PrefixCache:
    """The prefixes of some prompts, packed, in the batches they are read in, and their keys and values once read.

    The batches hold all these prefixes, whichever are needed, so that a resumed run reads them as an unbroken one does.
    """

    batches: list[list[bytes]]
    states: dict[bytes, torch.Tensor] = field(default_factory=dict)


def joined(states: list[torch.Tensor]) -> tuple[DynamicCache, torch.Tensor]:
    """The keys and values of one prefix per row as the model takes them, and which of their positions count.

    A state is (tokens, layers x 2, key heads, size).
    """
    padded = pad_sequence(states, batch_first=True, padding_side="left")
    layers = padded.unflatten(2, (-1, 2)).permute(2, 3, 0, 4, 1, 5)
    lengths = torch.tensor([len(state) for state in states], device=padded.device)
    width = padded.shape[1]
    mask = (torch.arange(width, device=padded.device) >= width - lengths[:, None]).long()
    return DynamicCache([(keys, values) for keys, values in layers]), mask


def numbers_of_a_token(config: PreTrainedConfig) -> int:
    """How many numbers the keys and values of a token are, over all layers."""
    text = config.get_text_config(decoder=True)
    layers = text.per_layer_config if text.is_heterogeneous else [text] * text.num_hidden_layers
    return sum(map(_numbers_of_a_layer, layers))


def _numbers_of_a_layer(layer: PreTrainedConfig) -> int:
    queries = getattr(layer, "num_attention_heads", None) or 1  # none where the layers are recurrent
    heads = getattr(layer, "num_key_value_heads", None) or queries
    return 2 * heads * (getattr(layer, "head_dim", None) or layer.hidden_size // queries)


def tokens_on_a_cpu(config: PreTrainedConfig) -> int:
    """How many tokens' keys and values fit into CPU_BYTES."""
    return CPU_BYTES // (numbers_of_a_token(config) * torch.float32.itemsize)
