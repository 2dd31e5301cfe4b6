"""Write test rows with their histories, reason, prediction and real review as one HTML page.

    python 3_Predictor/8_case_study.py --dataset Music_data

Reads  rating_for_test_by_predictor.pkl, train_summarizer_generation_results.pkl
Writes results/case_study.html, which any browser opens without a network
Of more than --rows rows it shows half drawn at random, and half with the largest errors. Where the predictions have
no p1 to p5, the page leaves out their distribution.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import PREDICTION
from reason4rec.evaluation.metrics import row_errors
from reason4rec.run import files
from reason4rec.systems.reason4rec import case_study
from reason4rec.systems.reason4rec.artifacts import CASE_STUDY, SUMMARIES, TEST_RATINGS
from reason4rec.systems.reason4rec.case_study import TEMPLATE


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=utils.positive, default=500, help="rows on the page, at most")


def run(args: argparse.Namespace) -> None:
    label, length = utils.model_label(args), utils.dataset_of(args).history_length
    reads = [TEST_RATINGS, SUMMARIES, TEMPLATE]
    step = utils.Step(args, reads, writes=[CASE_STUDY], model=label, rows=args.rows, history_length=length)
    if step.done():
        return
    predicted = step.targets(TEST_RATINGS)
    ratings, predictions = (predicted[column].to_numpy(dtype=float) for column in ("ratings", PREDICTION))
    chosen, drawn = case_study.choose(row_errors(ratings, predictions), args.rows, args.seed)
    histories = utils.histories_of(step, predicted.iloc[chosen])
    page = case_study.page(predicted, chosen, drawn, histories, dataset=args.dataset, model=label, seed=args.seed)
    files.write_text(step.path(CASE_STUDY), page, step.made_from)
    step.card(len(predicted), len(chosen), megabytes=round(len(page.encode()) / 1e6, 1))


if __name__ == "__main__":
    utils.main(run, __doc__, flags)
