"""Write the sequences of the demo's synthetic world, in the form of ready sequences.

    python TWiCE_Rec/0_make_demo_sequences.py --dataset Demo_sequences

Writes raw/sequences_Demo.jsonl.gz and raw/items_Demo.jsonl.gz in the dataset's folder
Users choose by their taste and by how known an item is. The world is made up: what it shows says nothing about real
users or the paper's numbers.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.demo import world
from reason4rec.systems.twice_rec.artifacts import DEMO_ITEMS, DEMO_SEQUENCES
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    sequences, items = world.chosen_records(world.CHOOSING_USERS, world.ITEMS, step.common.seed)
    step.write(DEMO_SEQUENCES, sequences)
    step.write(DEMO_ITEMS, items)
    step.summary(len(sequences), sum(len(one["items"]) for one in sequences), users=len(sequences), items=len(items))


if __name__ == "__main__":
    utils.start(run, __doc__)
