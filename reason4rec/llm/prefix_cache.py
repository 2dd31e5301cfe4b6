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


def joined(states: list[torch.Tensor], config: PreTrainedConfig) -> tuple[DynamicCache, torch.Tensor]:
    """The keys and values of one prefix per row as the model takes them, and which of their positions count."""
    padded = pad_sequence(states, batch_first=True, padding_side="left")
    shape = (*padded.shape[:2], config.num_hidden_layers, 2, config.num_key_value_heads, -1)
    layers = padded.reshape(shape).permute(2, 3, 0, 4, 1, 5)
    lengths = torch.tensor([len(state) for state in states], device=padded.device)
    width = padded.shape[1]
    mask = (torch.arange(width, device=padded.device) >= width - lengths[:, None]).long()
    return DynamicCache([(keys, values) for keys, values in layers]), mask


def numbers_of_a_token(config: PreTrainedConfig) -> int:
    """How many numbers the keys and values of a token are, over all layers."""
    head = config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head


def tokens_on_a_cpu(config: PreTrainedConfig) -> int:
    """How many tokens' keys and values fit into CPU_BYTES."""
    return CPU_BYTES // (numbers_of_a_token(config) * torch.float32.itemsize)
