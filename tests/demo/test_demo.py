"""The embedded demo as a user starts it: every step in order, and what it must show."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reason4rec.data import catalog, schema
from reason4rec.data.history import HistoryIndex
from reason4rec.demo.world import ASPECTS
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.local import load
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import artifacts, by_options, prompts
from reason4rec.systems.reason4rec import facts as facts_module
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.prompts import is_summary

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run_all(root, *flags):
    command = ["bash", "run_all.sh", "--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    # Other tests keep the other core busy, and two threads of one process would wait for each other.
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OPENAI_API_KEY", None)
    return subprocess.run(
        [*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3600, check=False
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder and the output of a whole demo run."""
    root = tmp_path_factory.mktemp("demo")
    done = run_all(root)
    assert done.returncode == 0, done.stderr[-3000:]
    return root, done.stdout


@pytest.fixture(scope="module")
def results(demo):
    folder = demo[0] / "data" / "Demo_data"
    summaries = schema.read(folder, artifacts.SUMMARIES)
    ratings = schema.read(folder, artifacts.TEST_RATINGS)
    return folder, summaries, ratings


def test_summaries_have_the_three_parts(results):
    _, summaries, _ = results
    assert summaries[artifacts.SUMMARY].map(is_summary).mean() >= 0.95


def test_summaries_name_aspects_of_their_reviews(results):
    _, summaries, _ = results
    named = [
        {word for word in re.findall(r"\w+", row.aspect_preference_summary) if word in ASPECTS}
        <= set(re.findall(r"\w+", row.reviews))
        for row in summaries.itertuples()
    ]
    assert sum(named) / len(named) >= 0.9


def test_reasons_name_an_aspect_of_the_histories_that_they_were_given(results):
    _, summaries, ratings = results
    length = facts_module.KNOWN[catalog.DEMO].history_length
    histories = HistoryIndex(summaries, artifacts.SUMMARY, length).of_rows(ratings)
    named = []
    for reason, history in zip(ratings[artifacts.REASON], histories):
        shown = " ".join(entry.text for entry in (*history.user, *history.item))
        named.append(any(aspect in shown for aspect in ASPECTS if re.search(rf"\b{aspect}\b", reason)))
    assert sum(named) / len(named) >= 0.8


def test_reasons_are_distinct_texts(results):
    _, _, ratings = results
    assert ratings[artifacts.REASON].nunique() / len(ratings) >= 0.9


def test_the_predictor_beats_every_mean_on_warm_rows(results):
    folder, _, _ = results
    rows = json.loads((folder / artifacts.METRICS.path).read_text())["table"]
    warm = {row["model"]: row for row in rows if row["rows"] == "warm"}
    by_both_rules = [warm.pop(f"Reason4Rec (demo model){rule}") for rule in ("", " (median)")]
    assert {"global median", "matrix factorization", "gradient boosting"} <= set(warm)
    for ours in by_both_rules:
        assert {row["n"] for row in warm.values()} == {ours["n"]}
        for name in warm:
            assert ours["mae"] < warm[name]["mae"]


def test_the_prediction_depends_on_the_reason(demo, results):
    """The paper's central claim, in miniature: with another row's reason the ratings are predicted worse."""
    root, _ = demo
    _, summaries, ratings = results
    facts, some = facts_module.KNOWN[catalog.DEMO], ratings.head(128)
    histories = HistoryIndex(summaries, artifacts.SUMMARY, facts.history_length).of_rows(some)
    model = load(facts.base_model, root / "checkpoints" / "Demo_data" / "Predictor", "cpu")

    def mean_error(reasons):
        rows = zip(some["title"], histories, reasons)
        asked = [prompts.predictor(facts.product_class, title, history, reason) for title, history, reason in rows]
        predicted = expected_rating(model.choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX))
        return abs(predicted - some["ratings"]).mean()

    own = list(some[artifacts.REASON])
    assert mean_error(own) < mean_error(own[1:] + own[:1]) - 0.1


def test_a_second_run_skips_every_step(demo):
    root, _ = demo
    again = run_all(root)
    assert again.returncode == 0
    assert len(re.findall("^complete:", again.stdout, re.MULTILINE)) >= 20
    assert not re.findall(r"^(\[\w+\] rows in .*|out of date.*)", again.stdout, re.MULTILINE)


def test_the_demo_says_that_its_teacher_is_a_stand_in_and_prints_the_table(demo):
    _, output = demo
    assert "a stand-in for ChatGPT at http://127.0.0.1" in output
    assert re.search(r"Reason4Rec \(demo model\) +warm", output)


def test_the_notebook_runs_on_the_demo_from_top_to_bottom(demo):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    root, _ = demo
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", 4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    own = 'data_root, checkpoint_root = clone / "0_Data", clone / "checkpoints"'
    assert own in first.source
    first.source = first.source.replace(
        own, f"data_root, checkpoint_root = Path({str(root / 'data')!r}), Path({str(root / 'checkpoints')!r})"
    )
    # The cells hold the assertions: that an answer is the script's, for one.
    client(notebook, timeout=180, resources={"metadata": {"path": str(ROOT / "docs")}}).execute()


def test_a_run_ends_with_a_command_that_asks_its_experts(demo):
    _, output = demo
    command = next(line.partition(" -m ")[2] for line in output.splitlines() if line.startswith("ask: "))
    done = subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Reason" in done.stdout


def test_every_step_ends_with_a_card(demo):
    _, output = demo
    cards = re.findall(
        r"^\[([\w]+)\] rows in [\d,]+ \| rows out [\d,]+ \| [\d.]+ s \| [\d.]+ rows/s \| peak", output, re.M
    )
    # The baselines end with a card each.
    assert len(set(cards)) == len(re.findall("^== [0-3]/", output, re.MULTILINE)) == 20


def test_every_output_has_a_record_of_where_it_came_from(results):
    folder, _, _ = results
    run = [spec for spec in PIPELINE if spec.runs is not by_options.never]  # others are run by hand
    written = [artifact for spec in run for artifact in spec.writes if not artifact.adapter]
    assert len(written) > 20
    for artifact in written:
        # The efforts of several baselines stand in one file.
        if artifact != artifacts.EFFORTS:
            record = records.read_record(folder / artifact.path)
            assert record["sha256"] == files.sha256(folder / artifact.path)
            assert record["made_from"]["settings"]["seed"] in (0, 42)
            assert record["versions"]["transformers"]
