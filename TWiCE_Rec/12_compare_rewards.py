"""See what each reward teaches: train by all of them, with several seeds, from the same recommender.

    python TWiCE_Rec/12_compare_rewards.py --dataset Demo_sequences

Reads  twice_rec/sequences.pkl, items.pkl, candidates.pkl, collaborative_scores.pkl, checkpoints/DATASET/SASRec,
       checkpoints/DATASET/Recommender
Writes results/twice_rec_rewards.json, which figs/draw_sequences.py draws
Each policy ranks the test cases afterwards. The file has, over all seeds, the ranks with paired tests against the
supervised recommender and against the reward of the match alone, how popular the items are that each recommends, and
hits and popularity of the draws by step. A run goes on where it was cut off: each policy and its ranks are kept.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.twice_rec import reward_comparison
from reason4rec.systems.twice_rec.artifacts import COMPARISON
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    reward_comparison.check(step)
    for reward, seed in reward_comparison.runs(step):
        reward_comparison.train_and_rank(step, reward, seed)
    result = reward_comparison.compare(step)
    step.write(COMPARISON, result)
    show(step)
    step.summary(result["settings"]["cases"], len(result["ranks"]))


def show(step: RecommenderStep) -> None:
    print(reward_comparison.as_text(reward_comparison.read(step.path(COMPARISON))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
