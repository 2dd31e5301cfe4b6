"""Training the collaborative model of a dataset, its card, and what it says of any item."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import SPLITS, Case, cases, numbered
from reason4rec.evaluation import ranking
from reason4rec.llm.base import resolve_device
from reason4rec.run import files
from reason4rec.run.records import write_record
from reason4rec.systems.twice_rec import collaborative
from reason4rec.systems.twice_rec.artifacts import CANDIDATES, ITEMS, SASREC
from reason4rec.systems.twice_rec.options import Collaborative

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.sasrec import Recipe, SasRec
    from reason4rec.systems.twice_rec.step import RecommenderStep

WEIGHTS_OF = ("valid", "test")


def settings(step):
    return {}
