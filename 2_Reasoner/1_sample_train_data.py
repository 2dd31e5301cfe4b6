"""Draw the targets that the reward model, and those that the Reasoner and the Predictor, learn from.

    python 2_Reasoner/1_sample_train_data.py --dataset Music_data

Reads  train_summarizer_generation_results.pkl
Writes review_8000.pkl, train_12000.pkl (disjoint)
A target needs an earlier review of its user and of its item and --min_history in all. Where there are fewer targets
than the two samples want, all are used, in the same proportion. Paper: preference matching.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils

# isort: split
import pandas as pd

from reason4rec.errors import InputError
from reason4rec.systems.reason4rec import targets
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES
from reason4rec.systems.reason4rec.options import Targets


def run(step: utils.ExpertStep) -> None:
    reviews, options = step.read(SUMMARIES).reset_index(drop=True), step[Targets]
    sizes = (options.reward_targets, options.reason_targets)
    limit, seed = step.common.limit, step.common.seed
    drawn = targets.draw(reviews, sizes, options.min_history, limit, seed, options.sampling)
    reward, reasons, eligible = drawn
    targets.check_summaries(reviews, pd.concat([reward, reasons]), step.path(SUMMARIES))
    if not (len(reward) and len(reasons)):
        raise InputError(
            f"{eligible} of {limit or len(reviews):,} reviews have {options.min_history} earlier ones of their user "
            f"and item, too few for two samples: pass a larger --limit or none, a smaller --min_history (2 is the "
            f"least), or give more reviews"
        )
    step.write(REWARD_TARGETS, reward.reset_index(drop=True))
    step.write(REASON_TARGETS, reasons.reset_index(drop=True))
    counts = {"with_history": eligible, "reward": len(reward), "reasons": len(reasons)}
    step.summary(len(reviews), len(reward) + len(reasons), **counts)


if __name__ == "__main__":
    utils.start(run, __doc__)
