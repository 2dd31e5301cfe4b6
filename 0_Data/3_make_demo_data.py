"""Write the reviews of the demo's synthetic world, in the raw format of Amazon's dumps.

    python 0_Data/3_make_demo_data.py --dataset Demo_data

Writes raw/reviews_Demo.json.gz and raw/meta_Demo.json.gz in the dataset's folder
The world is made up: what it shows says nothing about real users or the paper's numbers.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.demo import world
from reason4rec.systems.reason4rec.artifacts import DEMO_METADATA, DEMO_REVIEWS


def run(step: utils.ExpertStep) -> None:
    reviews, metadata = world.raw_records(world.USERS, world.ITEMS, step.common.seed)
    reviews = reviews[: step.common.limit]
    step.write(DEMO_REVIEWS, reviews)
    step.write(DEMO_METADATA, metadata)
    step.summary(world.USERS * world.ITEMS, len(reviews), users=world.USERS, items=world.ITEMS)


if __name__ == "__main__":
    utils.start(run, __doc__)
