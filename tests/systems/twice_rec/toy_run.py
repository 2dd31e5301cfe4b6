"""A run of TWiCE-Rec on a few dozen users of the demo's world, and its scripts run as a user does, in this process."""

import runpy
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from reason4rec.data import preprocess, schema
from reason4rec.demo import world
from reason4rec.run import files
from reason4rec.run.step import parse
from reason4rec.systems.reason4rec.artifacts import DEMO_METADATA
from reason4rec.systems.twice_rec.pipeline import PIPELINE
from reason4rec.systems.twice_rec.step import RecommenderStep


def put_reviews(root: Path, users: int = 60, items: int = 60) -> Path:
    """Puts the splits of a small demo world, and its metadata, under a root; the folder of the dataset."""
    reviews, metadata = world.raw_records(users, items, seed=5)
    folder = root / "data" / "Demo_data"
    files.write_json_lines(root / "reviews.json.gz", reviews)
    files.write_json_lines(folder / DEMO_METADATA.path, metadata)
    splits = preprocess.preprocess(root / "reviews.json.gz", folder / DEMO_METADATA.path, root / "scratch", core=1)
    for artifact, part in ((schema.TRAIN, splits.train), (schema.VALID, splits.valid), (schema.TEST, splits.test)):
        files.write_pickle(folder / artifact.path, part)
    return folder


def places(root: Path) -> list[str]:
    """The flags that say where a run lies."""
    found = {"dataset": "Demo_data", "data_root": root / "data", "checkpoint_root": root / "checkpoints"}
    return [word for name, value in found.items() for word in (f"--{name}", str(value))]


def step_of(name: str, root: Path, *words: object) -> RecommenderStep:
    """A step under a root, with the options given as on a command line."""
    spec = PIPELINE[name]
    return RecommenderStep(PIPELINE, spec, parse(PIPELINE, spec, [*places(root), *map(str, words)]))


def run(name: str, root: Path, *words: object) -> None:
    """Runs the script of a step under a root."""
    script = PIPELINE[name].script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *places(root), *map(str, words)])
        runpy.run_path(str(ROOT / script), run_name="__main__")
