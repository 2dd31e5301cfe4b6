"""Draw the targets that the reward model, and those that the Reasoner and the Predictor, learn from.

    python 2_Reasoner/1_sample_train_data.py --dataset Music_data

Reads  train_summarizer_generation_results.pkl
Writes review_8000.pkl, train_12000.pkl (disjoint)
A target needs an earlier review of its user and of its item and --min_history in all. Where there are fewer targets
than the two samples want, all are used, in the same proportion. Paper: preference matching.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.reason4rec import targets
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES


def flags(parser: argparse.ArgumentParser) -> None:
    # The released code meant 5 and, by an overwritten line, took every target with a history: pass 2 for that.
    parser.add_argument("--min_history", type=int, default=5, help="earlier reviews of user and item a target needs")


def run(args: argparse.Namespace) -> None:
    sizes = (utils.dataset_of(args).reward_targets, utils.dataset_of(args).reason_targets)
    outputs = [REWARD_TARGETS, REASON_TARGETS]
    step = utils.Step(args, reads=[SUMMARIES], writes=outputs, sizes=sizes, min_history=args.min_history)
    if step.done():
        return
    reviews = step.read(SUMMARIES).reset_index(drop=True)
    reward, reasons, eligible = targets.draw(reviews, sizes, args.min_history, args.limit, args.seed)
    step.write(REWARD_TARGETS, reward.reset_index(drop=True))
    step.write(REASON_TARGETS, reasons.reset_index(drop=True))
    counts = {"with_history": eligible, "reward": len(reward), "reasons": len(reasons)}
    step.card(len(reviews), len(reward) + len(reasons), **counts)


if __name__ == "__main__":
    utils.main(run, __doc__, flags, seed=targets.SEED)
