"""The demo of sequences from its first step to its table, at toy size, in one command."""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

SMALL = (
    *("--limit", "24", "--epochs", "1", "--rank", "4", "--rationale_targets", "16", "--train_cases", "16"),
    *("--rl_steps", "1", "--prompts_a_step", "2", "--group", "2", "--rl_targets", "4", "--watched", "2"),
    *("--completion_tokens", "24", "--max_new_tokens", "24", "--cases", "12", "--device", "cpu"),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The root of a run, and what its first and its second command printed."""
    root = tmp_path_factory.mktemp("sequences")
    words = ["bash", "run_all.sh", "--system", "twice_rec", *SMALL]
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
    result = json.loads((root / "data/Demo_sequences/results/twice_rec_metrics.json").read_text())
    models = {row["model"] for row in result["ranks"]}
    assert models == {"chance", "popularity", "anti-popularity", "SASRec", "item_only", "recommender", "rl_mended"}
    assert {row["n"] for row in result["ranks"]} == {12}
    assert "How popular the candidate ranked first is" in printed[0]


def test_the_collaborative_model_of_the_demo_knows_more_than_popularity(ran):
    card = json.loads((ran[0] / "checkpoints/Demo_sequences/SASRec/card.json").read_text())
    of = card["metrics"]["test"]
    assert of["SASRec"]["NDCG@10"] > of["popularity"]["NDCG@10"]
    assert card["item_share"] < 0.9


def test_a_second_run_does_nothing_again(ran):
    assert ran[1][1].count("complete:") >= 12
    assert "rows in" not in ran[1][1]


def test_a_finished_run_answers_about_a_user(ran):
    root = ran[0]
    words = [sys.executable, "-m", "reason4rec.systems.twice_rec.asking", "--dataset", "Demo_sequences"]
    words += ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints"), "--json"]
    words += ["--user", "U0003"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [one["rank"] for one in answer["ranked"]] == list(range(1, 11))
