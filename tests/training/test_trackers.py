"""Trackers that follow a training: they get its losses, and change nothing of what it makes."""

import importlib.util
import json
import os
from typing import get_args

import pytest
from helpers import complaint, put_toy_dataset, run_script
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from reason4rec.demo.pretrain import Examples
from reason4rec.errors import InputError
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.run import records
from reason4rec.run.step import parse
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.training import processes, sft, trackers
from reason4rec.training.options import Execution
from reason4rec.training.recipe import Recipe

ABSENT = [name for name in get_args(trackers.Tracker) if importlib.util.find_spec(name) is None]
RECIPE = Recipe(rank=4, alpha=8, dropout=0.1, lr=1e-3, warmup=0, epochs=2, batch_size=4, lm_head=False)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What a training sets in the environment is gone after a test."""
    for name in (*trackers.FOLDERS, "WANDB_PROJECT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def trained(base, out, report_to):
    examples = Examples(seed=9, n_users=40, n_items=30, per_user=6)
    rows = [training_row(Prompt(prompt), text) for prompt, text in (examples.one("summarizer", 2) for _ in range(8))]
    state = processes.started("cpu")
    provenance = {"inputs": {}, "settings": sft.settings_of("any", RECIPE, base, 1024)}
    execution = sft.execution_of(RECIPE.batch_size, "cpu", state.num_processes)
    sft.train_sft(out, lambda: provenance, execution, 42, lambda: False, lambda: rows, state, report_to=report_to)
    return records.read_record(out), json.loads((out / "loss_curve.json").read_text())


def test_a_tracker_is_told_every_loss_and_neither_weights_nor_record_change_by_it(base, tmp_path, monkeypatch):
    told = []

    class Listener(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            told.append((args.project, args.run_name, args.report_to))

        def on_log(self, args, state, control, logs=None, **_):
            told.append((state.global_step, logs.get("loss")))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Listener)
    alone = trained(base, tmp_path / "alone" / "adapter", ())
    followed = trained(base, tmp_path / "Toy_data" / "adapter", ("tensorboard",))
    assert followed == alone
    losses = [(entry["step"], entry["loss"]) for entry in followed[1]]
    assert told[0] == ("reason4rec", "Toy_data-adapter", ["tensorboard"])
    assert [one for one in told[1:] if one[1] is not None] == losses
    # What a tracker keeps here is no part of the adapter; without one there is no folder.
    assert [path.name for path in sorted((tmp_path / "Toy_data").iterdir())] == [
        "adapter",
        "adapter.json",
        "adapter.logs",
    ]
    assert not trackers.logs_folder(tmp_path / "alone" / "adapter").exists()


def test_tensorboard_keeps_the_losses_beside_the_adapter(base, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "Toy_data" / "adapter"
    _, curve = trained(base, out, ("tensorboard",))
    events = EventAccumulator(str(trackers.logs_folder(out))).Reload()
    kept = [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")]
    assert kept == [(entry["step"], pytest.approx(entry["loss"], abs=1e-4)) for entry in curve]
    assert not [path for path in out.rglob("*") if "events" in path.name]
    assert not sft.training_folder(out).exists()


def test_a_place_that_the_environment_names_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", TrainerCallback)

    class Trainer:
        class args:  # noqa: N801
            pass

        def add_callback(self, callback):
            self.added = callback

    trackers.tell(trainer := Trainer(), ("tensorboard",), tmp_path / "adapter")
    assert trainer.added is TrainerCallback
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "elsewhere"
    assert os.environ["WANDB_DIR"] == str(tmp_path / "adapter.logs")


def test_an_unknown_tracker_is_one_line():
    for value in ("mlflow", "none"):
        with pytest.raises(InputError, match=f"--report_to.*{value}.*tensorboard.*trackio.*wandb"):
            parse(PIPELINE, PIPELINE["3/2"], ["--report_to", value])
    found = parse(PIPELINE, PIPELINE["3/2"], ["--report_to", "wandb", "tensorboard"])[Execution]
    assert found.report_to == ("wandb", "tensorboard")


@pytest.mark.skipif(not ABSENT, reason="every tracker is installed")
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_made(tmp_path):
    put_toy_dataset(tmp_path)
    roots = ("--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "checkpoints")
    done = run_script("3_Predictor/2_predictor_train.sh", "--dataset", "Demo_data", *roots, "--report_to", ABSENT[0])
    assert f"pip install {ABSENT[0]}" in complaint(done)
    assert not (tmp_path / "checkpoints").exists()
