"""Predict the rating of every test row from its histories, averages and reason.

    python 3_Predictor/3_generate_predict_for_test.py --dataset Music_data

Reads  reason_for_test_by_reasoner.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Predictor
Writes rating_for_test_by_predictor.pkl (+ p1 to p5, the probabilities of the digits, and pred, their expectation)
With --split valid it reads reason_for_valid_by_reasoner.pkl and writes rating_for_valid_by_predictor.pkl.
Paper: feedback prediction. The other modes of --predictor_mode are ablations: they read raw_data/test.pkl and no
reason, and what they write themselves stands in the place of the reason.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import PREDICTION, PROBABILITIES, TEST
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.options import Writing
from reason4rec.llm.prompt import OnDemand
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import REASON, TEST_RATINGS, TEST_REASONS
from reason4rec.systems.reason4rec.options import Mode


def run(step: utils.ExpertStep) -> None:
    mode = step[Mode].predictor_mode
    targets = step.rows(step.on(TEST_REASONS if mode == "reasoned" else TEST))
    histories = step.histories(targets)
    predictor = step.language_model("Predictor")
    reasons = targets[REASON] if mode == "reasoned" else [""] * len(targets)
    question = partial(predictor_modes.question, mode, step.product_class, folder=step.templates)
    prompts = OnDemand(question, targets["title"], histories, reasons)
    probabilities, written = predictor_modes.predict(mode, predictor, prompts, step[Writing].max_new_tokens)
    targets[REASON] = reasons if mode == "reasoned" else written
    targets[list(PROBABILITIES)] = probabilities
    targets[PREDICTION] = expected_rating(probabilities)
    step.write(step.on(TEST_RATINGS), targets)
    step.summary(len(targets), len(targets), prompts_shortened=predictor.shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
