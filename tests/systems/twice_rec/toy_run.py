"""A run of TWiCE-Rec on a few dozen users of the demo's world, and its scripts run as a user does, in this process."""

import runpy
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from reason4rec.demo import world
from reason4rec.run import files
from reason4rec.run.pipeline import Pipeline
from reason4rec.run.step import parse
from reason4rec.systems.twice_rec.artifacts import DEMO_ITEMS, DEMO_SEQUENCES
from reason4rec.systems.twice_rec.pipeline import PIPELINE
from reason4rec.systems.twice_rec.step import RecommenderStep

DATASET = "Demo_sequences"


def put_choices(root: Path, users: int = 30, items: int = 60) -> Path:
    """Puts what users of a small demo world chose, and its items, under a root; the folder of the dataset."""
    folder = root / "data" / DATASET
    for artifact, records in zip((DEMO_SEQUENCES, DEMO_ITEMS), world.chosen_records(users, items, seed=5)):
        files.write_json_lines(folder / artifact.path, records)
    return folder


def places(root: Path) -> list[str]:
    """The flags that say where a run lies."""
    found = {"dataset": DATASET, "data_root": root / "data", "checkpoint_root": root / "checkpoints"}
    return [word for name, value in found.items() for word in (f"--{name}", str(value))]


def step_of(name: str, root: Path, *words: object, pipeline: Pipeline = PIPELINE) -> RecommenderStep:
    """A step under a root, with the options given as on a command line."""
    spec = pipeline[name]
    return pipeline.step(pipeline, spec, parse(pipeline, spec, [*places(root), *map(str, words)]))


def run(name: str, root: Path, *words: object, pipeline: Pipeline = PIPELINE) -> None:
    """Runs the script of a step under a root."""
    script = pipeline[name].script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *places(root), *map(str, words)])
        runpy.run_path(str(ROOT / script), run_name="__main__")
