"""The demo's trained experts, merged, behind a real vLLM: whole steps, killed servers, and what it refuses.

    bash tests/servers/make_vllm.sh /somewhere/vllm
    REASON4REC_VLLM=/somewhere/vllm python -m pytest -m vllm

Took 40 minutes on two busy cores: the demo's training, and eight starts of vLLM of which each is a minute when idle.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import OF_THE_CALLER, ROOT
from real_server import ANSWERED, TOKENS_FOUND, VARIABLE, Vllm, running

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import PREDICTION, PROBABILITIES
from reason4rec.errors import InputError
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm import cache
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.server import connect
from reason4rec.systems.reason4rec import export, prompts
from reason4rec.systems.reason4rec.artifacts import (
    REASON,
    SUMMARIES,
    SUMMARY,
    TEACHER_SUMMARIES,
    TEST_RATINGS,
    TEST_REASONS,
)
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

ENVIRONMENT = os.environ.get(VARIABLE, "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not ENVIRONMENT, reason=f"{VARIABLE} names no environment with vLLM, see docs/serving.md"),
]
KEY = "a-key-of-the-tests"
LIMIT = 96  # test rows; the histories of these show some 880 reviews
AT_ONCE = 500  # requests
ROOM = 2048  # tokens that the server reads, fewer than the 4,096 of the training
STEPS = {
    "Summarizer": ("1_Summarizer/4_summarizer_generation.py", SUMMARIES),
    "Reasoner": ("2_Reasoner/7_generate_reason_for_test.py", TEST_REASONS),
    "Predictor": ("3_Predictor/3_generate_predict_for_test.py", TEST_RATINGS),
}


def begin(root, script, *words, **variables):
    """A script of the demo that runs on, its data and adapters under `root`, without the caller's keys."""
    places = (
        "--dataset",
        "Demo_data",
        "--data_root",
        root / "data",
        "--checkpoint_root",
        root / "checkpoints",
        "--limit",
        LIMIT,
    )
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(OF_THE_CALLER)}
    own = {"PYTHON": sys.executable, "REASON4REC_API_KEY": KEY, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash" if script.endswith(".sh") else sys.executable, script, *map(str, (*places, *words))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=kept | own | variables, stdout=pipe, stderr=pipe, text=True)


def ended(process):
    """What a script said and how it ended."""
    try:
        said, complaints = process.communicate(timeout=1800)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, complaints)


def output_of(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a short demo whose experts were trained and asked in process, and are merged."""
    root = tmp_path_factory.mktemp("demo")
    output_of(ended(begin(root, "run_all.sh", "--to", "3/3")))
    for name in STEPS:
        export.export(root / "checkpoints" / "Demo_data" / name, root / "merged" / name, "nf4", torch.float32, "cpu")
    return root


@pytest.fixture(scope="module")
def server(request, demo):
    """A vLLM that serves the expert that a test names, and takes the words that come after it."""
    name, *words = request.param.split()
    words += ["--max-model-len", str(ROOM)]
    vllm = Vllm(Path(ENVIRONMENT), demo / "merged" / name, f"Demo_data-{name}", demo, *words, key=KEY)
    with running(vllm):
        yield vllm


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("REASON4REC_API_KEY", KEY)


serves = pytest.mark.parametrize("server", ["Summarizer", "Reasoner", "Predictor"], indirect=True)
serves_the_summarizer = pytest.mark.parametrize("server", ["Summarizer"], indirect=True)
serves_the_reasoner = pytest.mark.parametrize("server", ["Reasoner"], indirect=True)
serves_the_predictor = pytest.mark.parametrize("server", ["Predictor"], indirect=True)
# vLLM 0.32.0 on a CPU ends where it reads a prompt with a seed in parts: "CPU Generator does not use offset".
draws = pytest.mark.parametrize("server", ["Summarizer --no-enable-chunked-prefill"], indirect=True)
both_apis = pytest.mark.parametrize("api", ["completions", "chat"])


def without_output(demo, artifact, root):
    """A copy of the demo in which a step has not run and no reply is kept; the path of that step's output."""
    root.mkdir(exist_ok=True)
    (root / "checkpoints").symlink_to(demo / "checkpoints")
    shutil.copytree(demo / "data", root / "data", ignore=lambda *_: ["cache"])
    output = root / "data" / "Demo_data" / artifact.path
    output.unlink()
    output.with_name(f"{output.name}.json").unlink()
    return output


def at_server(root, name, server, *words):
    return begin(root, STEPS[name][0], "--base_url", server.address, "--prompts_at_once", AT_ONCE, *words)


def tables(demo, root, name):
    """What a step wrote in process and what it wrote at a server."""
    return [schema.read(where / "data" / "Demo_data", STEPS[name][1]) for where in (demo, root)]


def kept(root):
    """How many replies are kept."""
    path = root / "data" / "Demo_data" / cache.PATH
    if not path.exists():
        return 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60) as connection:
        try:
            return connection.execute("select count(*) from replies").fetchone()[0]
        except sqlite3.OperationalError:  # its table is not there yet
            return 0


def answered(demo, root, output, expert, server, api):
    """The tables of an expert's step in process and at a server."""
    without_output(demo, output, root)
    output_of(ended(at_server(root, expert, server, "--api", api)))
    return tables(demo, root, expert)


@both_apis
@serves_the_summarizer
def test_summaries_of_a_server_are_those_in_process(demo, server, api, tmp_path):
    here, there = answered(demo, tmp_path, SUMMARIES, "Summarizer", server, api)
    assert len(here) >= AT_ONCE
    assert here[SUMMARY].nunique() > 100
    assert there[SUMMARY].tolist() == here[SUMMARY].tolist()


@both_apis
@serves_the_reasoner
def test_reasons_of_a_server_are_those_in_process(demo, server, api, tmp_path):
    here, there = answered(demo, tmp_path, TEST_REASONS, "Reasoner", server, api)
    assert here[REASON].nunique() > LIMIT / 2
    assert there[REASON].tolist() == here[REASON].tolist()


@both_apis
@serves_the_predictor
def test_ratings_of_a_server_are_those_in_process(demo, server, api, tmp_path):
    here, there = answered(demo, tmp_path, TEST_RATINGS, "Predictor", server, api)
    assert np.ptp(here[PREDICTION]) > 1
    np.testing.assert_allclose(there[PREDICTION], here[PREDICTION], atol=0.005)
    np.testing.assert_allclose(there[list(PROBABILITIES)], here[list(PROBABILITIES)], atol=0.005)


@both_apis
@serves
def test_texts_of_every_expert_are_those_in_process(base, demo, server, api, request, tmp_path):
    """Of the Predictor, too, whose head was trained and merged."""
    name = request.node.callspec.params["server"]
    adapter = demo / "checkpoints" / "Demo_data" / name
    rows = schema.read(demo / "data" / "Demo_data", SUMMARIES).head(24)
    asked = [prompts.summarizer("Album", row.title, row.ratings, row.reviews) for row in rows.itertuples()]
    model = connect(server.address, f"Demo_data-{name}", adapter, ROOM, api=api)
    texts = load(base, adapter, "cpu", ROOM).generate(asked, 64)
    assert len(set(texts)) > 12
    assert model.generate(asked, 64) == texts


@pytest.mark.parametrize("server", ["Predictor", "Predictor --no-enable-prefix-caching"], indirect=True)
def test_ratings_are_the_same_with_and_without_a_prefix_cache(base, demo, server, request):
    folder, adapter = demo / "data" / "Demo_data", demo / "checkpoints" / "Demo_data" / "Predictor"
    targets = schema.read(folder, TEST_REASONS).head(24)
    histories = HistoryIndex(schema.read(folder, SUMMARIES), SUMMARY, 6).of_rows(targets)
    # As the reward filter asks: what the prompts of a target have in common is most of them.
    asked = [
        prompts.predictor("Album", row.title, history, reason)
        for row, history in zip(targets.itertuples(), histories)
        for reason in (None, row.reasoner_reply, "The user dislikes the mood.")
    ]
    here = load(base, adapter, "cpu", ROOM).choice_probabilities(asked, RATINGS, RATING_PREFIX)
    model = connect(server.address, "Demo_data-Predictor", adapter, ROOM)
    before = server.count(TOKENS_FOUND)
    once, again = (model.choice_probabilities(asked, RATINGS, RATING_PREFIX) for _ in range(2))
    found = server.count(TOKENS_FOUND) - before
    length = sum(len(model.tokenizer(prompt.text).input_ids) for prompt in asked)
    assert (found > length) if request.node.callspec.params["server"] == "Predictor" else found == 0
    assert np.ptp(expected_rating(here)) > 1
    for there in (once, again):
        np.testing.assert_allclose(expected_rating(there), expected_rating(here), atol=0.005)


@serves_the_summarizer
def test_a_server_killed_among_500_requests_loses_and_doubles_nothing(demo, server, tmp_path):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    expected, output = (without_output(demo, SUMMARIES, root) for root in (quiet, killed))
    before = server.count(ANSWERED)
    output_of(ended(at_server(quiet, "Summarizer", server)))
    assert server.count(ANSWERED) - before == kept(quiet) >= AT_ONCE

    step = at_server(killed, "Summarizer", server)
    while kept(killed) < 50 and step.poll() is None:
        time.sleep(0.02)
    server.kill()
    time.sleep(5)  # for replies that were on their way
    until_then = kept(killed)
    assert 50 <= until_then < kept(quiet)
    assert not output.exists()
    server.start()
    said = output_of(ended(step))
    assert said.count("waiting 10 minutes for it") == 1
    assert output.read_bytes() == expected.read_bytes()
    assert kept(killed) == kept(quiet)
    assert server.count(ANSWERED) == kept(killed) - until_then

    for path in output.parent.glob(f"{output.name}*"):
        path.unlink()
    output_of(ended(at_server(killed, "Summarizer", server)))
    assert server.count(ANSWERED) == kept(killed) - until_then
    assert output.read_bytes() == expected.read_bytes()


@serves_the_summarizer
def test_a_step_that_is_ended_while_it_waits_goes_on_where_it_was(demo, server, tmp_path):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    expected, output = (without_output(demo, SUMMARIES, root) for root in (quiet, killed))
    output_of(ended(at_server(quiet, "Summarizer", server)))
    step = at_server(killed, "Summarizer", server)
    while kept(killed) < 50 and step.poll() is None:
        time.sleep(0.02)
    server.kill()
    step.kill()
    ended(step)
    until_then = kept(killed)
    server.start()
    output_of(ended(at_server(killed, "Summarizer", server)))
    assert server.count(ANSWERED) == kept(quiet) - until_then
    assert output.read_bytes() == expected.read_bytes()


@draws
def test_drawn_replies_are_those_of_their_seed(demo, server):
    model = connect(server.address, "Demo_data-Summarizer", demo / "checkpoints" / "Demo_data" / "Summarizer", ROOM)
    asked = [Prompt(f"Write about album {k}.") for k in range(16)]
    one, again, other = (model.generate(asked, 24, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@draws
def test_a_teacher_at_vllm_answers_live_as_in_a_batch(demo, server, tmp_path):
    requests, replies = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    at_vllm = {"OPENAI_BASE_URL": server.address, "OPENAI_API_KEY": KEY}
    words = ("1_Summarizer/1_distilling_aspect_preference_summary.py", "--teacher_model", "Demo_data-Summarizer")
    live, batch = (without_output(demo, TEACHER_SUMMARIES, tmp_path / name) for name in ("live", "batch"))
    output_of(ended(begin(tmp_path / "live", *words, **at_vllm)))
    before = server.count(ANSWERED)
    assert ended(begin(tmp_path / "batch", *words, "--batch_export", requests, **at_vllm)).returncode == 3
    server.run_batch(requests, replies)
    said = output_of(ended(begin(tmp_path / "batch", *words, "--batch_import", replies, **at_vllm)))
    assert f"{LIMIT} replies taken" in said
    assert server.count(ANSWERED) == before
    assert batch.read_bytes() == live.read_bytes()


@both_apis
@serves_the_predictor
def test_what_a_server_refuses_is_one_line_that_says_what_to_do(demo, server, api, monkeypatch):
    adapter = demo / "checkpoints" / "Demo_data" / "Predictor"
    model = connect(server.address, "Demo_data-Predictor", adapter, 2 * ROOM, api=api)
    long = [Prompt("The voice and the mood. " * 400)]
    with pytest.raises(InputError, match=f"--max-model-len {2 * ROOM}"):
        model.generate(long, 8)
    with pytest.raises(InputError, match=f"--max-model-len {2 * ROOM}"):
        model.choice_probabilities(long, RATINGS, RATING_PREFIX)
    with pytest.raises(InputError, match="does not serve other, but Demo_data-Predictor"):
        connect(server.address, "other", adapter, ROOM, api=api)
    with pytest.raises(InputError, match="end in /v1"):
        connect(server.root, "Demo_data-Predictor", adapter, ROOM, api=api).generate([Prompt("Hello")], 8)
    monkeypatch.setenv("REASON4REC_API_KEY", "wrong")
    with pytest.raises(InputError, match="refuses the key"):
        connect(server.address, "Demo_data-Predictor", adapter, ROOM, api=api)
