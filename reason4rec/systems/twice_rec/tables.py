"""Reading the tables of TWiCE-Rec: each is checked before it is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from reason4rec.data import candidates, schema, sequences
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.data.sequences import Case
from reason4rec.errors import InputError
from reason4rec.run.files import Artifact, read_pickle
from reason4rec.systems.twice_rec.artifacts import INSTRUCT_ROWS, ITEMS, SEQUENCES

TEXTS = ("user_id", "split", "item_id", "rationale", "reply")
NUMBERS = ("log_likelihood", "tokens", "logit", "item_mean", "count")


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
        sequences.check_texts(frame, [name for name in artifact.columns if name in TEXTS], where)
        _check_numbers(frame, [name for name in artifact.columns if name in NUMBERS], where)
    return frame


def check_lists(frame: pd.DataFrame, of: pd.DataFrame, where: str) -> None:
    """InputError where lists of candidates do not fit the sequences of a dataset, such as those of another one."""
    try:
        candidates.check_candidates(frame, of, where)
    except InputError as error:
        raise InputError(f"{error}; run TWiCE_Rec/2_candidates.py again") from None


def rows_of(
    frame: pd.DataFrame, asked: Sequence[Case], lists: Mapping[str, Sequence[str]], where: str, advice: str
) -> pd.DataFrame:
    """The row of each candidate of some cases, in the order of their lists, from a table with one for each.

    InputError where it has none, or one of several; `advice` says what to do then.
    """
    rows = frame.set_index(["user_id", "item_id"])
    keys = pd.MultiIndex.from_tuples([(case.user_id, item) for case in asked for item in lists[case.user_id]])
    if absent := next(iter(keys[~keys.isin(rows.index)]), None):
        raise InputError(f"{where}: candidate {absent[1][:40]} of user {absent[0][:40]} is not in it; {advice}")
    if again := next(iter(rows.index[rows.index.duplicated()]), None):
        raise InputError(f"{where}: candidate {again[1][:40]} of user {again[0][:40]} is in it twice; {advice}")
    return rows.loc[keys]


def _check_numbers(frame: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    for column in columns:
        if not is_numeric_dtype(frame[column]):
            raise InputError(f"{where}: column {column} does not hold numbers; make the file again")
        if (wrong := ~np.isfinite(frame[column].to_numpy(dtype=float))).any():
            row = int(wrong.argmax())
            raise InputError(f"{where}: {column} in row {row} is no finite number; make the file again")
