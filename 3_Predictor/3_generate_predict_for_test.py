"""Predict the rating of every test row from its histories, averages and reason.

    python 3_Predictor/3_generate_predict_for_test.py --dataset Music_data

Reads  reason_for_test_by_reasoner.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Predictor
Writes rating_for_test_by_predictor.pkl (+ p1 to p5, the probabilities of the digits, and pred, their expectation)
Paper: feedback prediction. The other forms of --form are ablations: they read raw_data/test.pkl and no reason, and
what they write themselves stands in the place of the reason.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TEST
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.prompt import OnDemand
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import REASON, SUMMARIES, TEST_RATINGS, TEST_REASONS


def run(args: argparse.Namespace) -> None:
    reasoned = args.form == "reasoned"
    rows, adapter = TEST_REASONS if reasoned else TEST, utils.adapter_path(args, "Predictor")
    step = utils.Step(args, reads=[rows, SUMMARIES, adapter], writes=[TEST_RATINGS], form=args.form)
    if step.done():
        return
    targets = step.targets(rows)
    histories = utils.histories_of(step, targets)
    model = utils.load_expert(step, "Predictor")
    reasons = targets[REASON] if reasoned else [""] * len(targets)
    question = partial(predictor_modes.question, args.form, step.dataset.product_class, folder=args.prompts)
    asked = OnDemand(question, targets["title"], histories, reasons)
    probabilities, written = predictor_modes.predict(args.form, model, asked, args.max_new_tokens)
    targets[REASON] = reasons if reasoned else written
    targets[list(PROBABILITIES)] = probabilities
    targets[PREDICTION] = expected_rating(probabilities)
    step.write(TEST_RATINGS, targets)
    step.card(len(targets), len(targets), prompts_shortened=model.shortened)


if __name__ == "__main__":
    utils.main(
        run,
        __doc__,
        utils.form_flags,
        utils.prompt_flags,
        utils.model_flags,
        utils.server_flags,
        utils.generation_flags,
    )
