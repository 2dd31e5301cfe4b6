"""Summarise every training review with the Summarizer.

    python 1_Summarizer/4_summarizer_generation.py --dataset Music_data

Reads  raw_data/train.pkl, checkpoints/DATASET/Summarizer
Writes train_summarizer_generation_results.pkl (+ aspect_preference_summary)
With --limit N only the reviews that N test rows and N targets to learn from need. Paper: preference distillation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.llm.options import Writing
from reason4rec.systems.reason4rec import targets
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.options import Histories
from reason4rec.systems.reason4rec.prompts import as_summary, end_of_summary, is_summary


def run(step: utils.ExpertStep) -> None:
    reviews = step.read(TRAIN).reset_index(drop=True)
    if step.common.limit:
        length, seed = step[Histories].history_length, step.common.seed
        needed = targets.of_trial(reviews, step.rows(TEST), length, step.common.limit, seed)
        reviews = reviews.loc[needed].reset_index(drop=True)
    summarizer = step.language_model("Summarizer")
    prompts = step.summary_prompts(reviews)
    replies = utils.chat_with_LLM(summarizer, prompts, step[Writing].max_new_tokens, finish=end_of_summary)
    reviews[SUMMARY] = list(map(as_summary, replies))
    step.write(SUMMARIES, reviews)
    three_parts = int(reviews[SUMMARY].map(is_summary).sum())
    step.summary(len(reviews), len(reviews), with_three_parts=three_parts, prompts_shortened=summarizer.shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
