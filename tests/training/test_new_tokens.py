"""New words of a base, and the training of exactly their rows beside an adapter, on tied and untied bases."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st
from safetensors.torch import load_file
from shapes import GROUPED, make_base
from test_grpo import POLICY
from test_sft import SMALL, loss_and_gradients, settings_for
from transformers import AddedToken, AutoTokenizer

from reason4rec.errors import InputError
from reason4rec.llm import vocabulary
from reason4rec.llm.adapters import ADAPTER_WEIGHTS
from reason4rec.llm.bases import load_base, merged, unpacked, with_adapter
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.llm.tokens import answer_ids, chat_ids, load_tokenizer, new_tokens, plain_ids
from reason4rec.llm.trie import of_texts
from reason4rec.training import adapters, grpo, sft
from reason4rec.training import trainer as trainer_module
from reason4rec.training.recipe import checked, recorded
from reason4rec.training.rollouts import Part

TOKENS = [f"<|{level}_{code}|>" for level in "abc" for code in range(1, 5)]
RECIPE = replace(SMALL, lr=1e-2, lm_head=False, new_tokens=True, epochs=2)
SETTINGS = settings_for("", RECIPE)


def ids_of_items(n):
    return [f"<|a_{1 + k % 4}|><|b_{1 + k // 4 % 4}|><|c_{1 + k // 2 % 4}|>" for k in range(n)]


ROWS = [
    training_row(Prompt(f"After {one} comes"), f"It is {ids_of_items(8)[k - 7]}")
    for k, one in enumerate(ids_of_items(8))
]


@pytest.fixture(scope="module")
def bases(base, tmp_path_factory):
    """A base whose head is tied to its embedding, and one with a head of its own, extended by the same tokens."""
    root = tmp_path_factory.mktemp("bases")
    plain = {
        "untied": make_base(root / "plain_untied", base),
        "tied": make_base(root / "plain_tied", base, "Qwen3Config", tie_word_embeddings=True, **GROUPED),
    }
    for name, folder in plain.items():
        vocabulary.extend(folder, TOKENS, root / name)
    return {name: (folder, str(root / name)) for name, folder in plain.items()}


@pytest.fixture(scope="module", params=["untied", "tied"])
def extended(bases, request):
    return bases[request.param][1]


@pytest.fixture(scope="module")
def trained(extended, tmp_path_factory):
    """A base with an adapter and new rows that were trained on it."""
    out = tmp_path_factory.mktemp("trained") / "adapter"
    train(extended, out)
    return extended, out


@pytest.fixture(scope="module")
def tokenizer(bases):
    return load_tokenizer(bases["untied"][1])


def train(base, out, rows=ROWS, recipe=RECIPE, save_minutes=10):
    """Trains on rows; what `train_sft` returns."""
    from reason4rec.training import processes

    state = processes.started("cpu")
    provenance = {"inputs": {}, "settings": sft.settings_of("any", recipe, base, 1024)}
    execution = sft.execution_of(recipe.batch_size, "cpu", 1, new_tokens=recipe.new_tokens)
    return sft.train_sft(out, lambda: provenance, execution, 42, lambda: False, lambda: rows, state, save_minutes)


def tables_of(model):
    """The embedding and the output head of a model, as they are used."""
    return [part.weight.detach().float() for part in (model.get_input_embeddings(), model.get_output_embeddings())]


def logits_of(model, text="After <|a_1|><|b_2|><|c_3|> comes"):
    tokenizer = load_tokenizer(model.config._name_or_path)
    with torch.no_grad():
        return model(torch.tensor([chat_ids(tokenizer, text)])).logits.float()


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_an_extended_base_is_a_base_whose_old_rows_are_as_they_were(bases, name):
    plain, folder = bases[name]
    before, after = (load_file(f"{one}/model.safetensors") for one in (plain, folder))
    config = json.loads(Path(folder, "config.json").read_text())
    assert config["vocab_size"] == 1207 + len(TOKENS)
    assert before.keys() == after.keys()
    grown = {key for key in before if before[key].shape != after[key].shape}
    assert len(grown) == (1 if name == "tied" else 2)
    for key, weight in before.items():
        assert after[key][: len(weight)].equal(weight)
        assert after[key].dtype == weight.dtype
    for key in grown:
        rows = after[key][1207:].float()
        assert len(rows.unique(dim=0)) == len(TOKENS)
        assert rows.std() == pytest.approx(float(before[key].float().std()), rel=0.3)


def test_the_rows_follow_from_the_seed(base, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        vocabulary.extend(base, TOKENS[:2], tmp_path / name, seed)
    one, again, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "again", "two"))
    key = "model.embed_tokens.weight"
    assert one[key].equal(again[key])
    assert not one[key].equal(two[key])


def test_a_text_that_holds_a_new_token_is_read_by_the_words_that_the_base_knows(base, tmp_path):
    """A title with such a token ended in an index out of bounds."""
    texts = [(f"guitar {TOKENS[0]}", TOKENS[:1]), ("bass and tempo", TOKENS[1:2])]
    vocabulary.extend(base, TOKENS, tmp_path / "made", texts=texts)
    assert plain_ids(load_tokenizer(tmp_path / "made"), TOKENS[0]) == [1207]


def test_tokens_with_texts_begin_near_the_words_of_those(base, tmp_path):
    texts = [("melody and guitar", TOKENS[:2]), ("bass and tempo", TOKENS[2:3]), ("piano and mood", TOKENS[3:4])]
    vocabulary.extend(base, TOKENS, tmp_path / "near", 1, texts=texts)
    vocabulary.extend(base, TOKENS, tmp_path / "drawn", 1)
    tokenizer = load_tokenizer(base)
    near, drawn = (load_file(tmp_path / name / "model.safetensors") for name in ("near", "drawn"))
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        old, rows = near[key][:1207].float(), near[key][1207:].float()
        words = [old[plain_ids(tokenizer, text)].mean(0) for text, _ in texts]
        common = sum(words) / 3
        alike = [[float(torch.cosine_similarity(row - old.mean(0), one - common, 0)) for one in words] for row in rows]
        assert [max(range(3), key=of.__getitem__) for of in alike[:4]] == [0, 0, 1, 2]
        assert min(max(of) for of in alike[:4]) > 0.7 > max(max(of) for of in alike[4:])
        assert not rows[0].equal(rows[1])
        assert rows[4:].equal(drawn[key][1211:].float())
        assert rows[:4].std() == pytest.approx(float(old.std()), rel=0.3)


WORDS = st.lists(
    st.sampled_from([*TOKENS, "bought", " ", ", ", "<|", "a_1", "|>", "\n", "é", ".", "<think>"]), max_size=12
)


@of_hypothesis(max_examples=80, deadline=None)
@given(WORDS)
def test_a_text_with_new_tokens_survives_being_written_without_special_ones(tokenizer, words):
    text = "".join(words)
    ids = plain_ids(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    new = new_tokens(tokenizer)
    assert list(new) == TOKENS
    assert set(new.values()).isdisjoint(tokenizer.all_special_ids)
    assert sum(one in new.values() for one in ids) >= sum(word in TOKENS for word in words)


def test_added_as_special_tokens_they_vanished_from_what_a_reward_reads(base):
    """As the released code adds them; a text without them is rewarded with 0."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in TOKENS])
    ids = tokenizer("It is <|a_1|><|b_2|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "It is"


def test_other_words_that_were_added_are_still_no_tokens_in_a_text(base, tmp_path):
    like = make_base(tmp_path / "like", base)
    tokenizer = AutoTokenizer.from_pretrained(like)
    tokenizer.add_tokens([AddedToken("<|apart|>", special=False, normalized=False)])
    tokenizer.save_pretrained(like)
    vocabulary.extend(like, ["<|a_1|>"], tmp_path / "base")
    tokenizer = load_tokenizer(tmp_path / "base")
    ids = plain_ids(tokenizer, "<|apart|><|a_1|><|eot_id|>")
    assert [one for one in ids if one >= 1207] == [new_tokens(tokenizer)["<|a_1|>"]]
    assert tokenizer.decode(ids) == "<|apart|><|a_1|><|eot_id|>"


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([" a"], "without a space"),
        ([""], "without a space"),
        (["<|x|>"] * 2, "named twice"),
        (["<|eot_id|>"], "already"),
    ],
)
def test_tokens_that_cannot_be_added_are_named(base, tmp_path, tokens, said):
    with pytest.raises(InputError, match=said):
        vocabulary.extend(base, tokens, tmp_path / "base")
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_names_new_tokens_which_it_has_not_is_refused(bases, tmp_path):
    folder = Path(make_base(tmp_path / "base", bases["untied"][1]))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"new_tokens": ["<|x|>"]}))
    with pytest.raises(InputError, match="extend again"):
        load_tokenizer(folder)


def test_the_new_rows_alone_are_trained_of_the_embedding_and_of_the_head(trained):
    base, out = trained
    before, after = tables_of(load_base(base, "cpu")), tables_of(load(base, out, "cpu").model)
    used = {
        one
        for row in ROWS
        for message in row["messages"]
        for one in plain_ids(load_tokenizer(base), message["content"])
    }
    learned = sorted(one for one in used if one >= 1207)
    assert len(learned) > 6
    for old, new in zip(before, after, strict=True):
        assert new[:1207].equal(old[:1207])
        assert ((new - old)[learned].abs().max(dim=1).values > 1e-3).all()
    saved = load_file(out / ADAPTER_WEIGHTS)
    rows = {name: weight for name, weight in saved.items() if "lora" not in name}
    tied = load_base(base, "cpu").config.tie_word_embeddings
    assert len(rows) == (1 if tied else 2)
    assert {tuple(weight.shape) for weight in rows.values()} == {(len(TOKENS), before[0].shape[1])}


def test_both_tables_have_gradients_for_the_new_rows_alone(extended, tmp_path):
    settings = SETTINGS | {"base_model": extended}
    trainer, _ = trainer_module.build_trainer(ROWS, settings, 42, tmp_path)
    _, gradients = loss_and_gradients(trainer, range(4))
    rows = {name: gradient for name, gradient in gradients.items() if "lora" not in name}
    assert len(rows) == (1 if trainer.model.config.tie_word_embeddings else 2)
    for gradient in rows.values():
        assert gradient.shape[0] == len(TOKENS)
        assert gradient.abs().max() > 0
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}


def test_what_is_reopened_computes_what_was_trained_and_so_does_what_is_merged(extended, tmp_path):
    trainer, _ = trainer_module.build_trainer(ROWS, SETTINGS | {"base_model": extended}, 42, tmp_path / "training")
    trainer.train()
    trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(4)])
    with torch.no_grad():
        in_memory = trainer.model(**batch, use_cache=False).loss
    weights = adapters.trained_weights(trainer.model)
    made_from = {"inputs": {}, "settings": {}}
    adapters.save(trainer.model, weights, trainer.processing_class, tmp_path / "adapter", made_from, {}, [])
    reopened = with_adapter(load_base(extended, "cpu"), tmp_path / "adapter").eval()
    expected = logits_of(reopened)
    # The trainer's own forward takes rows laid end to end; the loss of each row alone says the same.
    sums, count = 0.0, 0
    for k in range(4):
        row = trainer.train_dataset[k]
        with torch.no_grad():
            logits = reopened(torch.tensor([row["input_ids"]])).logits[0, :-1].log_softmax(-1)
        for at, label in enumerate(row["labels"][1:]):
            if label != -100:
                sums, count = sums - float(logits[at, label]), count + 1
    assert sums / count == pytest.approx(float(in_memory), abs=1e-4)
    model, _ = unpacked(load_base(extended, "cpu"), 1e12)
    plain = merged(with_adapter(model, tmp_path / "adapter"))
    assert (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight) == (
        plain.config.tie_word_embeddings
    )
    torch.testing.assert_close(logits_of(plain), expected, atol=1e-4, rtol=1e-4)
    plain.save_pretrained(tmp_path / "merged")
    again = type(plain).from_pretrained(tmp_path / "merged", dtype=torch.float32)
    again.config._name_or_path = extended
    torch.testing.assert_close(logits_of(again), expected, atol=1e-4, rtol=1e-4)


def test_what_is_trained_can_be_searched(trained):
    base, out = trained
    model = load(base, out, "cpu", max_length=512)
    items = sorted(set(ids_of_items(8)))
    trie = of_texts(model.tokenizer, [f"It is {item}" for item in items])
    (found,) = model.beams([Prompt(f"After {ids_of_items(8)[2]} comes")], trie, 3)
    assert len({trie.places[path] for path, _ in found}) == 3


def test_settings_of_new_tokens_stand_where_they_are_used_alone(base, trained):
    settings = json.loads((trained[1] / "settings.json").read_text())
    assert settings["new_tokens"] is True
    assert "in_order" not in settings
    assert {"new_tokens", "in_order"}.isdisjoint(sft.settings_of("any", SMALL, base, 1024))
    assert recorded(replace(SMALL, in_order=True))["in_order"] is True


def test_an_adapter_with_new_rows_is_trained_further_and_one_without_is_not(trained, tmp_path):
    base, start = trained
    settings = SETTINGS | {"base_model": base, "base_sha256": sft.sha256_of(base), "start_from": str(start), "lr": 1e-9}
    trainer, _ = trainer_module.build_trainer(ROWS, settings, 42, tmp_path)
    saved, weights = load_file(start / ADAPTER_WEIGHTS), adapters.trained_weights(trainer.model)
    assert {name.replace(".default", "") for name in weights} == saved.keys()
    assert all(saved[name.replace(".default", "")].equal(weight) for name, weight in weights.items())
    with pytest.raises(InputError, match="trained with new_tokens True, this training has None"):
        trainer_module.build_trainer(ROWS, settings | {"new_tokens": None}, 42, tmp_path)


def test_what_cannot_be_trained_is_named_before_the_base_is_loaded(base, bases, tmp_path, capsys):
    with pytest.raises(InputError, match="--new_tokens: none were added"):
        train(base, tmp_path / "adapter")
    with pytest.raises(InputError, match="--no-lm_head"):
        checked(replace(RECIPE, lm_head=True))
    biased = make_base(tmp_path / "phi", bases["untied"][1], "PhiConfig", vocab_size=1207 + len(TOKENS))
    with pytest.raises(InputError, match="has a bias"):
        train(biased, tmp_path / "adapter")
    with pytest.raises(InputError, match="--engine unsloth"):
        sft.execution_of(4, "cpu", engine="unsloth", new_tokens=True)
    assert "loading" not in capsys.readouterr().out


@pytest.mark.parametrize("rows_in_order", [True, False])
def test_rows_are_taken_as_they_stand_where_that_is_wanted(bases, tmp_path, monkeypatch, rows_in_order):
    rows = [training_row(Prompt(f"Say {k}"), f"{k}") for k in range(12)]
    recipe = replace(RECIPE, new_tokens=False, in_order=rows_in_order, epochs=2)
    trainer, _ = trainer_module.build_trainer(
        rows, settings_for(bases["untied"][0], recipe) | {"base_model": bases["untied"][0]}, 42, tmp_path
    )
    seen, collate = [], trainer.data_collator
    trainer.data_collator = lambda batch: seen.append([row["input_ids"] for row in batch]) or collate(batch)
    trainer.train()
    tokenizer = trainer.processing_class
    texts = [tokenizer.decode(row) for batch in seen for row in batch]
    expected = [tokenizer.decode(chat_ids(tokenizer, f"Say {k}") + answer_ids(tokenizer, f"{k}")) for k in range(12)]
    assert (texts == expected * 2) == rows_in_order
    assert sorted(texts) == sorted(expected * 2)


def test_a_training_in_order_with_new_tokens_that_is_cut_off_ends_as_an_unbroken_one(extended, tmp_path, monkeypatch):
    """In the middle of its second epoch, with dropout."""
    recipe = replace(RECIPE, in_order=True, batch_size=1, dropout=0.2)
    train(extended, tmp_path / "unbroken", ROWS[:2], recipe)
    out, complete = tmp_path / "cut", Path.touch

    def dies(path, *rest, **named):
        if path.parent.name == "checkpoint-4":
            raise KeyboardInterrupt
        complete(path, *rest, **named)

    monkeypatch.setattr(Path, "touch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(extended, out, ROWS[:2], recipe, save_minutes=0)
    monkeypatch.undo()
    assert Path(sft.last_complete(sft.training_folder(out))).name == "checkpoint-3"
    train(extended, out, ROWS[:2], recipe, save_minutes=0)
    for name in (ADAPTER_WEIGHTS, "loss_curve.json", "settings.json"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_a_policy_goes_on_from_the_new_rows_and_trains_them_further(trained, tmp_path):
    base, start = trained
    policy = replace(POLICY, steps=2, lr=1e-3, max_new_tokens=8)
    seen = []

    def score(rollouts):
        seen.extend(one.text for one in rollouts)
        return [one.text.count("<|") + one.text.count("e") / 7 for one in rollouts]

    settings = json.loads(json.dumps(grpo.settings_of("Policy", start, policy, {"part": 1.0})))
    assert settings["new_tokens"] is True
    prompts = [Prompt(f"After {one} comes") for one in ids_of_items(4)]
    task = grpo.Task(prompts, [{}] * 4, [Part("part", 1.0, score)])
    out = tmp_path / "Policy"
    grpo.train_policy(out, {"inputs": {}, "settings": settings}, start, policy, task, 7, "cpu")
    curve = json.loads((out / "loss_curve.json").read_text())
    assert curve[0]["kl"] == 0  # from the adapter with its rows, not from the base's
    assert curve[1]["kl"] > 0
    before, after = load_file(start / ADAPTER_WEIGHTS), load_file(out / ADAPTER_WEIGHTS)
    assert before.keys() == after.keys()
    assert all(not before[name].equal(after[name]) for name in before)
    assert any("<|a_" in text or "<|b_" in text or "<|c_" in text for text in seen)
    changed = tables_of(load(base, out, "cpu").model)
    assert all(table[:1207].equal(old[:1207]) for table, old in zip(changed, tables_of(load_base(base, "cpu"))))
