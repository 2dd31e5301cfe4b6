"""Draw the list of candidates of every case, once for all models.

    python TWiCE_Rec/2_candidates.py --dataset Grocery

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl
Writes twice_rec/candidates.pkl
A list holds the target and --n_candidates - 1 other items, none of which is in the user's whole sequence. Those of
train, valid and test are drawn alike, for each user apart: all models are trained and judged on the same lists.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data import candidates
from reason4rec.systems.twice_rec.artifacts import CANDIDATES, ITEMS, SEQUENCES
from reason4rec.systems.twice_rec.options import Candidates
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    sequences, options = step.read(SEQUENCES), step[Candidates]
    items = step.read(ITEMS)["item_id"].tolist()
    lists = candidates.draw(sequences, items, options.n_candidates, options.sampling, step.common.seed)
    candidates.check_candidates(lists, sequences, str(step.path(CANDIDATES)))
    step.write(CANDIDATES, lists)
    step.summary(len(sequences), len(lists), lists=len(lists) // options.n_candidates, sampling=options.sampling)


if __name__ == "__main__":
    utils.start(run, __doc__)
