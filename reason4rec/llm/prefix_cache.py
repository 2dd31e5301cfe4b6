"""What prompts have in common at their beginning is read once: prefixes, and their keys and values.

On a CPU a prefix is read alone: batches gain nothing there, and what is read alone needs no mask, which halves its
attention.
"""

from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

CPU_BYTES = 2**29  # of keys and values that a CPU keeps
BATCH_BYTES = 2**31  # of those of a batch whose replies are all as long as they may be
CPU_TOKENS = 2**15  # of prompts and replies in a batch in fp32
ROOM = 64  # tokens for which a growing cache gets room at a time


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


def states_in(cache: DynamicCache) -> torch.Tensor:
    """The states of the rows of a cache, (rows, tokens, layers x 2, key heads, size)."""
    both = torch.stack([tensor for layer in cache.layers for tensor in (layer.keys, layer.values)], dim=1)
    return both.permute(0, 3, 1, 2, 4)


def read_on(model: PreTrainedModel | PeftModel, ids: list[int], state: torch.Tensor | None) -> torch.Tensor:
    """The state of one row, read alone and after the state of its beginning where that is given."""
    known = 0 if state is None else len(state)
    if known == len(ids):
        return state
    cache = DynamicCache() if state is None else joined([state])[0]
    rest = torch.tensor([ids[known:]], device=model.device)
    places = torch.arange(known, len(ids), device=model.device)[None]
    without_head(model)(input_ids=rest, position_ids=places, past_key_values=cache, use_cache=True)
    return states_in(cache)[0]


def without_head(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model without its output head, for what is read and has no answer yet.

    In bf16 on a CPU the head of a single token costs more than reading a hundred: the product copies its weights.
    """
    return (model.get_base_model() if isinstance(model, PeftModel) else model).get_decoder()


class _GrowingLayer(DynamicLayer):
    """Keys and values of a layer, (rows, key heads, tokens, size), with zeros behind them as room for more tokens."""

    room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before, new = self.get_seq_length(), key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.room is None or self.room[0].shape[-2] < before + new:
            self.room = tuple(
                states.new_zeros(*states.shape[:2], before + new + ROOM, states.shape[-1])
                for states in (key_states, value_states)
            )
            if before:
                self.room[0][:, :, :before], self.room[1][:, :, :before] = self.keys, self.values
        self.room[0][:, :, before : before + new] = key_states
        self.room[1][:, :, before : before + new] = value_states
        self.keys, self.values = (states[:, :, : before + new] for states in self.room)
        return self.keys, self.values


class GrowingCache(Cache):
    """Keys and values to which those of a token are added without copying the others, as DynamicCache does it."""

    def __init__(self, begun: DynamicCache | None = None):
        super().__init__(layer_class_to_replicate=_GrowingLayer)
        for k, layer in enumerate(begun.layers if begun else ()):
            self.update(layer.keys, layer.values, k)

    def keep(self, rows: list[int], start: int) -> None:
        """Goes on with these rows alone, and with their tokens from `start` on."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows, :, start:], layer.values[rows, :, start:]
            layer.room = None

    def follow(self, rows: torch.Tensor, shared: int) -> None:
        """Goes on with these rows, which may repeat some; as many as before have what is before `shared` in common.

        Each then stands where a row with the same beginning stood, so that the beginning stays as it lies.
        """
        for layer in self.layers:
            if len(rows) == len(layer.keys):
                for states in (layer.keys, layer.values):
                    states[:, :, shared:] = states[rows, :, shared:]
            else:
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
                layer.room = None


def numbers_of_a_token(config: PreTrainedConfig) -> int:
    """How many numbers the keys and values of a token are, over all layers."""
    text = config.get_text_config(decoder=True)
    layers = text.per_layer_config if text.is_heterogeneous else [text] * text.num_hidden_layers
    return sum(map(_numbers_of_a_layer, layers))


def _numbers_of_a_layer(layer: PreTrainedConfig) -> int:
    queries = getattr(layer, "num_attention_heads", None) or 1  # none where the layers are recurrent
    heads = getattr(layer, "num_key_value_heads", None) or queries
    return 2 * heads * (getattr(layer, "head_dim", None) or layer.hidden_size // queries)


def tokens_on_a_cpu(model: PreTrainedModel) -> int:
    """How many tokens' keys and values fit into CPU_BYTES."""
    return CPU_BYTES // _bytes_of_a_token(model)


def tokens_of_a_batch(model: PreTrainedModel) -> int:
    """How many tokens of prompts and replies a batch may have on a CPU.

    In bf16, that of larger models, their keys and values fill at most BATCH_BYTES, whatever memory is free, so that a
    resumed run has the same batches.
    """
    return CPU_TOKENS if model.dtype == torch.float32 else max(1, BATCH_BYTES // _bytes_of_a_token(model))


def _bytes_of_a_token(model: PreTrainedModel) -> int:
    return numbers_of_a_token(model.config) * model.dtype.itemsize
