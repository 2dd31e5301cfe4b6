"""Train the collaborative model, SASRec, and let it score the candidates of every case.

    python TWiCE_Rec/3_sasrec.py --dataset Grocery

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl, twice_rec/candidates.pkl
Writes checkpoints/DATASET/SASRec (weights, settings, card.json), twice_rec/collaborative_scores.pkl
It learns from each sequence without its last two items and ends where the validation gets no better. Its card says
whether it beats a count of the items, without which no reward may weigh by it, and which share of its logits' variance
the item alone explains. Paper: the collaborative model of stage 3.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import collaborative_runs
from reason4rec.systems.twice_rec.artifacts import SCORES
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    model, card, counts = collaborative_runs.train(step)
    print(collaborative_runs.as_text(card), flush=True)
    scores = collaborative_runs.scores(step, model, counts)
    collaborative_runs.save(step, model, card)
    step.write(SCORES, scores)
    shutil.rmtree(step.scratch[0])
    step.summary(len(step.sequences), len(scores), epochs=card["epochs"], item_share=card["item_share"])


if __name__ == "__main__":
    utils.start(run, __doc__)
