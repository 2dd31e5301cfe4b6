"""Check the rationales: do they name the history, stand on what is shown, and keep from hindsight?

    python TWiCE_Rec/10_rationale_quality.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, twice_rec/ranked/*_test_replies.pkl, twice_rec/rationales.pkl
Writes results/twice_rec_rationales.json
The teacher's rationales for training cases are checked beside those of each recommender. With --judge the teacher
grades those of the recommenders from 0 to 3. Paper: its scale; the checks are ours.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import rationale_quality
from reason4rec.systems.twice_rec.artifacts import QUALITY
from reason4rec.systems.twice_rec.options import Quality
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    written = rationale_quality.written(step)
    grades = rationale_quality.graded(step, written) if step[Quality].judge else {}
    result = rationale_quality.means(step, written, grades)
    step.write(QUALITY, result)
    show(step)
    step.summary(sum(len(of) for of in written.values()), len(result["writers"]))


def show(step: RecommenderStep) -> None:
    print(rationale_quality.as_text(rationale_quality.read(step.path(QUALITY))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
