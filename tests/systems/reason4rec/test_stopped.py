"""Replies that were stopped are told in a step's closing line and in its record."""

import gc
import json
import re
import runpy
import sys
import weakref

import served
import torch
from helpers import ROOT, put_toy_dataset, step_of
from test_stops import SAID, Loops

from reason4rec.llm import local
from reason4rec.systems.reason4rec import artifacts as a

REASONS = "2_Reasoner/7_generate_reason_for_test.py"


def test_a_step_says_how_many_replies_repeated_themselves(base, tmp_path, monkeypatch, capsys):
    put_toy_dataset(tmp_path, summaries=True)
    served.put_adapter(tmp_path / "checkpoints" / "Demo_data" / "Reasoner", base, lm_head=False)
    load = local.load

    def looping(*given):
        model = load(*given)
        Loops(model, SAID)
        return model

    monkeypatch.setattr(local, "load", looping)
    flags = ["--dataset", "Demo_data", "--data_root", tmp_path / "data", "--checkpoint_root", tmp_path / "checkpoints"]
    monkeypatch.setattr(sys, "argv", [REASONS, *map(str, flags), "--max_new_tokens", "200"])
    runpy.run_path(str(ROOT / REASONS), run_name="__main__")
    closing = re.search(r"rows out (\d+) .*\| stopped (\d+) repeated themselves", capsys.readouterr().out)
    assert closing[1] == closing[2] != "0"
    written = a.TEST_REASONS.within(tmp_path / "data" / "Demo_data")
    record = json.loads(written.with_name(f"{written.name}.json").read_text())
    assert record["made_from"]["execution"]["stopped"] == f"{closing[2]} repeated themselves"


def test_a_step_lets_go_of_a_model_and_keeps_its_counts(base, tmp_path):
    """A step that asks two models one after the other has memory for one."""
    put_toy_dataset(tmp_path)
    served.put_adapter(tmp_path / "checkpoints" / "Demo_data" / "Reasoner", base, lm_head=False)
    step = step_of("2/7", tmp_path)
    model = step.language_model("Reasoner")
    model.stopped["repeated themselves"] += 2
    assert "dtype" not in step.execution()  # of fp32, which is the same on every host
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert step.stopped == {"stopped": "2 repeated themselves"}


def test_a_record_says_that_a_model_computed_in_bf16(base, tmp_path, monkeypatch):
    put_toy_dataset(tmp_path)
    served.put_adapter(tmp_path / "checkpoints" / "Demo_data" / "Reasoner", base, lm_head=False)
    monkeypatch.setattr(local, "dtype_on", lambda *_: torch.bfloat16)
    step = step_of("2/7", tmp_path)
    step.language_model("Reasoner")
    assert step.execution()["dtype"] == "bfloat16"
