"""The files in configs/twice_rec: each shows a whole run, equal to the defaults."""

import dataclasses

import pytest
import yaml
from helpers import ROOT

from reason4rec.run import __main__ as run_of_all
from reason4rec.run.options import names_of
from reason4rec.run.step import Common, parse
from reason4rec.systems.twice_rec import facts, train
from reason4rec.systems.twice_rec.pipeline import PIPELINE
from reason4rec.training.options import Training

CONFIGS = sorted((ROOT / "configs" / "twice_rec").glob("*.yaml"))
# Where things lie and what is asked for in one call alone.
NOT_SHOWN = {"data_root", "checkpoint_root", "limit", "overwrite", "config", "sequences", "items", "metadata"}
NOT_SHOWN |= {"prompts", "base_url", "served_model", "api", "top_logprobs", "batch_export", "batch_import"}
NOT_SHOWN |= {"models", "against"}


def resolved(spec, *words):
    return parse(PIPELINE, spec, [str(word) for word in words])


def test_there_is_a_file_for_each_known_dataset():
    assert {yaml.safe_load(path.read_text())["dataset"] for path in CONFIGS} == set(facts.KNOWN)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_command_at_the_head_of_a_file_runs_no_step_that_needs_more_than_the_file_says(path):
    [command] = [line.split() for line in path.read_text().splitlines() if line.startswith("#     bash")]
    given, _ = run_of_all.parse(PIPELINE, [word.replace("configs/", f"{ROOT}/configs/") for word in command[3:]])
    assert ("T/1" in {one.name for one in run_of_all.selected(PIPELINE, given)}) == (path.stem != "grocery")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_file_shows_every_value_of_its_run_and_all_are_the_defaults(path):
    content = yaml.safe_load(path.read_text())
    for spec in [one for one in PIPELINE if one.name.startswith("T/")]:
        by_file, by_default = resolved(spec, "--config", path), resolved(spec, "--dataset", content["dataset"])
        shown = set(content) | set(content["steps"].get(spec.name, {}))
        for group in spec.options:
            assert names_of([group]) - NOT_SHOWN <= shown, spec.name
            if group is not Training:
                assert by_file[group] == by_default[group], spec.name
        assert dataclasses.replace(by_file[Common], config=None) == by_default[Common]
        if spec.adapter:
            steps = [PIPELINE.step(PIPELINE, spec, found) for found in (by_file, by_default)]
            assert train.recipe_of(steps[0]) == train.recipe_of(steps[1])
