"""Write test rows with their histories, reason, prediction and real review as one HTML page.

    python 3_Predictor/8_case_study.py --dataset Music_data

Reads  rating_for_test_by_predictor.pkl, train_summarizer_generation_results.pkl, and for the best baseline
       raw_data/train.pkl and predictions/*.pkl where they exist
Writes results/case_study.html, which any browser opens without a network
Of more than --rows rows it shows half drawn at random, on which it opens, and half with the largest errors. Each row
has the prediction of the baseline with the lowest MAE on all rows beside ours. Where the predictions have no p1 to p5,
the page leaves out their distribution and its median.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import PREDICTION
from reason4rec.evaluation.metrics import row_errors
from reason4rec.systems.reason4rec import case_study
from reason4rec.systems.reason4rec.artifacts import CASE_STUDY, TEST_RATINGS
from reason4rec.systems.reason4rec.options import CaseStudy


def run(step: utils.ExpertStep) -> None:
    predicted, seed = step.rows(TEST_RATINGS), step.common.seed
    ratings, predictions = (predicted[column].to_numpy(dtype=float) for column in ("ratings", PREDICTION))
    chosen, drawn = case_study.choose(row_errors(ratings, predictions), step[CaseStudy].rows, seed)
    histories = step.histories(predicted.iloc[chosen])
    about = {"dataset": step.common.dataset, "model": step.label}
    beside, known = case_study.best_baseline(step, predicted), case_study.caveats(step)
    page = case_study.page(predicted, chosen, drawn, histories, seed, beside, known, **about)
    step.write(CASE_STUDY, page)
    step.summary(len(predicted), len(chosen), megabytes=round(len(page.encode()) / 1e6, 1))


if __name__ == "__main__":
    utils.start(run, __doc__)
