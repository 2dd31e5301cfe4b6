"""Bases of other shapes than Llama's: windows, recurrent states and odd heads are asked exactly, whatever the batch."""

import numpy as np
import pytest
import torch
from shapes import GROUPED, WINDOW, make_base
from test_local import on_one_target, some_prompts

from reason4rec.llm.local import load
from reason4rec.llm.tokens import chat_ids, plain_ids
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
}
LINEAR = {
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
SHAPES = {
    "mistral": ("MistralConfig", GROUPED | WINDOW),
    "mistral_wide": ("MistralConfig", GROUPED | {"sliding_window": 4096}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2, "use_sliding_window": True, "max_window_layers": 1} | WINDOW),
    "gemma2": ("Gemma2Config", GROUPED | WINDOW),
    "gemma3": ("Gemma3TextConfig", GROUPED | WINDOW | {"num_hidden_layers": 6}),
    "gemma4": ("Gemma4TextConfig", GROUPED | WINDOW | {"num_hidden_layers": 6, "vocab_size_per_layer_input": 1207}),
    "gpt_oss": ("GptOssConfig", GROUPED | WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4": (
        "Llama4TextConfig",
        GROUPED
        | {"attention_chunk_size": 48, "num_local_experts": 2, "num_hidden_layers": 4, "intermediate_size_mlp": 128},
    ),
    "deepseek": ("DeepseekV3Config", LATENT),
    "phi3": ("Phi3Config", {"num_key_value_heads": 2}),
    "gpt2": ("GPT2Config", {"n_inner": 128}),
    "neox": ("GPTNeoXConfig", {}),
    "bloom": ("BloomConfig", {"n_head": 4, "n_layer": 2}),
    "falcon": ("FalconConfig", {"multi_query": True, "new_decoder_architecture": False}),
    "mamba2": ("Mamba2Config", {"num_heads": 8, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 16}),
    "qwen3_next": ("Qwen3NextConfig", GROUPED | LINEAR),
    "lfm2": ("Lfm2Config", {"num_key_value_heads": 2, "num_hidden_layers": 3, "full_attn_idxs": [1]}),
}
SHARING = {"mistral_wide", "phi3", "gpt2", "neox"}


def logits_after(model, ids):
    """The logits after some ids, read alone, without keys and values of anything before."""
    with torch.inference_mode():
        return model.model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def written(model, prompt, n):
    """What a model writes to a prompt where each token is computed from all before it, anew."""
    ids = chat_ids(model.tokenizer, prompt.text)
    begun = len(ids)
    while len(ids) < begun + n and ids[-1] != 4:
        ids.append(int(logits_after(model, ids).argmax()))
    return model.tokenizer.decode(ids[begun:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_base_of_another_shape_was_scored_wrongly_or_not_at_all_in_a_batch(base, tmp_path, shape):
    config, values = SHAPES[shape]
    model = load(make_base(tmp_path / "base", base, config, **values), None, "cpu", max_length=1024)
    asked = [*some_prompts(4), *on_one_target(n=2, draws=2)]
    digits = model.tokenizer.convert_tokens_to_ids(list(RATINGS))
    tail = plain_ids(model.tokenizer, RATING_PREFIX)
    logits = [logits_after(model, chat_ids(model.tokenizer, p.text) + tail)[digits] for p in asked]
    expected = torch.stack(logits).softmax(-1).numpy()
    assert expected.std(axis=0).max() > 1e-3
    for at_once in (None, 8):
        model.prompts_at_once = at_once
        found = model.choice_probabilities(asked, RATINGS, RATING_PREFIX)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    kept = model.read_prefixes(asked[4::3])
    assert (kept is not None) == model.shares == (shape in SHARING)
    found = model.choice_probabilities(asked, RATINGS, RATING_PREFIX, prefix_cache=kept)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.generate(asked[2:6], max_new_tokens=5) == [written(model, prompt, 5) for prompt in asked[2:6]]


def test_llamas_rows_are_padded_and_go_on_from_shared_beginnings(base):
    model = load(base, None, "cpu")
    assert (model.pads, model.shares) == (True, True)
