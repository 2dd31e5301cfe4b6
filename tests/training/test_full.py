"""Training of all weights of a base in the place of an adapter: saved, reopened, cut off, and trained further."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shapes import GROUPED, make_base
from test_grpo import POLICY
from test_sft import SMALL

from reason4rec.errors import InputError
from reason4rec.llm import vocabulary
from reason4rec.llm.adapters import ADAPTER_WEIGHTS, is_full
from reason4rec.llm.bases import load_base
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.llm.tokens import answer_ids, chat_ids
from reason4rec.training import grpo, processes, sft
from reason4rec.training import trainer as trainer_module
from reason4rec.training.recipe import checked
from reason4rec.training.rollouts import Part

RECIPE = replace(SMALL, lr=3e-3, lm_head=False, full=True, epochs=8, batch_size=4)
TOKENS = ["<|a_1|>", "<|a_2|>", "<|b_1|>"]
ROWS = [training_row(Prompt(f"What follows {k}?"), f"It is {TOKENS[k % 3]}") for k in range(8)]


@pytest.fixture(scope="module", params=["untied", "tied"])
def whole(request, base, tmp_path_factory):
    """A base with a head of its own or a tied one, and what became of all its weights."""
    root = tmp_path_factory.mktemp(request.param)
    shape = {} if request.param == "untied" else {"tie_word_embeddings": True, **GROUPED}
    plain = make_base(root / "plain", base, *(["Qwen3Config"] if shape else []), **shape)
    vocabulary.extend(plain, TOKENS, root / "base")
    train(str(root / "base"), root / "adapter")
    return str(root / "base"), root / "adapter"


def train(base, out, recipe=RECIPE, rows=ROWS, save_minutes=10, **of_execution):
    state = processes.started("cpu")
    settings = sft.settings_of("any", recipe, base, 1024)
    execution = sft.execution_of(recipe.batch_size, "cpu", 1, full=recipe.full, **of_execution)
    origin = {"inputs": {}, "settings": settings}
    return sft.train_sft(out, lambda: origin, execution, 42, lambda: False, lambda: rows, state, save_minutes)


def loss_of(model, rows=ROWS):
    """The mean loss of the answers' tokens, row by row."""
    found = []
    for row in rows:
        asked, answer = (message["content"] for message in row["messages"])
        before, after = chat_ids(model.tokenizer, asked), answer_ids(model.tokenizer, answer)
        with torch.no_grad():
            logits = model.model(torch.tensor([before + after])).logits[0].float().log_softmax(-1)
        found += [-float(logits[len(before) + k - 1, token]) for k, token in enumerate(after)]
    return sum(found) / len(found)


def test_every_weight_is_trained_saved_and_loaded(whole):
    base, out = whole
    assert is_full(out)
    saved, was = load_file(out / ADAPTER_WEIGHTS), load_base(base, "cpu", packed=False)
    before = {f"base_model.model.{name}": weight for name, weight in was.named_parameters()}
    assert saved.keys() - {"base_model.model.lm_head.weight"} == before.keys() - {"base_model.model.lm_head.weight"}
    assert all(not saved[name].equal(weight.detach()) for name, weight in before.items())
    model = load(base, out, "cpu")
    for name, weight in model.model.named_parameters():
        assert weight.equal(saved[f"base_model.model.{name}"].to(weight.dtype)), name
    tied = was.config.tie_word_embeddings
    one, other = model.model.get_input_embeddings().weight, model.model.get_output_embeddings().weight
    assert one.equal(other) == tied
    settings = json.loads((out / "settings.json").read_text())
    assert settings["full"] is True
    assert settings["target_modules"] == "dummy-target-modules"


def test_what_is_reopened_has_learned_the_rows(whole):
    base, out = whole
    curve = json.loads((out / "loss_curve.json").read_text())
    trained = loss_of(load(base, out, "cpu"))
    assert trained < loss_of(load(base, None, "cpu")) - 1
    assert trained == pytest.approx(curve[-1]["loss"], abs=0.5)


def test_a_training_of_all_weights_that_is_cut_off_ends_as_an_unbroken_one(whole, tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=2, batch_size=2)
    train(whole[0], tmp_path / "unbroken", recipe, ROWS[:4])
    out, complete = tmp_path / "cut", Path.touch

    def dies(path, *rest, **named):
        if path.parent.name == "checkpoint-3":
            raise KeyboardInterrupt
        complete(path, *rest, **named)

    monkeypatch.setattr(Path, "touch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(whole[0], out, recipe, ROWS[:4], save_minutes=0)
    monkeypatch.undo()
    train(whole[0], out, recipe, ROWS[:4], save_minutes=0)
    for name in (ADAPTER_WEIGHTS, "loss_curve.json", "settings.json"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_a_policy_trains_all_weights_further(whole, tmp_path):
    base, start = whole
    policy = replace(POLICY, steps=2, lr=1e-4, max_new_tokens=8)
    settings = json.loads(json.dumps(grpo.settings_of("Policy", start, policy, {"part": 1.0})))
    assert settings["full"] is True
    measured = iter([0.0, 0.5, 1.0])  # before the training and after each step: the last is the best

    def scored(rollouts):
        """Draws may be alike, so that a reward of their texts may have no spread."""
        return [next(measured)] * 2 if len(rollouts) == 2 else [float(k % 2) for k in range(len(rollouts))]

    score = Part("part", 1.0, scored)
    asked = [Prompt(f"What follows {k}?") for k in range(4)]
    watched = grpo.Validation(asked[:2], [{}] * 2, [score], 1, "best")
    task = grpo.Task(asked, [{}] * 4, [score], validation=watched)
    out = tmp_path / "Policy"
    origin = {"inputs": {}, "settings": settings}
    grpo.train_policy(out, origin, start, policy, task, 7, "cpu")
    curve = json.loads((out / "loss_curve.json").read_text())
    divergence = [entry["kl"] for entry in curve if "kl" in entry]
    assert divergence[0] == pytest.approx(0, abs=1e-7)
    assert divergence[1] > 0
    before, after = load_file(start / ADAPTER_WEIGHTS), load_file(out / ADAPTER_WEIGHTS)
    assert before.keys() == after.keys()
    assert is_full(out)
    moved = sum(not before[name].equal(after[name]) for name in before)
    assert moved > len(before) / 2
    load(base, out, "cpu")
    with pytest.raises(InputError, match="a server loads adapters"):
        grpo.train_policy(out, origin, start, policy, task, 7, "cpu", draw_at="http://127.0.0.1:9/v1")


def test_what_cannot_be_combined_is_named(base, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--full trains all weights: pass --no-lm_head and --no-new_tokens"):
        checked(replace(RECIPE, lm_head=True))
    with pytest.raises(InputError, match="--engine unsloth"):
        sft.execution_of(4, "cpu", engine="unsloth", full=True)
    start = tmp_path / "adapter"
    train(base, start, replace(SMALL, lm_head=False, epochs=1), ROWS[:2])
    settings = sft.settings_of("any", RECIPE, base, 1024) | sft.execution_of(4, "cpu", full=True)
    settings |= {"start_from": str(start), "dtype": "float32", "padding_free": True}
    with pytest.raises(InputError, match="was trained with full None, this training has True"):
        trainer_module.build_trainer(ROWS, settings, 42, tmp_path / "training")
