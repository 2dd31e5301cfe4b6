"""The files in configs/: each shows a whole run, equal to the defaults, and what is changed in it takes effect."""

import dataclasses

import pytest
import yaml
from helpers import ROOT, complaint, put_toy_dataset, run_script

from reason4rec.run import records
from reason4rec.run.options import names_of
from reason4rec.run.step import Common, parse
from reason4rec.systems.reason4rec import facts, options, train
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.training.options import Training

CONFIGS = sorted((ROOT / "configs" / "reason4rec").glob("*.yaml"))
# Where things lie and what is asked for in one call alone.
NOT_SHOWN = {"data_root", "checkpoint_root", "limit", "overwrite", "config", "batch_export", "batch_import", "variants"}
NOT_SHOWN |= {
    "what",
    "mirror",
    "reviews",
    "metadata",
    "columns",
    "product_class",
    "also",
    "against",
    "prompts",
    "model",
}
NOT_SHOWN |= {
    "tables",
    "summaries",
    "base_url",
    "served_model",
    "api",
    "top_logprobs",
    "scores",
    "bertscore",
    "bertscore_layer",
    "bleurt",
}


def resolved(spec, *words):
    return parse(PIPELINE, spec, [str(word) for word in words])


def test_there_is_a_file_for_each_known_dataset():
    assert {yaml.safe_load(path.read_text())["dataset"] for path in CONFIGS} == set(facts.KNOWN)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_file_shows_every_value_of_its_run_and_all_are_the_defaults(path):
    content = yaml.safe_load(path.read_text())
    for spec in PIPELINE:
        by_file, by_default = resolved(spec, "--config", path), resolved(spec, "--dataset", content["dataset"])
        shown = set(content) | set(content["steps"].get(spec.name, {}))
        for group in spec.options:
            assert names_of([group]) - NOT_SHOWN <= shown, spec.name
            if group is not Training:
                assert by_file[group] == by_default[group], spec.name
        assert dataclasses.replace(by_file[Common], config=None) == by_default[Common]
        if spec.adapter:
            steps = [PIPELINE.step(PIPELINE, spec, found) for found in (by_file, by_default)]
            assert train.settings(steps[0]) == train.settings(steps[1])


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("dataset: Demo_data\ntau: 0.3\nmin_history: 7\nsteps:\n  2/4: {draws: 4}\n")
    found = resolved(PIPELINE["2/4"], "--config", path, "--tau", "0.5")
    assert (found[options.RewardFilter].tau, found[options.RewardFilter].draws) == (0.5, 4)
    assert found[options.RewardFilter].baseline == "direct"
    assert (found.origins["tau"], found.origins["draws"]) == ("command line", str(path))
    assert found.origins["baseline"] == "default"
    assert found.origins["history_length"] == "dataset"


def test_a_record_says_which_value_came_from_where(tmp_path):
    put_toy_dataset(tmp_path, summaries=True)
    path = tmp_path / "run.yaml"
    path.write_text(f"dataset: Demo_data\ndata_root: {tmp_path / 'data'}\nmin_history: 7\n")
    done = run_script("2_Reasoner/1_sample_train_data.py", "--config", path, "--seed", 3)
    assert done.returncode == 0, done.stderr
    record = records.read_record(tmp_path / "data" / "Demo_data" / REASON_TARGETS.path)
    assert record["made_from"]["settings"] | {"min_history": 7, "seed": 3} == record["made_from"]["settings"]
    assert record["made_from"]["origins"] == {
        "seed": "command line",
        "min_history": str(path),
        "reward_targets": "dataset",
        "reason_targets": "dataset",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("taau: 0.1", "unknown option 'taau', did you mean tau?"),
        ("steps: {2/9: {tau: 0.1}}", "no step '2/9'"),
        ("steps: {2/4: {draw: 3}}", "step 2/4: unknown option 'draw', did you mean draws?"),
        ("tau: high", "tau: 'high' is refused"),
        ("- tau", "expected options by name"),
        ("tau: [", "not YAML"),
        ("api: {}", "api: {} is refused"),
        ("requests_at_once: 0", "requests_at_once: 0 is not at least 1"),
        ("history_length: -1", "history_length: -1 is refused"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(tmp_path, text, fault):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    script = "2_Reasoner/4_distilling_possible_reason.py"
    message = complaint(run_script(script, "--dataset", "Demo_data", "--data_root", tmp_path, "--config", path))
    assert str(path) in message and fault in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    message = complaint(run_script("2_Reasoner/1_sample_train_data.py", "--config", tmp_path / "none.yaml"))
    assert str(tmp_path / "none.yaml") in message
