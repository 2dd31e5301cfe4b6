"""Which files of predictions there are for the test rows of a dataset."""

import os
from collections.abc import Sequence
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.evaluation.ratings import SIMPLE
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec.artifacts import TEST_RATINGS, predictions_of


def prediction_files(folder: Path, ours: str, also: Sequence[str] = ()) -> dict[str, Artifact]:
    """The files of predictions for a dataset's test rows, by the model's name as shown, `MODEL` or `MODEL@SEED`.

    They are our model's, called `ours`, where there is one; those in `predictions/`; and those of `also`, each
    `NAME=FILE` or `NAME@SEED=FILE`. InputError where a name comes twice.
    """
    found = [(ours, TEST_RATINGS)] if (folder / TEST_RATINGS.path).exists() else []
    names = sorted(path.stem for path in (folder / "predictions").glob("*.pkl"))
    found += [(_shown(name, ours), predictions_of(name)) for name in names]
    for given in also:
        name, is_there, file = given.partition("=")
        if not (name and is_there and file):
            raise InputError(f"--also {given}: expected NAME=FILE or NAME@SEED=FILE")
        # The path from the dataset's folder, because two files of one name must not be taken for one input.
        path = os.path.relpath(file, folder)
        found.append((_shown(name, ours), Artifact(path, predictions_of(name).columns, TEST_RATINGS.written_by)))
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
