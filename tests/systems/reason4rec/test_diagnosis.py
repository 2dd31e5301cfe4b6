"""The diagnosis of a run: planted faults and planted skill are found, and the file is that of the models' answers."""

import json
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import served
from helpers import ROOT, complaint, put_toy_dataset, run_script, step_of

from reason4rec.data import schema
from reason4rec.data.history import Entry, History, HistoryIndex
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TEST, VALID
from reason4rec.demo import rules
from reason4rec.errors import InputError
from reason4rec.evaluation import metrics, ratings
from reason4rec.llm.local import load
from reason4rec.run import files, records
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec import diagnosis, prompts
from reason4rec.systems.reason4rec.artifacts import DIAGNOSIS, REASON, SUMMARIES, SUMMARY, TEST_RATINGS, VALID_RATINGS
from reason4rec.systems.reason4rec.reason_checks import other_rows

SCRIPT = "3_Predictor/9_diagnosis.py"
WARM = History((Entry("Old", 4.0, ""),) * 3, (Entry("Old", 4.0, ""),) * 3, 4.0, 4.0, 3, 3)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_no_row_gets_its_own_text_and_each_text_is_read_once(n):
    other = other_rows(n, 7)
    assert sorted(other) == list(range(n)) and (other != np.arange(n)).all()
    assert other.tolist() == other_rows(n, 7).tolist()


# What it finds


class Reads:
    """A model that rates by a word of the text that it reads, if it can read; else always alike."""

    def __init__(self, can_read=True):
        self.can_read, self.asked = can_read, []

    def choice_probabilities(self, asked, choices, prefix, reply_prefixes=None, what="", prefix_cache=None):
        self.asked += [prompt.text for prompt in asked]
        words = [prompt.text.rpartition("word ")[2][:1] if self.can_read else "" for prompt in asked]
        flat = np.array([0.1, 0.1, 0.1, 0.3, 0.4])
        return np.array([np.eye(5)[int(word) - 1] if word in set("12345") else flat for word in words])


@pytest.fixture
def step(tmp_path):
    put_toy_dataset(tmp_path, summaries=True)
    return step_of("3/9", tmp_path)


def of_readings(step, model):
    targets = schema.read(step.folder, TEST).reset_index(drop=True)
    own = [f"word {round(rating)}" for rating in targets["ratings"]]
    other = [own[k] for k in other_rows(len(own), 1)]
    texts = {"its own": own, "another row's": other, "none": [""] * len(own)}
    histories = step.histories(targets)
    runs = diagnosis.rated(step, model, targets, histories, texts)
    return targets, runs, diagnosis.compared(step, runs, targets, ratings.groups_of(histories))


def test_a_model_that_reads_is_told_from_one_that_does_not(step):
    found = {}
    for can_read in (True, False):
        targets, runs, result = of_readings(step, Reads(can_read))
        found[can_read] = {(row["model"], row["against"]): row for row in result["paired"] if row["rows"] == "all"}
    assert runs["its own"][0][PREDICTION].round(9).nunique() == 1
    for name in ("another row's", "none", "global median", "prompt averages"):
        row = found[True][name, "its own"]
        assert row["mae_difference"] > 0.3 and row["p_corrected"] < 0.01 and row["n"] == len(targets)
    for name in ("another row's", "none"):
        row = found[False][name, "its own"]
        assert row["mae_difference"] == 0 and row["p_corrected"] == 1


def test_each_text_is_read_in_its_place_with_the_rows_own_histories(step):
    model = Reads()
    targets, runs, _ = of_readings(step, model)
    assert len(model.asked) == 3 * len(targets)
    histories = HistoryIndex(schema.read(step.folder, SUMMARIES), SUMMARY, 6).of_rows(targets)
    k = 4
    own = f"word {round(targets['ratings'][k])}"
    assert model.asked[3 * k] == prompts.predictor("Album", targets["title"][k], histories[k], own).text
    assert model.asked[3 * k + 2] == prompts.predictor("Album", targets["title"][k], histories[k], "").text
    expected = np.abs(targets["ratings"] - targets["ratings"].round()).mean()
    assert np.abs(runs["its own"][0][PREDICTION] - targets["ratings"]).mean() == pytest.approx(expected)


def test_both_rules_are_tested_each_against_its_own(step):
    _, _, result = of_readings(step, Reads())
    against = {(row["model"], row["against"]) for row in result["paired"]}
    assert ("none", "its own") in against and ("none (median)", "its own (median)") in against
    assert ("global median", "its own") in against and ("global median", "its own (median)") in against
    table = [(row["model"], row["rows"]) for row in result["table"]]
    assert len(table) == len(set(table))


def reasons(rows):
    return pd.DataFrame(rows, columns=["user_id", REASON, "reviews"]).assign(title="A title")


KNOWN = {("warm", "voic"), ("piano",), ("dull",), ("mix",)}


def test_reasons_that_foresee_their_review_are_told_from_those_that_fit_any():
    names = ("warm voice", "piano", "dull", "mix")
    rows = [(f"u{k}", f"They like a {names[k % 4]}.", f"What a {names[k % 4]}!") for k in range(80)]
    first = diagnosis.foreseen(reasons(rows), [WARM] * 80, KNOWN, 3)[0]
    assert (first["score"], first["rows"], first["n"], first["value"]) == ("names an aspect", "all", 80, 1.0)
    assert 0.1 < first["of_against"] < 0.45 and first["p"] < 0.01 and first["low"] > 0.5
    same = [(user, "They like a piano.", review) for user, _, review in rows]
    first = diagnosis.foreseen(reasons(same), [WARM] * 80, KNOWN, 3)[0]
    assert first["value"] == first["of_against"] == 0.25 and first["difference"] == 0 and first["p"] == 1


def test_rows_whose_review_names_nothing_do_not_count_and_a_title_foresees_nothing():
    rows = [("u1", "A title suits them.", "A title!"), ("u2", "A warm voice, and dull.", "dull"), ("u3", "Mix.", "x")]
    found = diagnosis.foreseen(reasons(rows), [WARM] * 3, KNOWN | {("titl",)}, 1)
    assert {(row["score"], row["n"], row["value"]) for row in found if row["rows"] == "all"} >= {
        ("names an aspect", 2, 0.5)
    }


# As a user runs it


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A root with predicted ratings of both splits, and the experts that the diagnosis asks."""
    root = tmp_path_factory.mktemp("diagnosis")
    folder = put_toy_dataset(root, summaries=True)
    for split, artifact in ((TEST, TEST_RATINGS), (VALID, VALID_RATINGS)):
        frame = schema.read(folder, split).head(8)
        frame[list(PROBABILITIES)] = np.full((8, 5), 0.2)
        frame[REASON] = [f"The user likes {rules.summarize(review)}" for review in frame["reviews"]]
        files.write_pickle(folder / artifact.path, frame.assign(**{PREDICTION: 3.0}))
    targets = schema.read(folder, SUMMARIES).head(10)
    files.write_pickle(folder / a.REASON_TARGETS.path, targets)
    accepted = targets.head(6).assign(
        **{a.TEACHER_REASON: "They will.", "reward_score": 0.0, "accepted_draw": [0] * 4 + [1, 2]}
    )
    files.write_pickle(folder / a.TEACHER_REASONS.path, accepted)
    for name in ("Predictor", "reason_reward_model"):
        served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, True, size=0.02)
    return root


def run(root, *flags):
    """Runs the script in this process, as its command line would; what it wrote."""
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [SCRIPT, *map(str, (*roots, "--device", "cpu", *flags))])
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
    return json.loads((root / "data" / "Demo_data" / DIAGNOSIS.path).read_text())


def test_the_file_holds_what_the_experts_answer_on_both_splits(base, finished, capsys):
    result, folder = run(finished), finished / "data" / "Demo_data"
    assert list(result["splits"]) == ["valid", "test"]
    assert result["reward_filter"] == {"targets": 10, "accepted": 6, "unhinted": 4}
    targets = schema.read(folder, TEST_RATINGS)
    histories = HistoryIndex(schema.read(folder, SUMMARIES), SUMMARY, 6).of_rows(targets)
    model = load(base, finished / "checkpoints" / "Demo_data" / "reason_reward_model", "cpu", 1024)
    for name, texts in (("its own review", targets["reviews"]), ("no review", [None] * 8)):
        asked = [prompts.predictor("Album", *one) for one in zip(targets["title"], histories, texts)]
        expected = metrics.expected_rating(model.choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX))
        table = result["splits"]["test"]["reward_model"]["table"]
        (row,) = [row for row in table if (row["model"], row["rows"]) == (name, "all")]
        assert row["mae"] == pytest.approx(np.abs(expected - targets["ratings"]).mean(), abs=1e-5)
    shown = capsys.readouterr().out
    lines = diagnosis.cells(diagnosis.verdicts(result))
    assert all(line[1] in shown for line in lines)
    assert [line[4] for line in lines[-2:]] == ["0.4000", "0.6000"]
    assert "-" not in [value for line in lines[1:-2] for value in line[4:9]]
    assert {line[0] for line in lines[1:]} == {"reward model", "Reasoner", "Predictor", "reward filter"}
    before = (folder / DIAGNOSIS.path).read_bytes()
    run(finished, "--overwrite")
    assert (folder / DIAGNOSIS.path).read_bytes() == before  # from kept replies


def test_a_difference_in_the_table_is_that_of_the_two_errors_beside_it(finished):
    rows = [row for row in diagnosis.verdicts(run(finished)) if row["step"] == "Predictor"]
    assert rows
    for row in rows:
        assert row["difference"] == pytest.approx(row["value"] - row["of_against"])
        assert row["low"] - 1e-9 <= row["difference"] <= row["high"] + 1e-9


def test_without_a_reward_model_and_validation_rows_the_rest_is_told(base, tmp_path, finished, capsys):
    folder = put_toy_dataset(tmp_path, summaries=True)
    files.write_pickle(folder / TEST_RATINGS.path, schema.read(finished / "data" / "Demo_data", TEST_RATINGS))
    served.put_adapter(tmp_path / "checkpoints" / "Demo_data" / "Predictor", base, True)
    result = run(tmp_path)
    assert list(result["splits"]) == ["test"] and set(result["splits"]["test"]) == {"aspects", "predictor"}
    assert result["reward_filter"] == {}
    assert "left out: the reward model" in capsys.readouterr().out
    assert {row["step"] for row in diagnosis.verdicts(result)} == {"Reasoner", "Predictor"}


def test_what_cannot_be_diagnosed_is_named_in_one_line(tmp_path, finished):
    step = step_of("3/9", finished, "--served_model", "mine")
    with pytest.raises(InputError, match="--served_model names one expert"):
        diagnosis.rows_of(step)
    with pytest.raises(InputError, match="fewer than two rows"):
        diagnosis.rows_of(step_of("3/9", finished, "--limit", "1"))
    folder = put_toy_dataset(tmp_path, summaries=True)
    frame = schema.read(finished / "data" / "Demo_data", TEST_RATINGS)
    made_from = {"inputs": {}, "settings": {"predictor_mode": "direct"}}
    records.write_recorded(folder / TEST_RATINGS.path, frame, made_from)
    with pytest.raises(InputError, match="--predictor_mode direct, which reads no reason"):
        diagnosis.rows_of(step_of("3/9", tmp_path))
    (folder / TEST_RATINGS.path).unlink()
    message = complaint(
        run_script(
            SCRIPT,
            "--dataset",
            "Demo_data",
            "--data_root",
            folder.parent,
            "--checkpoint_root",
            finished / "checkpoints",
        )
    )
    assert f"{TEST_RATINGS.path} is missing: 3_Predictor/3_generate_predict_for_test.py writes it" in message
