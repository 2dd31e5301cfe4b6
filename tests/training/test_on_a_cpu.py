"""Training on a CPU: in bf16, in parts that fit into memory, and with recipes that fit the rows and the base."""

import json
import math
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file
from shapes import GROUPED, make_base
from test_sft import SMALL, answer_loss, command, rows_for, run, train_rows, trainer_for
from transformers import modeling_utils

from reason4rec.errors import InputError
from reason4rec.llm import bases, local
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.shape import size_of
from reason4rec.run import files
from reason4rec.run.step import parse
from reason4rec.systems.reason4rec import train
from reason4rec.systems.reason4rec.artifacts import SUMMARIZER_ROWS
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS
from reason4rec.training import memory, sft
from reason4rec.training.batches import flatten, parts_of
from reason4rec.training.recipe import batch_for, rate_factor, warmup_steps

BF16 = {"dtype": "bfloat16"}


@pytest.fixture
def in_bf16(monkeypatch):
    """The tiny base is trained in bf16, as wider ones are where the CPU multiplies in it."""
    for module in (bases, local):
        monkeypatch.setattr(module, "dtype_on", lambda device, config: torch.bfloat16)


def step_gradients(trainer, tokens_at_once):
    """The loss of one step over all rows, and the gradient of each trained weight."""
    trainer.tokens_at_once, trainer.optimizer = tokens_at_once, None
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(len(trainer.train_dataset))])
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, batch, (batch["labels"][..., 1:] != -100).sum())
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("tokens", [1, 400, 700])
def test_a_batch_in_parts_has_the_loss_and_gradients_of_the_whole(base, tmp_path, padding_free, tokens):
    rows = [*rows_for("Reasoner", 2), *rows_for("Summarizer", 3), *rows_for("Predictor", 2)]
    trainer = trainer_for(rows, base, tmp_path, padding_free=padding_free)
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(7)])
    assert len(list(parts_of(batch, tokens))) > 1
    whole, expected = step_gradients(trainer, None)
    loss, found = step_gradients(trainer, tokens)
    assert loss == pytest.approx(whole, rel=1e-5)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-3)


def test_parts_hold_all_rows_in_their_order_and_no_more_tokens_than_asked_for():
    rows = [{"input_ids": [k] * n, "labels": [k] * n} for k, n in enumerate((3, 9, 2, 2, 5, 1), start=1)]
    parts = list(parts_of(flatten(rows), 5))
    assert [part["row_lengths"] for part in parts] == [(3,), (9,), (2, 2), (5,), (1,)]
    for name in ("input_ids", "labels", "position_ids"):
        assert torch.cat([part[name] for part in parts], dim=1).equal(flatten(rows)[name])


def test_a_base_in_bf16_is_unpacked_and_its_adapter_learns_in_fp32(base, tmp_path):
    trainer = trainer_for(rows_for("Predictor", 4), base, tmp_path, **BF16)
    assert not any(isinstance(module, Linear4bit) for module in trainer.model.modules())
    dtypes = {(p.requires_grad, p.dtype) for p in trainer.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}
    packed = bases.load_base(base, "cpu", dtype=torch.bfloat16)
    ids = torch.tensor([trainer.train_dataset[0]["input_ids"]])
    with torch.no_grad(), trainer.model.disable_adapter():
        unpacked = trainer.model.get_base_model().eval()(
            ids, position_ids=torch.arange(ids.shape[1])[None], row_lengths=(ids.shape[1],), use_cache=False
        )
    torch.testing.assert_close(unpacked.logits, packed.eval()(ids).logits, atol=0.05, rtol=0.05)


def test_gradients_in_bf16_point_where_those_in_fp32_do(base, tmp_path):
    found = {}
    for dtype in ("float32", "bfloat16"):
        trainer = trainer_for(rows_for("Reasoner", 4), base, tmp_path / dtype, dtype=dtype, lm_head=False)
        torch.manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.02)
        loss, gradients = step_gradients(trainer, 400)
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        found[dtype] = loss, torch.cat([gradient.flatten() for gradient in gradients.values()])
    (loss, exact), (rounded_loss, rounded) = found.values()
    assert rounded_loss == pytest.approx(loss, rel=0.05, abs=0.01)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.95


def test_a_training_in_bf16_that_is_cut_off_ends_as_an_unbroken_one(base, tmp_path, capsys, monkeypatch, in_bf16):
    """Cut off in an epoch, and gone on with less free memory: the parts are those of the first run."""
    changes = {"epochs": 2, "batch_size": 4, "dropout": 0.2}
    rows = rows_for("Reasoner")
    monkeypatch.setattr(memory, "choose_parts", lambda *_: {"tokens_at_once": 500, "computed_twice": False})
    train_rows(base, tmp_path / "unbroken", rows, capsys, **changes)
    out, complete = tmp_path / "cut", Path.touch

    def dies(path, *rest, **named):
        if path.parent.name == "checkpoint-3":
            raise KeyboardInterrupt
        complete(path, *rest, **named)

    with monkeypatch.context() as context:
        context.setattr(Path, "touch", dies)
        with pytest.raises(KeyboardInterrupt):
            train_rows(base, out, rows, capsys, save_minutes=0, **changes)
    monkeypatch.setattr(memory, "choose_parts", lambda *_: {"tokens_at_once": 1, "computed_twice": True})
    summary, printed = train_rows(base, out, rows, capsys, save_minutes=0, **changes)
    assert "2/4" in printed.err
    for name in ("adapter_model.safetensors", "loss_curve.json", "settings.json"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["dtype"], settings["tokens_at_once"]) == ("bfloat16", 500)


def test_a_trained_head_on_a_tied_base_in_bf16_is_saved_and_asked_as_it_was_trained(base, tmp_path, capsys, in_bf16):
    folder = make_base(tmp_path / "base", base, "Qwen3Config", **GROUPED, tie_word_embeddings=True)
    rows, out = rows_for("Predictor"), tmp_path / "adapter"
    kept = {}
    plain = sft.save
    with pytest.MonkeyPatch.context() as context:
        context.setattr(sft, "save", lambda model, *rest: (kept.update(model=model), plain(model, *rest)))
        train_rows(folder, out, rows, capsys, epochs=4, lr=1e-2)
    saved = load_file(out / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    model = load(folder, out, device="cpu")
    assert model.choice_probabilities([Prompt("text")], RATINGS, RATING_PREFIX).sum() == pytest.approx(1)
    embedding, head = (
        part.weight for part in (model.model.get_input_embeddings(), model.model.get_output_embeddings())
    )
    assert not embedding.float().equal(head.float())
    before = bases.load_base(folder, "cpu", dtype=torch.bfloat16)
    assert embedding.equal(before.get_input_embeddings().weight)
    trainer = trainer_for(rows, folder, tmp_path / "training", padding_free=False, **BF16)
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(8)])
    in_memory = answer_loss_of_padded(kept["model"], batch)
    assert answer_loss(model.model, batch) == pytest.approx(in_memory, rel=0.02)
    assert answer_loss(before, batch) > in_memory + 0.1


def answer_loss_of_padded(model, batch):
    """The loss of a padded batch by a model that was trained on rows laid end to end: one row at a time."""
    total = count = 0
    model.eval()
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"]):
        row = flatten([{"input_ids": ids[mask == 1].tolist(), "labels": labels[mask == 1].tolist()}])
        n = (row["labels"] != -100).sum().item()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            total, count = total + model(**row, use_cache=False).loss.item() * n, count + n
    return total / count


def test_what_a_token_keeps_is_counted_and_decides_the_parts(base, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SHARE", 100)  # whatever else runs on this machine
    rows = [*rows_for("Reasoner", 6), *rows_for("Summarizer", 6)]
    trainer = trainer_for(rows, base, tmp_path / "plenty")
    longest = max(map(len, trainer.train_dataset["input_ids"]))
    assert trainer.tokens_at_once > 12 * longest
    assert not (tmp_path / "plenty" / "parts.json").read_text().count("true")
    kept = memory.bytes_of_a_token(trainer)
    config = trainer.model.config
    # At least the input of each layer and of its products, in fp32; at most what all its intermediate results are.
    least = 4 * config.num_hidden_layers * (2 * config.hidden_size + config.intermediate_size)
    assert least < kept < 20 * least
    state = torch.get_rng_state()
    assert memory.bytes_of_a_token(trainer) == pytest.approx(kept, rel=0.01)
    assert torch.get_rng_state().equal(state)

    monkeypatch.setattr(memory, "AIM", memory.taken(trainer) + memory.PASSING * kept * (longest + 1))
    assert longest - memory.PROBE < trainer_for(rows, base, tmp_path / "row").tokens_at_once <= 1.1 * longest + 10
    monkeypatch.setattr(memory, "AIM", memory.taken(trainer) + memory.PASSING * kept * longest / 2)
    short = trainer_for(rows, base, tmp_path / "short", gradient_checkpointing=None)
    asked = trainer_for(rows, base, tmp_path / "asked", gradient_checkpointing=False)
    assert short.tokens_at_once < longest and short.computed_twice and not asked.computed_twice
    calls = []
    compute = modeling_utils.checkpoint
    monkeypatch.setattr(
        modeling_utils, "checkpoint", lambda *given, **named: calls.append(1) or compute(*given, **named)
    )
    loss, gradients = step_gradients(short, short.tokens_at_once)
    assert calls and not short.model.is_gradient_checkpointing
    calls.clear()
    plain, expected = step_gradients(asked, 1)
    assert not calls and loss == pytest.approx(plain, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-3)


def test_a_long_row_could_not_be_computed_twice_in_bf16_with_dropout(base, tmp_path, monkeypatch, in_bf16):
    """On the way back the adapter cast its inputs to fp32, as it had not on the way there."""
    rows = rows_for("Reasoner", 3)
    monkeypatch.setattr(memory, "choose_parts", lambda *_: {"tokens_at_once": 1, "computed_twice": True})
    twice = trainer_for(rows, base, tmp_path / "twice", dropout=0.3, **BF16)
    monkeypatch.setattr(memory, "choose_parts", lambda *_: {"tokens_at_once": 1, "computed_twice": False})
    once = trainer_for(rows, base, tmp_path / "once", dropout=0.3, **BF16)
    found = []
    for trainer in (twice, once):
        torch.manual_seed(3)
        found.append(step_gradients(trainer, 1))
    (loss, gradients), (expected_loss, expected) = found
    assert loss == expected_loss
    for name, gradient in gradients.items():
        assert gradient.equal(expected[name])


def test_a_warm_up_never_ended_on_little_data(base, tmp_path, capsys):
    out = tmp_path / "adapter"
    train_rows(base, out, rows_for("Predictor"), capsys, warmup=100, epochs=3)
    curve = json.loads((out / "loss_curve.json").read_text())
    assert json.loads((out / "settings.json").read_text())["warmup_steps"] == 1
    assert curve[1]["learning_rate"] == SMALL.lr
    assert curve[-1]["learning_rate"] < SMALL.lr / 2


@pytest.mark.parametrize(
    ("warmup", "n_rows", "expected"), [(100, 160, 4), (100, 100_000, 100), (0.1, 160, 0.1), (0, 8, 0)]
)
def test_a_warm_up_of_steps_is_at_most_a_tenth_of_all(warmup, n_rows, expected):
    recipe = SMALL.__class__(**SMALL.__dict__ | {"warmup": warmup})
    assert warmup_steps(recipe, n_rows) == expected
    assert expected < 1 or expected <= math.ceil(0.1 * n_rows / recipe.batch_size)


@pytest.mark.parametrize(
    ("base_model", "factor"),
    [
        ("unsloth/llama-3-8b-Instruct-bnb-4bit", 1),
        ("Qwen/Qwen2.5-1.5B-Instruct", 2),
        ("smollm2-135m", 4),
        ("no/size-in-its-name", 1),
    ],
)
def test_a_learning_rate_is_that_of_the_size_of_the_base_unless_it_is_set(tmp_path, base_model, factor):
    def lr_of(dataset, *words):
        spec = PIPELINE.training("Summarizer")
        roots = [f"--data_root={tmp_path}", f"--checkpoint_root={tmp_path}", f"--base_model={base_model}"]
        return train.recipe_of(
            PIPELINE.step(PIPELINE, spec, parse(PIPELINE, spec, [f"--dataset={dataset}", *roots, *words]))
        ).lr

    assert lr_of("Music_data") == pytest.approx(factor * 3e-4)
    assert lr_of("Music_data", "--lr=3e-4") == 3e-4
    assert lr_of("Demo_data") == 1e-3


def test_the_size_of_a_base_in_a_folder_is_that_of_its_configuration(base, tmp_path):
    folder = make_base(tmp_path / "named-8b", base)
    model = bases.load_base(base, "cpu").dequantize()
    assert size_of(folder) == pytest.approx(model.num_parameters(), rel=0.01)
    assert rate_factor(size_of(folder)) == 4


def test_what_was_chosen_for_a_training_is_recorded(base, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SHARE", 100)
    run(command(base, tmp_path, epochs=1, warmup=100))
    settings = json.loads((tmp_path / "checkpoints/Demo_data/Predictor/settings.json").read_text())
    assert (settings["dtype"], settings["warmup"], settings["warmup_steps"]) == ("float32", 100, 1)
    assert settings["tokens_at_once"] > 10_000
    assert settings["gradient_checkpointing"] is False


@pytest.mark.parametrize(
    ("batch", "n_rows", "expected"), [(16, 160, 16), (16, 159, 8), (32, 20, 2), (16, 9, 1), (3, 1, 1)]
)
def test_little_data_was_a_step_an_epoch(batch, n_rows, expected):
    assert batch_for(batch, n_rows) == expected


def test_a_batch_is_that_of_the_number_of_rows_unless_it_is_set(tmp_path):
    """Where a limit leaves few rows, these count."""
    spec = PIPELINE.training("Summarizer")
    given = ["--dataset=Music_data", f"--data_root={tmp_path}", f"--checkpoint_root={tmp_path}"]

    def batch_of(*words):
        return train.recipe_of(PIPELINE.step(PIPELINE, spec, parse(PIPELINE, spec, [*given, *words]))).batch_size

    assert batch_of() == 16
    files.write_pickle(tmp_path / "Music_data" / SUMMARIZER_ROWS.path, rows_for("Summarizer", 80))
    assert batch_of() == 8
    assert batch_of("--limit=30") == 2
    assert batch_of("--limit=30", "--batch_size=16") == 16


@pytest.mark.parametrize("content", ["{broken", "[]"])
def test_a_configuration_that_is_none_is_told_before_its_size_is_read(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="not a configuration"):
        size_of(str(tmp_path))
