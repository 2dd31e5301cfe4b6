"""The demo of GREAM from its first step to its table, at toy size, in one command."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

SMALL = (
    *("--limit", "24", "--epochs", "1", "--rank", "4", "--text_users", "8", "--reasonings", "8", "--passes", "1"),
    *("--fusion_rows", "8", "--rl_steps", "1", "--prompts_a_step", "2", "--group", "2"),
    *("--rl_targets", "4", "--watched", "2", "--completion_tokens", "24", "--max_new_tokens", "24", "--cases", "12"),
    *("--device", "cpu"),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The root of a run, and what its first and its second command printed."""
    root = tmp_path_factory.mktemp("gream")
    words = ["bash", "run_all.sh", "--system", "gream", *SMALL]
    words += ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    printed = []
    for _ in range(2):
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return root, printed


def test_one_command_leads_to_a_table_of_all_models(ran):
    root, printed = ran
    result = json.loads((root / "data/Demo_sequences/results/gream_metrics.json").read_text())
    models = {row["model"] for row in result["ranks"]}
    assert models == {
        *("chance", "popularity", "item-kNN", "SASRec"),
        *("generator_direct", "generator_positionwise", "generator_reasoned", "srpo_direct", "srpo_reasoned"),
    }
    assert {row["n"] for row in result["ranks"]} == {12}
    assert "ranked among all 160 items" in printed[0]


def test_codes_of_the_demo_say_something_of_who_chooses_an_item(ran):
    card = json.loads((ran[0] / "data/Demo_sequences/results/gream_ids.json").read_text())
    first = card["chosen_together"]["by_depth"][0]
    assert first["share"] > 1.3 * first["chance"]


def test_a_second_run_does_nothing_again(ran):
    assert ran[1][1].count("complete:") >= 17
    assert "rows in" not in ran[1][1]


def test_a_finished_run_answers_about_a_user(ran):
    root = ran[0]
    words = [sys.executable, "-m", "reason4rec.systems.gream.asking", "--dataset", "Demo_sequences"]
    words += ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints"), "--json"]
    words += ["--user", "U0003", "--max_new_tokens", "24"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [one["rank"] for one in answer["ranked"]] == list(range(1, 11))
