"""Let every trained recommender write on each case, and rank the candidates after what it wrote.

    python TWiCE_Rec/8_rank_candidates.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, checkpoints/DATASET/Recommender and those that a reward made
Writes twice_rec/ranked/MODEL_test.pkl (the log-probability of each candidate), MODEL_test_replies.pkl
A candidate's rank is that of its log-probability as the answer after the greedy rationale, so that it is the same each
time. With --draws N as many replies are drawn too, for pass@k. With --split valid the same on the validation cases.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import ranking_runs, recommending
from reason4rec.systems.twice_rec.options import Models, Split
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    split, options = step[Split].split, step[Models]
    step.check_prompts()
    cases, lists = step.judged_cases(split), step.candidates(split)
    for model in ranking_runs.models(step):
        part = ranking_runs.part_of(step, model, split)
        if part.done():
            continue
        recommender = part.language_model(model.adapter)
        tables = recommending.ranked(part, recommender, cases, lists, model.task, options)
        for path, table in zip(part.outputs, tables):
            part.write(path, table)
        part.summary(len(cases), len(cases), model=model.name, prompts_shortened=recommender.shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
