"""Whole steps whose expert answers at a server: the files that they write are those of the in-process model."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import served
from helpers import put_toy_dataset, serving

from reason4rec.data import schema
from reason4rec.data.schema import PROBABILITIES
from reason4rec.demo import stand_in
from reason4rec.llm.local import load
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts
from reason4rec.systems.reason4rec.artifacts import REASON, REASON_TARGETS, TEACHER_REASONS, TEST_RATINGS, TEST_REASONS

ROOT = Path(__file__).parents[3]
DISTILL = "2_Reasoner/4_distilling_possible_reason.py"
STEPS = ("2_Reasoner/7_generate_reason_for_test.py", "3_Predictor/3_generate_predict_for_test.py")


def run(script, folder, checkpoints, monkeypatch, *flags):
    """Runs a numbered script in this process, as its command line would."""
    arguments = ["--dataset", "Demo_data", "--data_root", folder, "--checkpoint_root", checkpoints, *flags]
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.fixture(scope="module")
def checkpoints(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    for name, lm_head in (("Reasoner", False), ("Predictor", True), ("reason_reward_model", True)):
        served.put_adapter(root / "Demo_data" / name, base, lm_head, size=0.005)
    return root


def expert(base, checkpoints, name):
    return load(base, checkpoints / "Demo_data" / name, "cpu", max_length=1024)


def test_reasons_and_ratings_of_a_server_are_those_of_the_model_in_process(base, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", served.KEY)
    found = []
    for where in ("here", "there"):
        folder = put_toy_dataset(tmp_path / where, summaries=True)
        for script, name in zip(STEPS, ("Reasoner", "Predictor")):
            flags = ["--limit", 6, "--device", "cpu", "--max_new_tokens", 16]
            if where == "here":
                run(script, folder.parent, checkpoints, monkeypatch, *flags)
            else:
                with serving(served.Server(expert(base, checkpoints, name), names=(f"Demo_data-{name}",))) as server:
                    run(script, folder.parent, checkpoints, monkeypatch, *flags, "--base_url", server.address)
                    assert len(server.asked) == 6
        found.append((schema.read(folder, TEST_REASONS), schema.read(folder, TEST_RATINGS)))
    (reasons, ratings), (served_reasons, served_ratings) = found
    assert reasons[REASON].tolist() == served_reasons[REASON].tolist()
    assert len(set(reasons[REASON])) > 1
    np.testing.assert_allclose(served_ratings[list(PROBABILITIES)], ratings[list(PROBABILITIES)], atol=1e-5)


def test_a_reward_model_at_a_server_accepts_the_same_reasons(base, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", served.KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "none-needed")
    found = []
    for where in ("here", "there"):
        folder = put_toy_dataset(tmp_path / where, summaries=True)
        targets = schema.read(folder, artifacts.SUMMARIES).tail(10)
        files.write_pickle(folder / REASON_TARGETS.path, targets.reset_index(drop=True))
        flags = ["--device", "cpu", "--teacher_model", "stand-in", "--tau", "0.0", "--draws", "2"]
        reward = served.Server(
            expert(base, checkpoints, "reason_reward_model"), names=("Demo_data-reason_reward_model",)
        )
        with serving(stand_in.Server(0)) as teacher, serving(reward) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", teacher.address)
            flags += ["--base_url", server.address] if where == "there" else []
            run(DISTILL, folder.parent, checkpoints, monkeypatch, *flags)
            assert bool(server.asked) == (where == "there")
        found.append(schema.read(folder, TEACHER_REASONS))
    here, there = found
    assert 0 < len(here) < 10
    assert here[artifacts.TEACHER_REASON].tolist() == there[artifacts.TEACHER_REASON].tolist()
    np.testing.assert_allclose(here["reward_score"], there["reward_score"], atol=1e-4)
