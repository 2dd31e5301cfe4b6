"""Report the errors of the predicted ratings beside those of means and biases on the same rows.

    python 3_Predictor/4_evaluate.py --dataset Music_data

Reads  rating_for_test_by_predictor.pkl, raw_data/train.pkl, raw_data/test.pkl
Writes results/metrics.json, a list of {"model", "rows": "all" | "warm", "n", "unusable", "mae", "rmse"}
Where only some test rows have a prediction (--limit), means and biases are shown for all test rows too.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec import metrics
from reason4rec.artifacts import METRICS, PREDICTION, TEST, TEST_RATINGS, TRAIN
from reason4rec.history import HistoryIndex


def run(args: argparse.Namespace) -> None:
    label = utils.model_label(args)
    step = utils.Step(args, reads=[TEST_RATINGS, TRAIN, TEST], writes=[METRICS], model=label)
    if step.done():
        print(metrics.as_text(json.loads(step.path(METRICS).read_text(encoding="utf-8"))))
        return
    train, test, predicted = step.read(TRAIN), step.read(TEST), step.targets(TEST_RATINGS)
    index = HistoryIndex(train, None)

    def rows(models, targets, suffix=""):
        warm = [history.warm for history in index.of_rows(targets)]
        named = {f"{name}{suffix}": values for name, values in models.items()}
        return metrics.table(named, targets["ratings"].to_numpy(dtype=float), warm)

    ours = {label: predicted[PREDICTION].to_numpy(dtype=float)}
    table = rows(ours | metrics.baselines(train, predicted), predicted)
    if len(predicted) < len(test):
        table += rows(metrics.baselines(train, test), test, suffix=", all test rows")
    step.write(METRICS, table)
    print(metrics.as_text(table))
    step.card(len(test), len(predicted))


if __name__ == "__main__":
    utils.main(run, __doc__)
