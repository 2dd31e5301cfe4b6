"""A model in bf16 on a CPU: adapters merged, rows read alone, and replies written in batches that shrink."""

import numpy as np
import pytest
import served
import torch
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from shapes import GROUPED, make_base
from test_local import some_prompts

from reason4rec.llm import local as local_module
from reason4rec.llm import writing
from reason4rec.llm.bases import load_base, merged, with_adapter
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.local import load
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS


@pytest.fixture
def in_bf16(monkeypatch):
    """Every base computes in bf16, as those do that are not tiny, on any CPU."""
    monkeypatch.setattr(local_module, "dtype_on", lambda *_: torch.bfloat16)


@pytest.fixture(scope="module")
def grouped(base, tmp_path_factory):
    """A base of which two heads share a key."""
    return make_base(tmp_path_factory.mktemp("grouped") / "base", base, "LlamaConfig", **GROUPED)


def fp32(base, adapter=None):
    model = load_base(base, "cpu", dtype=torch.float32).dequantize()
    return (with_adapter(model, adapter) if adapter else model).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lm_head", [False, True])
def test_a_merged_adapter_computes_what_it_does_beside_its_base(base, tmp_path, lm_head, tied):
    folder = make_base(tmp_path / "base", base, "LlamaConfig", tie_word_embeddings=tied, **GROUPED)
    adapter = served.put_adapter(tmp_path / "Predictor", folder, lm_head=lm_head)
    ids = torch.randint(6, 500, (3, 40))
    with torch.inference_mode():
        beside, alone = fp32(folder, adapter)(ids).logits, fp32(folder)(ids).logits
        plain = merged(fp32(folder, adapter))
        assert not any(isinstance(module, ModulesToSaveWrapper) for module in plain.modules())
        torch.testing.assert_close(plain(ids).logits, beside, atol=1e-4, rtol=1e-4)
        half = merged(with_adapter(load_base(folder, "cpu", dtype=torch.bfloat16).dequantize(), adapter).eval())
        # As far off as bf16 is without an adapter, and much less than what the adapter changes.
        assert (half(ids).logits.float() - beside).abs().mean() < 0.3 * (alone - beside).abs().mean()
    if lm_head:
        saved = load_file(adapter / "adapter_model.safetensors")
        kept = half.get_output_embeddings().weight
        assert kept.equal(next(tensor for name, tensor in saved.items() if "lm_head" in name).float())
        assert not half.get_input_embeddings().weight.equal(kept.to(torch.bfloat16))


def test_an_adapter_is_merged_in_bf16_only(base, tmp_path, in_bf16, monkeypatch):
    adapter = served.put_adapter(tmp_path / "Predictor", base, lm_head=True)
    half = load(base, adapter, "cpu")
    assert not any("lora_" in name for name, _ in half.model.named_parameters())
    assert half.model.dtype == torch.bfloat16
    monkeypatch.undo()
    exact = load(base, adapter, "cpu")
    assert any("lora_" in name for name, _ in exact.model.named_parameters())
    assert half.name != exact.name
    asked = some_prompts(6)
    found, expected = (model.choice_probabilities(asked, RATINGS, RATING_PREFIX) for model in (half, exact))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_probabilities_in_bf16_are_close_and_do_not_depend_on_the_batch(grouped, in_bf16):
    model, asked = load(grouped, None, "cpu"), some_prompts(9)
    found = model.choice_probabilities(asked, RATINGS, RATING_PREFIX)
    assert (found == np.concatenate([model.choice_probabilities([p], RATINGS, RATING_PREFIX) for p in asked])).all()
    model.model = fp32(grouped)
    np.testing.assert_allclose(found, model.choice_probabilities(asked, RATINGS, RATING_PREFIX), atol=0.05)
    # Their logits are not rounded to bf16: no two of all these are the same.
    assert len(np.unique(found)) == found.size


def test_attention_in_groups_is_that_of_torch(grouped, in_bf16):
    """Long rows alone, also after a beginning, and single tokens of rows of several lengths."""
    ours, torchs = (load(grouped, None, "cpu").model.float() for _ in range(2))
    torchs.set_attn_implementation("sdpa")
    assert ours.config._attn_implementation != torchs.config._attn_implementation
    ids, rows = torch.randint(6, 500, (1, 200)), torch.randint(6, 500, (3, 51))
    mask = torch.ones(3, 51, dtype=torch.long)
    mask[1, :20], mask[2, :7] = 0, 0

    def found(model):
        begun = [model(ids[:, :n], use_cache=True).past_key_values for n in (1, 70)]
        after = [model(ids[:, cache.get_seq_length() :], past_key_values=cache).logits for cache in begun]
        cache = model(rows[:, :-1], attention_mask=mask[:, :-1], use_cache=True).past_key_values
        return [model(ids).logits, *after, model(rows[:, -1:], attention_mask=mask, past_key_values=cache).logits]

    with torch.inference_mode():
        torch.testing.assert_close(found(ours), found(torchs), atol=1e-4, rtol=1e-4)


def test_a_batch_shrinks_as_its_replies_end(base):
    asked, sizes = some_prompts(16), []
    model = load(base, None, "cpu", prompts_at_once=16)
    expected = [model.generate([prompt], max_new_tokens=64)[0] for prompt in asked]
    model.model.register_forward_pre_hook(
        lambda module, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    assert model.generate(asked, max_new_tokens=64) == expected
    assert sizes[1:] == sorted(sizes[1:], reverse=True)  # the shared beginning comes first, alone
    assert len(set(sizes)) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drawn_replies_stay_their_own_in_a_batch_that_shrinks(base, monkeypatch, dtype):
    monkeypatch.setattr(local_module, "dtype_on", lambda *_: dtype)
    model = load(base, None, "cpu")
    asked = some_prompts(12)
    drawn = model.generate(asked, max_new_tokens=48, temperature=1.0, seed=3)
    assert drawn == model.generate(asked, max_new_tokens=48, temperature=1.0, seed=3)
    if dtype == torch.float32:
        assert drawn == [model.generate([p], max_new_tokens=48, temperature=1.0, seed=3)[0] for p in asked]


def test_replies_of_a_batch_in_bf16_are_kept_when_the_whole_batch_is(base, tmp_path, in_bf16, monkeypatch):
    monkeypatch.setattr(writing, "KEEP_EVERY", 0)
    store = ResponseCache(tmp_path / "replies.sqlite")
    model, sizes = load(base, None, "cpu", cache=store, prompts_at_once=6), []
    put = store.put
    monkeypatch.setattr(store, "put", lambda values: sizes.append(len(values)) or put(values))
    model.generate(some_prompts(12), max_new_tokens=48)
    assert sizes == [6, 6]
