"""README's tables are those of the published results, and a number that nobody measured is not in them."""

import json
import re

import pytest
from helpers import put_toy_dataset, run_script

from reason4rec.errors import InputError
from reason4rec.run import files, records
from reason4rec.run.files import write_text
from reason4rec.systems.reason4rec import report
from reason4rec.systems.reason4rec.artifacts import ABLATIONS, METRICS, SUMMARY_QUALITY
from reason4rec.systems.reason4rec.pipeline import PIPELINE

PAGES = [path.read_text(encoding="utf-8") for path in report.PAGES]


def test_readmes_tables_are_those_of_the_published_results():
    for page in PAGES:
        assert report.with_tables(page) == page, "run python -m reason4rec.systems.reason4rec.report"
    assert report.STEPS.search(PAGES[0])


def test_readme_has_a_table_of_every_published_dataset():
    named = {
        re.sub("_(ablations|diagnosis|summaries|probes|watched)$", "", name)
        for _, name, _ in report.MARKS.findall("".join(PAGES))
    }
    assert named == {"reported", *(path.parent.name for path in report.FOLDER.glob("*/run.json"))}


def test_no_result_is_typed_into_readme():
    """Outside the tables, no number looks like an error of ours."""
    prose = report.MARKS.sub("", "".join(PAGES))
    assert not re.findall(r"\b(?:MAE|RMSE) (?:of )?\d\.\d{3,}", prose)


def test_what_nobody_has_run_says_so_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "reported.json").write_text((report.FOLDER / "reported.json").read_text())
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    for line in report.reported().splitlines()[2:]:
        assert line.endswith("| not run | - | - | - | - | - | - |")


def test_every_reported_number_has_a_source():
    for row in json.loads((report.FOLDER / "reported.json").read_text()):
        assert row["source"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of published results, with a toy dataset evaluated and published as `Music_data`."""
    folder = put_toy_dataset(tmp_path)
    done = run_script("3_Predictor/4_evaluate.py", "--dataset", "Demo_data", "--data_root", folder.parent)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(report, "FOLDER", tmp_path / "results")
    report.publish(folder, tmp_path / "checkpoints", "Music_data", minutes=12.0)
    (tmp_path / "results" / "reported.json").write_text(
        json.dumps([{"model": "Reason4Rec", "dataset": "Music_data", "mae": 0.5, "rmse": None, "source": "a paper"}])
    )
    return tmp_path / "results"


def test_a_published_dataset_has_a_row_for_each_model(published):
    table = report.with_tables("<!-- table Music_data -->\nold\n<!-- /table -->")
    assert "old" not in table
    for model in ("global mean", "user mean", "item mean", "user + item bias (damping 5)"):
        assert len(re.findall(rf"^\| {re.escape(model)} \| \d+ / \d+ \| 0 \| \d\.\d{{4}} \[", table, re.MULTILINE)) == 1


def test_our_own_row_is_set_beside_the_reported_one(published):
    path = published / "Music_data" / "metrics.json"
    result = json.loads(path.read_text())
    ours = next(row for row in result["table"] if row["model"] == "global mean" and row["rows"] == "warm")
    result["table"].append(ours | {"model": "Reason4Rec", "mae": 0.4, "mae_low": 0.3, "mae_high": 0.5})
    path.write_text(json.dumps(result))
    line = report.reported().splitlines()[2]
    assert "| 0.5000 | not known | a paper | 0.4000 [0.3000, 0.5000] |" in line
    assert "| -0.1000 | 1 |" in line and "| 12.0 |" in line


def test_a_table_of_the_demo_model_is_never_ours_on_a_real_dataset(published):
    assert "not run" in report.reported()


def test_a_dataset_without_results_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    with pytest.raises(InputError, match="metrics.json"):
        report.with_tables("<!-- table None_data -->\n<!-- /table -->")
    with pytest.raises(InputError, match=PIPELINE.producer(METRICS).script):
        report.publish(tmp_path, tmp_path / "checkpoints", "None_data", None)


def test_scored_summaries_are_published_without_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path / "results")
    row = {"texts": "Summarizer", "score": "rouge_1", "against": "review", "n": 9, "value": 0.25}
    row |= {"low": 0.2, "high": 0.3, "chance": 0.1, "chance_low": 0.05, "chance_high": 0.15}
    formed = {"texts": "Summarizer", "score": "three_parts", "against": "", "n": 9, "value": 1.0}
    path = tmp_path / "data" / SUMMARY_QUALITY.path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"table": [row, formed | {"low": 1.0, "high": 1.0}], "settings": {}}))
    report.publish(tmp_path / "data", tmp_path / "checkpoints", "Texts", None)
    lines = report.table("Texts_summaries").splitlines()
    assert lines[2] == "| Summarizer | rouge 1 | review | 9 | 0.250 [0.200, 0.300] | 0.100 [0.050, 0.150] |"
    assert lines[3].endswith("| - | 9 | 1.000 [1.000, 1.000] | - |")


def test_an_interval_that_rows_of_one_user_lack_ended_the_tables_in_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    error = {f"{name}{part}": value for name in ("mae", "rmse") for part, value in (("", 0.5), ("_std", None))}
    error |= {f"{name}_{end}": None for name in ("mae", "rmse") for end in ("low", "high")}
    paired = {"mae_difference": 0.25, "low": None, "high": None, "p_corrected": 1.0}
    scored = {"texts": "ours", "score": "rouge_1", "against": "review", "n": 2, "value": 0.25, "chance": 0.1}
    scored |= dict.fromkeys(("low", "high", "chance_low", "chance_high"))
    for artifact, content in (
        (ABLATIONS, [{"variant": "one_step", "changes": "one", "all": error, "paired": paired}]),
        (SUMMARY_QUALITY, {"table": [scored]}),
    ):
        write_text(tmp_path / "One" / artifact.path.split("/")[1], json.dumps(content))
    assert report.table("One_ablations").splitlines()[2] == (
        "| one_step | one | - | 0.5000 | 0.5000 | +0.2500 | 1.0000 |"
    )
    assert report.table("One_summaries").splitlines()[2] == "| ours | rouge 1 | review | 2 | 0.250 | 0.100 |"


def test_publishing_copies_the_results_with_date_commit_and_versions(published):
    about = json.loads((published / "Music_data" / "run.json").read_text())
    assert set(about) == {"date", "commit", "gpu", "minutes", "versions", "sha256", "settings"}
    assert about["versions"] == records.versions()


def test_what_a_training_by_a_reward_showed_is_published(published, tmp_path):
    path = tmp_path / "checkpoints" / "Reasoner_rl"
    watched = {"watched/reward": 0.25, "watched/gain": 0.3, "watched/stated": 0.05}
    curve = [{"step": 0} | watched, {"step": 1, "reward": 0.1, "kl": 0.0, "groups/equal": 0.5, "grad_norm": 1.0}]
    write_text(path / "loss_curve.json", json.dumps(curve))
    probes = [{"policy": "empty", "n": 64, "reward": -1.0, "gain": 0.0, "stated": 0.0}]
    made_from = {"inputs": {}, "settings": {"seed": 42}, "probes": probes, "execution": {"draw_at": "http://a"}}
    records.write_record(path, made_from, files.sha256(path))
    folder = next((tmp_path / "data").iterdir())
    report.publish(folder, tmp_path / "checkpoints", "Trained", None)
    found = json.loads((report.FOLDER / "Trained" / "reasoner_rl.json").read_text())
    assert found["settings"] == {"seed": 42} and "execution" not in found
    assert found["drawn"] == [{"step": 1, "reward": 0.1, "groups_equal": 0.5, "kl": 0.0}]
    assert report.table("Trained_probes").splitlines()[2] == "| empty | 64 | -1.000 | 0.000 | 0.000 |"
    assert report.table("Trained_watched").splitlines()[2] == "| 0 | 0.250 | 0.300 | 0.050 |"
