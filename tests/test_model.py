"""The local model: batches, sampling, scoring, keeping replies, and the traps of 4-bit models on a CPU."""

import shutil

import bitsandbytes
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from reason4rec import prompts
from reason4rec.demo.pretrain import Examples
from reason4rec.errors import InputError
from reason4rec.history import Entry, History
from reason4rec.model import chat_ids, load, load_base, load_tokenizer
from reason4rec.prompts import RATING_PREFIX, RATINGS, Prompt
from reason4rec.steps import resolve_device
from reason4rec.store import ReplyStore

EXAMPLES = Examples(seed=5, n_users=40, n_items=30, per_user=6)
TASKS = ("summarizer", "reasoner", "predictor_reason", "predictor_direct")


def some_prompts(n):
    return [Prompt(EXAMPLES.one(TASKS[k % len(TASKS)], 1 + k % 3)[0]) for k in range(n)]


@pytest.fixture(scope="module")
def model(base):
    return load(base, None, device="cpu", batch_size=8)


def test_a_batch_writes_what_its_prompts_write_one_by_one(model):
    asked = some_prompts(12)
    together = model.generate(asked, max_new_tokens=24)
    assert together == [model.generate([prompt], max_new_tokens=24)[0] for prompt in asked]
    assert len(set(together)) > 1


def test_a_batch_is_weighed_as_its_prompts_are_one_by_one(model):
    asked = some_prompts(12)
    together = model.choice_probabilities(asked, RATINGS, RATING_PREFIX)
    alone = np.concatenate([model.choice_probabilities([p], RATINGS, RATING_PREFIX) for p in asked])
    assert together.shape == (12, 5)
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)


def test_probabilities_are_those_of_the_digits_after_the_prefix(model):
    (prompt,) = some_prompts(1)
    ids = chat_ids(model.tokenizer, prompt.text) + model.tokenizer(RATING_PREFIX, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids])).logits[0, -1]
    digits = [model.tokenizer.convert_tokens_to_ids(digit) for digit in RATINGS]
    expected = torch.softmax(logits[digits].float(), dim=0).numpy()
    np.testing.assert_allclose(model.choice_probabilities([prompt], RATINGS, RATING_PREFIX)[0], expected, atol=1e-5)


def test_scoring_computes_the_logits_of_the_last_position_only(model, monkeypatch):
    seen = []
    head = model.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    model.choice_probabilities(some_prompts(4), RATINGS, RATING_PREFIX)
    handle.remove()
    assert set(seen) == {1}


def test_a_prompt_begins_with_exactly_one_beginning_of_text(model):
    for prompt in some_prompts(4):
        ids = chat_ids(model.tokenizer, prompt.text)
        assert ids.count(model.tokenizer.bos_token_id) == 1
        assert ids[0] == model.tokenizer.bos_token_id


def test_padding_is_on_the_left_although_the_tokenizer_does_not_save_it(base):
    assert load_tokenizer(base).padding_side == "left"


def test_a_choice_of_several_tokens_is_refused(model):
    with pytest.raises(InputError, match="one token"):
        model.choice_probabilities(some_prompts(1), ["1", "xyzzy"], RATING_PREFIX)


def test_a_chat_template_that_doubles_the_beginning_of_text_is_refused(base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    with pytest.raises(InputError, match="exactly one beginning-of-text"):
        load_tokenizer(str(folder))


def test_a_drawn_reply_depends_on_the_seed_and_not_on_the_batch(model):
    asked = some_prompts(6)
    drawn = model.generate(asked, max_new_tokens=16, temperature=2.0, seed=1)
    assert drawn == [model.generate([p], max_new_tokens=16, temperature=2.0, seed=1)[0] for p in asked]
    assert drawn != model.generate(asked, max_new_tokens=16, temperature=2.0, seed=2)
    assert drawn != model.generate(asked, max_new_tokens=16)


def test_draws_follow_the_distribution_of_the_model(model):
    (prompt,) = some_prompts(1)
    ids = torch.tensor([chat_ids(model.tokenizer, prompt.text)])
    with torch.inference_mode():
        probabilities = torch.softmax(model.model(ids).logits[0, -1].float() / 3, dim=0)
    first = [model.generate([prompt], max_new_tokens=1, temperature=3.0, seed=seed)[0] for seed in range(200)]
    likeliest = model.tokenizer.decode([int(probabilities.argmax())]).strip()
    assert abs(first.count(likeliest) / 200 - float(probabilities.max())) < 0.12


def test_a_repeated_prompt_is_answered_once_and_in_its_place(model):
    asked = some_prompts(3)
    replies = model.generate([asked[0], asked[1], asked[0], asked[2]], max_new_tokens=12)
    assert replies[0] == replies[2]
    assert replies == [model.generate([p], max_new_tokens=12)[0] for p in (asked[0], asked[1], asked[0], asked[2])]


def test_a_run_that_is_cut_off_goes_on_where_it_was(base, tmp_path):
    asked = some_prompts(12)
    unbroken = load(base, None, device="cpu", batch_size=4).generate(asked, max_new_tokens=12)
    cut = load(base, None, device="cpu", batch_size=4, store=ReplyStore(tmp_path / "replies.sqlite"))
    generate, calls = cut.model.generate, []

    def dies_in_the_third_batch(**inputs):
        calls.append(len(inputs["input_ids"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(**inputs)

    cut.model.generate = dies_in_the_third_batch
    with pytest.raises(KeyboardInterrupt):
        cut.generate(asked, max_new_tokens=12)
    calls.append("again")
    assert cut.generate(asked, max_new_tokens=12) == unbroken
    assert calls == [4, 4, 4, "again", 4]


def test_a_prompt_that_is_too_long_loses_its_oldest_history(base):
    entries = tuple(Entry(f"Old Album {k}", 4.0, "Positive Aspects: mood") for k in range(10))
    prompt = prompts.predictor("Album", "Paper Rain", History(entries, entries, 4.0, 4.0))
    short = load(base, None, device="cpu", max_length=250)
    seen = []
    short.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    short.choice_probabilities([prompt], RATINGS, RATING_PREFIX)
    text = short.tokenizer.decode(seen[0][0])
    assert seen[0].shape[1] <= 250
    assert short.shortened == 1
    assert "Predict the rating" in text
    assert "Old Album 9" in text
    assert "Old Album 0" not in text


def test_four_bit_layers_stay_off_the_cpu_kernel_without_gradients(base):
    layers = [m for m in load_base(base, "cpu").modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_gradients_after_an_evaluation_are_those_before_it(base):
    torch.manual_seed(0)
    model = get_peft_model(load_base(base, "cpu"), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    ids = torch.randint(6, 500, (2, 40))

    def gradients():
        model.zero_grad()
        model.train()
        model(ids, labels=ids).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(ids)
    after = gradients()
    assert before.abs().max() > 0
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)


def test_a_missing_base_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(tmp_path / "nothing"), None, device="cpu")


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("CUDA is here")
    with pytest.raises(InputError, match="no CUDA device"):
        resolve_device("cuda")


@pytest.mark.gpu
def test_on_cuda_inputs_follow_the_model_and_a_batch_equals_single_prompts(base):
    model = load(base, None, device="cuda")
    asked = some_prompts(8)
    together = model.choice_probabilities(asked, RATINGS, RATING_PREFIX)
    alone = np.concatenate([model.choice_probabilities([p], RATINGS, RATING_PREFIX) for p in asked])
    np.testing.assert_allclose(together, alone, atol=2e-2)
    assert len(model.generate(asked, max_new_tokens=8)) == 8
