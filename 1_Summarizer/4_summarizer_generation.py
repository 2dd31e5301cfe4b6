"""Summarise every training review with the Summarizer.

    python 1_Summarizer/4_summarizer_generation.py --dataset Music_data

Reads  raw_data/train.pkl, checkpoints/DATASET/Summarizer
Writes train_summarizer_generation_results.pkl (+ aspect_preference_summary)
With --limit N only the reviews in the histories of N test rows and of N targets to learn from; the others keep their
ratings for the averages, and are in no history. Paper: preference distillation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.llm.options import Writing
from reason4rec.systems.reason4rec import targets
from reason4rec.systems.reason4rec.artifacts import NOT_SUMMARISED, SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.options import Histories
from reason4rec.systems.reason4rec.prompts import as_summary, end_of_summary, is_summary


def run(step: utils.ExpertStep) -> None:
    reviews = step.read(TRAIN).reset_index(drop=True)
    needed = reviews.index
    if limit := step.common.limit:
        needed = targets.shown_in_trial(reviews, step.rows(TEST), step[Histories].history_length, limit)
    summarizer = step.language_model("Summarizer")
    prompts = step.summary_prompts(reviews.loc[needed])
    replies = utils.chat_with_LLM(summarizer, prompts, step[Writing].max_new_tokens, finish=end_of_summary)
    summaries = list(map(as_summary, replies))
    reviews[SUMMARY] = NOT_SUMMARISED
    reviews.loc[needed, SUMMARY] = summaries
    step.write(SUMMARIES, reviews)
    three_parts = sum(map(is_summary, summaries))
    counts = {"with_three_parts": three_parts, "prompts_shortened": summarizer.shortened}
    step.summary(len(reviews), len(needed), **counts)


if __name__ == "__main__":
    utils.start(run, __doc__)
