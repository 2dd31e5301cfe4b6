"""Turn rated targets into training rows for the reward model, which learns to rate from a real review.

    python 2_Reasoner/2_construct_reward_train_data.py --dataset Music_data

Reads  review_8000.pkl, train_summarizer_generation_results.pkl
Writes review_train_data.pkl, a list of {"messages": [user, assistant]}
The real review stands where a reason will stand. Paper: preference matching.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec.artifacts import REWARD_ROWS, REWARD_TARGETS
from reason4rec.systems.reason4rec.prompts import predictor, rating_answer


def run(step: utils.ExpertStep) -> None:
    targets = step.rows(REWARD_TARGETS)
    rows = [
        training_row(
            predictor(step.product_class, row.title, history, row.reviews, step.templates), rating_answer(row.ratings)
        )
        for row, history in zip(targets.itertuples(), step.histories(targets))
    ]
    step.write(REWARD_ROWS, rows)
    step.summary(len(targets), len(rows))


if __name__ == "__main__":
    utils.start(run, __doc__)
