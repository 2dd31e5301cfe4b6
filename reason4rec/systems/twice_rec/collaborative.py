"""What the collaborative model says of the candidates of every case, as rewards and tables read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import SPLITS, Case, cases, numbered
from reason4rec.systems.twice_rec import tables

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.sasrec import SasRec


@dataclass(frozen=True)
class Scores:
    """The collaborative logits of the candidates of some cases.

    `logits` is (cases, candidates), `item_means` the mean logit over users of the same candidates, `counts` how often
    each was chosen in the training part.
    """

    logits: np.ndarray
    item_means: np.ndarray
    counts: np.ndarray


def table(
    model: "SasRec", sequences: pd.DataFrame, item_ids: Sequence[str], lists: Mapping[str, Mapping], counts: np.ndarray
) -> pd.DataFrame:
    """A row for each candidate of each case: its logit, the item's mean logit over users, and its count in training.

    `lists` has the candidates by split and user. The means are over the histories of the training cases.
    """
    from reason4rec.systems.twice_rec.sasrec import means_and_share, score

    place = {item: number for number, item in enumerate(item_ids, start=1)}
    whole = numbered(sequences, item_ids)
    means, _ = means_and_share(model, [one[:-3] for one in whole])
    found = []
    for end, split in zip((-3, -2, -1), SPLITS):
        of_split = cases(sequences, split)
        shown = [lists[split][case.user_id] for case in of_split]
        numbers = np.array([[place[item] for item in one] for one in shown])
        logits = score(model, [one[:end] for one in whole], numbers)
        found.append(
            pd.DataFrame(
                {
                    "user_id": np.repeat([case.user_id for case in of_split], numbers.shape[1]),
                    "split": split,
                    "item_id": [item for one in shown for item in one],
                    "logit": logits.ravel(),
                    "item_mean": means[numbers.ravel() - 1],
                    "count": counts[numbers.ravel() - 1],
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def of_cases(
    frame: pd.DataFrame, split: str, asked: Sequence[Case], lists: Mapping[str, Sequence[str]], where: str
) -> Scores:
    """The scores of the candidates of cases, in the order of their lists, from such a table in a file.

    InputError where it is of other lists.
    """
    rows = tables.rows_of(frame[frame["split"] == split], asked, lists, where, "run TWiCE_Rec/3_sasrec.py again")
    shape = len(asked), len(lists[asked[0].user_id])
    columns = rows[["logit", "item_mean", "count"]].to_numpy(dtype=float)
    return Scores(*(columns[:, k].reshape(shape) for k in range(3)))
