"""Predict the rating of every test row from its histories, averages and reason.

    python 3_Predictor/3_generate_predict_for_test.py --dataset Music_data

Reads  reason_for_test_by_reasoner.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Predictor
Writes rating_for_test_by_predictor.pkl (+ pred, the expected rating over the digits 1 to 5)
Paper: feedback prediction.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec import prompts
from reason4rec.artifacts import PREDICTION, REASON, SUMMARIES, TEST_RATINGS, TEST_REASONS


def run(args: argparse.Namespace) -> None:
    adapter = utils.adapter_path(args, "Predictor")
    step = utils.Step(args, reads=[TEST_REASONS, SUMMARIES, adapter], writes=[TEST_RATINGS])
    if step.done():
        return
    targets = step.targets(TEST_REASONS)
    histories = utils.histories_of(step, targets)
    model = utils.load_expert(step, "Predictor")
    asked = [
        prompts.predictor(step.dataset.product_class, title, history, reason, args.prompts)
        for title, reason, history in zip(targets["title"], targets[REASON], histories)
    ]
    targets[PREDICTION] = utils.logits_weighted_predict(model, asked)
    step.write(TEST_RATINGS, targets)
    step.card(len(targets), len(targets), prompts_shortened=model.shortened)


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags, utils.model_flags)
