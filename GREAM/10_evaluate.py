"""Compare all models on the whole catalogue: recall and NDCG with intervals and paired tests.

    python GREAM/10_evaluate.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, checkpoints/DATASET/SASRec, gream/ranked/*.pkl
Writes results/gream_metrics.json
Beside the generators stand chance, popularity, item-kNN and, where it is trained, SASRec. Items of the history are left
out with all models. What several drawn replies hit (pass@k) has a table of its own: it is no rank.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import evaluation, evaluation_runs
from reason4rec.systems.gream.artifacts import METRICS
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    result = evaluation_runs.evaluate(step)
    step.write(step.on(METRICS), result)
    show(step)
    step.summary(result["settings"]["cases"], len(result["ranks"]))


def show(step: GeneratorStep) -> None:
    print(evaluation.as_text(evaluation.read(step.path(step.on(METRICS)))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
