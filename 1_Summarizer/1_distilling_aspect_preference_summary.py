"""Ask the teacher for the aspects and preference elements in training reviews.

    python 1_Summarizer/1_distilling_aspect_preference_summary.py --dataset Music_data

Reads  raw_data/train.pkl
Writes train_aspect_preference_summary.pkl (+ review_summary)
Needs OPENAI_API_KEY, and OPENAI_BASE_URL for a server other than OpenAI's. Paper: preference distillation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TRAIN
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARIES, TEACHER_SUMMARY
from reason4rec.systems.reason4rec.options import SummaryTargets
from reason4rec.systems.reason4rec.prompts import as_summary, is_summary

TEMPERATURE = 0.2  # released code


def run(step: utils.ExpertStep) -> None:
    reviews, size = step.rows(TRAIN), step[SummaryTargets].summary_targets
    if size is not None and size < len(reviews):
        reviews = reviews.sample(n=size, random_state=step.common.seed).sort_index().reset_index(drop=True)
    teacher, prompts = step.teacher(), step.summary_prompts(reviews)
    replies = utils.chat_with_gpt(teacher, prompts, TEMPERATURE, is_usable=lambda text: is_summary(as_summary(text)))
    reviews[TEACHER_SUMMARY] = [reply and as_summary(reply) for reply in replies]
    utils.print_refused(reviews, prompts, reviews[TEACHER_SUMMARY], teacher)
    summarised = reviews[reviews[TEACHER_SUMMARY].notna()].reset_index(drop=True)
    step.write(TEACHER_SUMMARIES, summarised)
    three_parts = int(summarised[TEACHER_SUMMARY].map(is_summary).sum())
    step.summary(len(reviews), len(summarised), with_three_parts=three_parts, **teacher.usage())


if __name__ == "__main__":
    utils.start(run, __doc__)
