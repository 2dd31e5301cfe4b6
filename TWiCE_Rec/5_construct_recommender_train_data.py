"""Write the instruct rows of three tasks: describe an item, recommend one, and recommend one with a rationale first.

    python TWiCE_Rec/5_construct_recommender_train_data.py --dataset Grocery

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl, twice_rec/candidates.pkl, twice_rec/rationales.pkl
Writes twice_rec/Recommender_train_instruct.pkl
Every item is a row of the first task, every training case one of the second, and every rationale one of the third; they
are mixed at random. Histories end before the training target. Paper: stage 2.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import instruct_rows
from reason4rec.systems.twice_rec.artifacts import INSTRUCT_ROWS
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    by_task = instruct_rows.of_tasks(step)
    rows = instruct_rows.mixed(by_task, step.common.seed)
    step.write(INSTRUCT_ROWS, rows)
    step.summary(len(step.cases("train")), len(rows), **{task: len(of) for task, of in by_task.items()})


if __name__ == "__main__":
    utils.start(run, __doc__)
