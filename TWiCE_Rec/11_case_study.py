"""Show test cases on a page: what each user took, the candidates, and what every recommender says of them.

    python TWiCE_Rec/11_case_study.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, collaborative_scores.pkl, twice_rec/ranked/*.pkl
Writes results/twice_rec_case_study.html
The cases are drawn at random, so that they are a fair sample.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import case_study
from reason4rec.systems.twice_rec.artifacts import CASE_STUDY
from reason4rec.systems.twice_rec.options import CaseStudy
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    page, shown = case_study.page(step, step[CaseStudy].rows)
    step.write(CASE_STUDY, page)
    step.summary(len(step.cases("test")), shown, megabytes=round(len(page.encode()) / 1e6, 2))


if __name__ == "__main__":
    utils.start(run, __doc__)
