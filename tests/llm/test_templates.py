"""Chat templates and tokenizers of many kinds: the template is the rule, and training, asking and stopping agree."""

import json

import numpy as np
import pytest
import torch
from shapes import GROUPED, change_json, make_base
from test_local import some_prompts

from reason4rec.errors import InputError
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.llm.tokens import answer_ids, chat_ids, choice_ids, choices_after, encode, end_of_turn, load_tokenizer
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS
from reason4rec.training.trainer import fit_rows

HEAD, END = "<|start_header_id|>", "<|eot_id|>"
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|start_header_id|>system\nBe helpful.<|eot_id|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '\n' + m['content'] + '<|eot_id|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant\n' }}"
)
KINDS = {
    "chatml": CHATML + "{% endif %}",
    "thinking": CHATML
    + "{% if not enable_thinking | default(true) %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
    "no_system": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    + CHATML
    + "{% endif %}",
    "trims": CHATML.replace("m['content']", "m['content'] | trim") + "{% endif %}",
    "parts": CHATML.replace("m['content']", "m['content'][0]['text']") + "{% endif %}",
    "day": "{{ strftime_now('%d %B %Y') }}" + CHATML + "{% endif %}",
    "plain_turns": "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
    "line_before_the_end": CHATML.replace("+ '<|eot_id|>", "+ '\n<|eot_id|>") + "{% endif %}",
}


def with_template(base, folder, template, **tokenizer):
    make_base(folder, base)
    (folder / "chat_template.jinja").write_text(template)
    change_json(folder, "tokenizer_config.json", **tokenizer)
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bos", ["<|begin_of_text|>", HEAD, None])
def test_a_template_was_refused_for_what_it_begins_with_and_the_same_tokens_are_trained_and_asked(
    base, tmp_path, kind, bos
):
    tokenizer = load_tokenizer(with_template(base, tmp_path / "base", KINDS[kind], bos_token=bos))
    tokenizer.save_pretrained(tmp_path / "adapter")
    prompt = Prompt("  Is it good? <|eot_id|> \n")
    row = fit_rows([training_row(prompt, " It is. ")], tokenizer, 4096)[0][0]
    asked, _ = encode(tokenizer, prompt, 4096)
    begun = [id_ for id_, label in zip(row["input_ids"], row["labels"]) if label == -100]
    assert begun == asked == chat_ids(load_tokenizer(tmp_path / "adapter"), prompt.text)
    assert row["input_ids"][len(asked) :] == answer_ids(tokenizer, "It is.")
    assert row["input_ids"][-1] == end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(END)
    assert tokenizer.decode(asked).count("Is it good? <|eot_id|>") == 1


def test_the_prompt_is_what_the_template_writes_with_thinking_off(base, tmp_path):
    tokenizer = load_tokenizer(with_template(base, tmp_path / "base", KINDS["thinking"]))
    assert tokenizer.decode(chat_ids(tokenizer, "Fine?")).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_writes_the_day_wrote_another_prompt_each_day(base, tmp_path):
    tokenizer = load_tokenizer(with_template(base, tmp_path / "base", KINDS["day"]))
    assert tokenizer.decode(chat_ids(tokenizer, "Fine?")).startswith("26 July 2024")


@pytest.mark.parametrize("eos", [None, "<|end_of_text|>"])
@pytest.mark.parametrize("pad", [None, "<|finetune_right_pad_id|>"])
def test_an_answer_ends_as_the_template_ends_a_turn_and_writing_stops_there(base, tmp_path, eos, pad):
    folder = with_template(base, tmp_path / "base", KINDS["chatml"], eos_token=eos, pad_token=pad)
    for name in ("config.json", "generation_config.json"):
        change_json(folder, name, eos_token_id=1)
    model = load(folder, None, "cpu")
    end = model.tokenizer.convert_tokens_to_ids(END)
    assert answer_ids(model.tokenizer, "Yes.")[-1] == end
    assert {1, end} <= set(model.model.generation_config.eos_token_id)
    head = model.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, logits: logits.index_fill(-1, torch.tensor([end]), 1e4))
    assert model.generate(some_prompts(2), max_new_tokens=4) == ["", ""]
    handle.remove()


def test_a_tokenizer_without_any_end_is_refused_by_name(base, tmp_path):
    template = "{{ '<|start_header_id|>' }}{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    folder = with_template(base, tmp_path / "endless", template, eos_token=None)
    with pytest.raises(InputError, match="endless: .*end"):
        load_tokenizer(folder)


@pytest.mark.parametrize("names", [["default", "tool_use"], ["rag", "tool_use"], ["rag"]])
def test_templates_with_names_ended_in_a_traceback(base, tmp_path, names):
    folder = tmp_path / "named_base"
    make_base(folder, base)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    change_json(folder, "tokenizer_config.json", chat_template=[{"name": n, "template": template} for n in names])
    if "default" in names:
        assert chat_ids(load_tokenizer(folder), "Fine?") == chat_ids(load_tokenizer(base), "Fine?")
    else:
        with pytest.raises(InputError, match="named_base: .*rag"):
            load_tokenizer(folder)


def test_the_demos_ids_are_those_that_they_were(base):
    tokenizer = load_tokenizer(base)
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Fine?"}, {"role": "assistant", "content": "Yes."}], return_dict=False
    )
    assert chat_ids(tokenizer, "Fine?") + answer_ids(tokenizer, "Yes.") == whole
    assert answer_ids(tokenizer, "Yes.")[-1] == tokenizer.eos_token_id


def joined_digits(folder):
    """Makes the tokenizer of a base write a space and a digit as one token, as GPT-2's does."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for one in content["pre_tokenizer"]["pretokenizers"]:
        if one["type"] == "Split":
            one["pattern"]["Regex"] = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    vocabulary = content["model"]["vocab"]
    free = [name for name in vocabulary if name.isascii() and name.isalpha()][-len(RATINGS) :]
    merges = [merge for merge in content["model"]["merges"] if not set(free) & {*merge, "".join(merge)}]
    for old, digit in zip(free, RATINGS):
        vocabulary[f"\u0120{digit}"] = vocabulary.pop(old)
        merges.append(["\u0120", digit])
    content["model"]["merges"] = merges
    path.write_text(json.dumps(content))


def test_digits_that_are_one_token_with_the_space_before_them_were_refused(base, tmp_path):
    make_base(tmp_path / "base", base)
    joined_digits(tmp_path / "base")
    model = load(str(tmp_path / "base"), None, "cpu")
    before, digits = choices_after(model.tokenizer, RATINGS, RATING_PREFIX)
    assert [model.tokenizer.decode(before + [digit]) for digit in digits] == [RATING_PREFIX + one for one in RATINGS]
    assert answer_ids(model.tokenizer, f"{RATING_PREFIX}4.0")[: len(before) + 1] == [*before, digits[3]]
    asked = some_prompts(3)
    for said in (None, ["It fits. "] * 3):
        found = model.choice_probabilities(asked, RATINGS, RATING_PREFIX, said)
        for prompt, row in zip(asked, found):
            ids = chat_ids(model.tokenizer, prompt.text)
            ids += choices_after(model.tokenizer, RATINGS, (said[0] if said else "") + RATING_PREFIX)[0]
            with torch.inference_mode():
                expected = model.model(torch.tensor([ids])).logits[0, -1][digits].softmax(-1)
            np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
    with pytest.raises(InputError, match="one token"):
        choice_ids(model.tokenizer, RATINGS, RATING_PREFIX)  # what a server is asked for stands after a space


def test_settings_of_sampling_that_a_base_was_published_with_changed_greedy_replies(base, tmp_path):
    folder = make_base(tmp_path / "base", base)
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 5, "num_beams": 2, "max_length": 20}
    leaking = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "suppress_tokens": [7]}
    change_json(folder, "generation_config.json", **sampling, **leaking)
    asked = some_prompts(6)
    assert load(folder, None, "cpu").generate(asked, 24) == load(base, None, "cpu").generate(asked, 24)


def test_a_base_with_fewer_weights_than_tokens_ended_in_a_traceback(base, tmp_path):
    folder = make_base(tmp_path / "short_base", base, "LlamaConfig", **GROUPED | {"vocab_size": 1100})
    with pytest.raises(InputError, match="short_base: .*1100"):
        load(folder, None, "cpu")
