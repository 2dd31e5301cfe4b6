"""Distillation killed in the middle: nothing is asked twice, and the rerun ends with the same file."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from test_finetune import command

from reason4rec import artifacts, finetune, raw
from reason4rec.demo import rules, stand_in, world

ROOT = Path(__file__).parents[1]
SCRIPT = "2_Reasoner/4_distilling_possible_reason.py"
FLAGS = ("--dataset", "Demo_data", "--teacher_model", "stand-in", "--requests_at_once", "2", "--tau", "-0.02")


class CountingServer(stand_in.Server):
    """A stand-in that notes each request and takes its time."""

    def __init__(self):
        super().__init__(0)
        self.asked = []
        self.RequestHandlerClass = type(
            "Slow", (stand_in._Handler,), {"_send": self.slow_send(stand_in._Handler._send)}
        )

    def slow_send(self, send):
        def slow(handler, status, content):
            self.asked.append(content["choices"][0]["message"]["content"])
            time.sleep(0.02)
            send(handler, status, content)

        return slow


@pytest.fixture
def server():
    server = CountingServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def prepared(base, tmp_path_factory):
    """A toy dataset with everything that distillation reads."""
    root = tmp_path_factory.mktemp("kill")
    reviews, metadata = world.raw_records(60, 20, seed=3)
    dumps = root / "reviews.json.gz", root / "meta.json.gz"
    for path, records in zip(dumps, (reviews, metadata)):
        artifacts.write_json_lines(path, records)
    train = raw.preprocess(*dumps, root / "scratch", core=1).train
    folder = root / "data" / "Demo_data"
    train[artifacts.SUMMARY] = [rules.summarize(text) for text in train["reviews"]]
    artifacts.write_pickle(folder / artifacts.SUMMARIES.path, train)
    artifacts.write_pickle(folder / artifacts.REASON_TARGETS.path, train.tail(60).reset_index(drop=True))
    finetune.run(command(base, root, adapter="reason_reward_model", epochs=1))
    return root


def start(root, server):
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "none-needed",
        "OPENAI_BASE_URL": server.address,
        "CUDA_VISIBLE_DEVICES": "",
    }
    roots = ("--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints"))
    return subprocess.Popen(
        [sys.executable, SCRIPT, *FLAGS, *roots],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def copy_of(root, name):
    target = root.with_name(name)
    subprocess.run(["cp", "-r", root, target], check=True)
    return target


def test_a_distillation_that_is_killed_asks_nothing_twice_and_writes_the_same_file(prepared, server):
    whole, cut = copy_of(prepared, "whole"), copy_of(prepared, "cut")
    finish(start(whole, server))
    asked_unbroken = list(server.asked)
    file = Path("data/Demo_data") / artifacts.TEACHER_REASONS.path
    accepted = pd.read_pickle(whole / file)
    assert len(asked_unbroken) > 60, "no hinted request"
    assert accepted["accepted_draw"].nunique() > 1

    server.asked.clear()
    for stop_after in (15, len(asked_unbroken) - 5):
        process = start(cut, server)
        while len(server.asked) < stop_after:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (cut / file).exists()
    finish(start(cut, server))
    # A reply that was under way when the process was killed never arrived: at most the two of each kill.
    assert len(asked_unbroken) <= len(server.asked) <= len(asked_unbroken) + 4
    assert (cut / file).read_bytes() == (whole / file).read_bytes()
    assert not list(cut.rglob("*.part"))


def test_every_kept_row_has_all_its_columns_after_hinted_retries(prepared, server):
    root = copy_of(prepared, "columns")
    output = finish(start(root, server))
    targets = pd.read_pickle(root / "data/Demo_data" / artifacts.REASON_TARGETS.path)
    kept = pd.read_pickle(root / "data/Demo_data" / artifacts.TEACHER_REASONS.path)
    assert (kept["accepted_draw"] > 0).any()
    merged = kept.merge(targets, on=["user_id", "item_id", "unixReviewTime"], suffixes=("", "_before"))
    assert len(merged) == len(kept)
    assert (merged["ratings"] == merged["ratings_before"]).all()
    assert (merged["reviews"] == merged["reviews_before"]).all()
    assert "accepted on draw 0" in output
    assert "dropped" in output
    record = json.loads((root / "data/Demo_data" / f"{artifacts.TEACHER_REASONS.path}.json").read_text())
    assert record["made_from"]["settings"]["tau"] == -0.02
