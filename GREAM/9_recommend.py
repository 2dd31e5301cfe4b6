"""Let every trained generator list ten items for each case, at once and after its thoughts.

    python GREAM/9_recommend.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, checkpoints/DATASET/GREAM_base, Generator and those
       that were trained beside it or further
Writes gream/ranked/MODEL_MODE_test.pkl (the items of each list), MODEL_MODE_test_replies.pkl (the thoughts)
A list comes from a beam search in which only ids of the catalogue can be written, and none of the history. With
--draws N as many whole replies are drawn too, for pass@k. With --split valid the same on the validation cases.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import recommending_runs
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    recommending_runs.recommend(step, recommending_runs.models(step))


if __name__ == "__main__":
    utils.start(run, __doc__)
