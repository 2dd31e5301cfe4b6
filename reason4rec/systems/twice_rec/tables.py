"""Reading the tables of TWiCE-Rec: each is checked before it is used."""

from pathlib import Path

import pandas as pd

from reason4rec.data import candidates, schema, sequences
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.run.files import Artifact, read_pickle
from reason4rec.systems.twice_rec.artifacts import INSTRUCT_ROWS, ITEMS, SEQUENCES


def read(folder: Path, artifact: Artifact) -> object:
    """The checked content of an artifact in a dataset's folder; InputError names the file, column or row at fault."""
    if artifact in (TRAIN, VALID, TEST, INSTRUCT_ROWS):
        return schema.read(folder, artifact)
    path = artifact.within(folder)
    frame = read_pickle(path, artifact.columns)
    where = str(path)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{where}: expected a table, found a {type(frame).__name__}")
    if artifact == ITEMS:
        sequences.check_items(frame, where)
    elif artifact == SEQUENCES:
        sequences.check_sequences(frame, where)
    else:
        schema.check_columns(frame, artifact.columns, where)
    return frame


def check(frame: pd.DataFrame, of: pd.DataFrame, where: str) -> None:
    """InputError where lists of candidates do not fit the sequences that they are for."""
    candidates.check_candidates(frame, of, where)
