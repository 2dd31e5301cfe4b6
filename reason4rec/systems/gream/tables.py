"""Reading the files of GREAM: each is checked before it is used."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pandas.api.types import is_integer_dtype

from reason4rec.data import schema, sequences
from reason4rec.errors import InputError
from reason4rec.run.files import Artifact, read_pickle
from reason4rec.systems.gream import semantic_ids
from reason4rec.systems.gream.artifacts import FOLDER, INSTRUCT_ROWS, LIST_COLUMNS, SEMANTIC_IDS
from reason4rec.systems.twice_rec import tables as of_sequences

if TYPE_CHECKING:
    from reason4rec.systems.gream.semantic_ids import SemanticIds

NUMBERS = ("position", "place", "draw")


def read(folder: Path, artifact: Artifact) -> "pd.DataFrame | list[dict] | SemanticIds":
    """The checked content of an artifact in a dataset's folder; InputError names the file, column or row at fault."""
    if artifact == SEMANTIC_IDS:
        return semantic_ids.read(artifact.within(folder))
    if artifact == INSTRUCT_ROWS:
        return schema.read(folder, artifact)
    if not artifact.path.startswith(f"{FOLDER}/"):
        return of_sequences.read(folder, artifact)
    path = artifact.within(folder)
    frame = read_pickle(path, artifact.columns)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{path}: expected a table, found a {type(frame).__name__}")
    schema.check_columns(frame, artifact.columns, str(path))
    for column in artifact.columns:
        if column in NUMBERS and not is_integer_dtype(frame[column]):
            raise InputError(f"{path}: column {column} does not hold whole numbers; make the file again")
    # An item of a list is missing where a model wrote what is none.
    texts = ("user_id",) if artifact.columns == LIST_COLUMNS else set(artifact.columns) - set(NUMBERS)
    sequences.check_texts(frame, sorted(texts), str(path))
    return frame
