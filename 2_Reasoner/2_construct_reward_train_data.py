"""Turn rated targets into training rows for the reward model, which learns to rate from a real review.

    python 2_Reasoner/2_construct_reward_train_data.py --dataset Music_data

Reads  review_8000.pkl, train_summarizer_generation_results.pkl
Writes review_train_data.pkl, a list of {"messages": [user, assistant]}
The real review stands where a reason will stand. Paper: preference matching.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REWARD_ROWS, REWARD_TARGETS, SUMMARIES


def run(args: argparse.Namespace) -> None:
    step = utils.Step(args, reads=[REWARD_TARGETS, SUMMARIES], writes=[REWARD_ROWS])
    if step.done():
        return
    targets = step.targets(REWARD_TARGETS)
    histories = utils.histories_of(step, targets)
    rows = [
        training_row(
            prompts.predictor(step.dataset.product_class, row.title, history, row.reviews, args.prompts),
            prompts.rating_answer(row.ratings),
        )
        for row, history in zip(targets.itertuples(), histories)
    ]
    step.write(REWARD_ROWS, rows)
    step.card(len(targets), len(rows))


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags)
