"""Show test cases on a page: what each user took, what every model lists, and what the generators think.

    python GREAM/11_case_study.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, checkpoints/DATASET/SASRec, gream/ranked/*.pkl
Writes results/gream_case_study.html
The cases are drawn at random, so that they are a fair sample.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import case_study
from reason4rec.systems.gream.artifacts import CASE_STUDY
from reason4rec.systems.gream.step import GeneratorStep
from reason4rec.systems.twice_rec.options import CaseStudy


def run(step: GeneratorStep) -> None:
    page, shown = case_study.page(step, step[CaseStudy].rows)
    step.write(CASE_STUDY, page)
    step.summary(len(step.cases("test")), shown, megabytes=round(len(page.encode()) / 1e6, 2))


if __name__ == "__main__":
    utils.start(run, __doc__)
