"""What the attention of a base model allows: rows that are padded, and a beginning that is read once for several rows.

A padded row is exact where the padding is masked, wherever it stands. Keys and values of a beginning are joined with
rows of other lengths, so that padding stands between the two: within a window it would push earlier tokens out.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from reason4rec.llm.base_files import class_of

GROUPS = "in_groups"
BLOCK = 64  # tokens whose scores stay in the caches of a CPU
FULL, SLIDING = "full_attention", "sliding_attention"  # names of transformers


def layer_kinds(config: PreTrainedConfig) -> set[str]:
    """How the layers of a model attend, by the names of transformers."""
    text = config.get_text_config(decoder=True)
    if kinds := getattr(text, "layer_types", None):
        return set(kinds)
    if getattr(text, "sliding_window", None):
        return {SLIDING}
    return {"chunked_attention"} if getattr(text, "attention_chunk_size", None) else {FULL}


def is_padded_exactly(config: PreTrainedConfig) -> bool:
    """Whether rows can be padded on the left: all state of a layer is in keys and values, which a mask leaves out.

    A recurrent state passes over the padding, chunks are counted from it, and older classes make masks of their own.
    """
    model = class_of(config)
    masked = not model._is_stateful and model._supports_attention_backend
    return bool(masked) and layer_kinds(config) <= {FULL, SLIDING}


def attends_to_all_before(config: PreTrainedConfig) -> bool:
    """Whether each token attends to all earlier ones of its row, with an attention that can be replaced."""
    causal = getattr(config.get_text_config(decoder=True), "is_causal", True)
    return causal is not False and is_padded_exactly(config) and layer_kinds(config) == {FULL}


def shares_beginnings(model: PreTrainedModel, max_length: int) -> bool:
    """Whether rows of `max_length` tokens may go on from keys and values that are kept for what they begin with.

    They may where no window can cut a row and all layers keep keys and values of one shape. A few tokens are read.
    """
    text = model.config.get_text_config(decoder=True)
    kinds = layer_kinds(model.config)
    # A beginning and what follows it are each padded to the longest of a batch.
    if not is_padded_exactly(model.config) or (SLIDING in kinds and (text.sliding_window or 0) < 2 * max_length):
        return False
    with torch.inference_mode():
        ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
        cache = model(input_ids=ids, use_cache=True).past_key_values
    if not isinstance(cache, DynamicCache) or len(cache.layers) != text.num_hidden_layers:
        return False
    shapes = {tuple(tensor.shape) for layer in cache.layers for tensor in (layer.keys, layer.values)}
    return {type(layer) for layer in cache.layers} <= {DynamicLayer, DynamicSlidingWindowLayer} and len(shapes) == 1


def attend_in_groups(model: PreTrainedModel) -> None:
    """Gives a model in bf16 on a CPU an attention by matrix products, two to three times as fast there as torch's own.

    It is meant for a base that shares beginnings: a row of several tokens that is read alone is taken to see all that
    is before each. Heads that share a key use it as it lies there, not a copy for each. A model with an attention of
    another kind stays as it is.
    """
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPS, _in_groups)
        AttentionMaskInterface.register(GROUPS, sdpa_mask)
        model.set_attn_implementation(GROUPS)


def _in_groups(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """Attention in the form that transformers calls; `query` is (rows, heads, tokens, size), the result transposed."""
    rows, heads, tokens, size = query.shape
    if (rows > 1 and tokens > 1) or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    query = query * (size**-0.5 if scaling is None else scaling)
    if tokens == 1:
        seen = key.shape[2]
        key, value = _with_room(key), _with_room(value)
        # In this order the product is four times as fast: the other has a few lines of many numbers.
        scores = (key @ query.view(rows, key.shape[1], -1, size).mT).mT.contiguous()
        if attention_mask is not None:
            scores[..., :seen].masked_fill_(~attention_mask, -torch.inf)
        scores[..., seen:] = -torch.inf
        return (scores.softmax(-1) @ value).view(rows, 1, heads, size), None
    before = key.shape[2] - tokens
    query = query.view(rows, key.shape[1], -1, tokens, size)
    later = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=query.device).triu(1)
    found = []
    for start in range(0, tokens, BLOCK):
        block = query[:, :, :, start : start + BLOCK]
        n, seen = block.shape[3], before + start + block.shape[3]
        scores = (block.flatten(2, 3) @ key[:, :, :seen].mT).view(rows, heads, n, seen)
        scores[..., seen - n :].masked_fill_(later[:n, :n], -torch.inf)
        weights = scores.softmax(-1).view(rows, key.shape[1], -1, seen)
        found.append((weights @ value[:, :, :seen]).view(rows, heads, n, size))
    return torch.cat(found, dim=2).transpose(1, 2), None


def _with_room(states: torch.Tensor) -> torch.Tensor:
    """Keys or values with the room that a growing cache has behind them: a product would copy what is only a part."""
    rows, heads, _, size = states.shape
    of_row, of_head, *rest = states.stride()
    lies_whole = tuple(rest) == (size, 1) and of_head % size == 0 and of_row == heads * of_head
    return states.as_strided((rows, heads, of_head // size, size), states.stride()) if lies_whole else states
