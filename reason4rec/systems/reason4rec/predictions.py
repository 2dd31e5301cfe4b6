"""The files of predictions for the test rows of a dataset, and the model that the others are tested against."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.evaluation import ratings
from reason4rec.evaluation.ratings import SIMPLE
from reason4rec.run.files import Artifact, note
from reason4rec.run.staleness import why_old
from reason4rec.systems.reason4rec.artifacts import PREDICTIONS, TEST_RATINGS, predictions_of
from reason4rec.systems.reason4rec.options import Evaluation

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep


def files_of(step: "ExpertStep") -> dict[str, Artifact]:
    """The files of predictions that the evaluation of a dataset reads; those out of date are left out, with a note."""
    of_rows = step.on(TEST_RATINGS), step.on(PREDICTIONS)
    return current(step, prediction_files(step.folder, step.label, step[Evaluation].also, *of_rows))


def current(step: "ExpertStep", found: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Those of some files of predictions that are not out of date; a note says which are, and what to run."""
    kept = {}
    for name, file in found.items():
        if why := why_old(step.pipeline, step.path, file):
            note(step.path(file), f"left out: it {why}")
        else:
            kept[name] = file
    return kept


def reference(step: "ExpertStep") -> str:
    """The model that all others are tested against: the one named, or else ours, or else the biases."""
    ours = step.label
    models = set(map(ratings.model_of, files_of(step)))
    tuned, damped = ratings.FIXED
    return step[Evaluation].against or next((name for name in (ours, tuned) if name in models), damped)


def prediction_files(
    folder: Path,
    ours: str,
    also: Sequence[str] = (),
    our_file: Artifact = TEST_RATINGS,
    others: Artifact = PREDICTIONS,
) -> dict[str, Artifact]:
    """The files of predictions for a dataset's test rows, by the model's name as shown, `MODEL` or `MODEL@SEED`.

    They are our model's, called `ours`, where there is one; those in the folder `predictions/`; and those of `also`,
    each `NAME=FILE` or `NAME@SEED=FILE`. For other rows, `our_file` and the folder `others` are theirs. InputError
    where a name comes twice.
    """
    found = [(ours, our_file)] if (folder / our_file.path).exists() else []
    names = sorted(path.stem for path in (folder / others.path).glob("*.pkl"))
    found += [(_shown(name, ours), predictions_of(name, others)) for name in names]
    for given in also:
        name, equals, file = given.partition("=")
        if not (name and equals and file):
            raise InputError(f"--also {given}: expected NAME=FILE or NAME@SEED=FILE")
        # The path from the dataset's folder, because two files of one name must not be taken for one input.
        path = os.path.relpath(file, folder)
        found.append((_shown(name, ours), Artifact(path, predictions_of(name).columns)))
    files = dict(found)
    twice = [name for name in files if [shown for shown, _ in found].count(name) > 1]
    if twice:
        raise InputError(f"two files of predictions are called {twice[0]}: name one of them otherwise, as NAME@SEED")
    return files


def _shown(name: str, ours: str) -> str:
    """A file's name as a table shows it; our model's short name stands for its full one."""
    model, at, seed = name.partition("@")
    model = SIMPLE.get(model, model.replace("_", " "))
    return f"{ours if model == ours.partition(' (')[0] else model}{at}{seed}"
