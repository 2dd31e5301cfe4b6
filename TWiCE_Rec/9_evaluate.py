"""Compare all models on the same lists: hit rates, NDCG and MRR with intervals and paired tests.

    python TWiCE_Rec/9_evaluate.py --dataset Grocery

Reads  twice_rec/candidates.pkl, collaborative_scores.pkl, twice_rec/ranked/*.pkl
Writes results/twice_rec_metrics.json
Beside the recommenders stand chance, popularity, its contrary and SASRec. What a recommender names itself, greedily or
in several draws (pass@k), and how often that is malformed or not in the list, has a table of its own: it is no rank.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import evaluation
from reason4rec.systems.twice_rec.artifacts import METRICS
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    result = evaluation.evaluate(step)
    step.write(step.on(METRICS), result)
    show(step)
    step.summary(result["settings"]["cases"], len(result["ranks"]))


def show(step: RecommenderStep) -> None:
    print(evaluation.as_text(evaluation.read(step.path(step.on(METRICS)))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
