"""Ask the teacher for the aspects and preference elements in training reviews.

    python 1_Summarizer/1_distilling_aspect_preference_summary.py --dataset Music_data

Reads  raw_data/train.pkl
Writes train_aspect_preference_summary.pkl (+ review_summary)
Needs OPENAI_API_KEY, and OPENAI_BASE_URL for a server other than OpenAI's. Paper: preference distillation.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TRAIN
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARIES, TEACHER_SUMMARY

TEMPERATURE = 0.2  # released code


def run(args: argparse.Namespace) -> None:
    size = utils.dataset_of(args).summary_targets
    step = utils.Step(args, reads=[TRAIN], writes=[TEACHER_SUMMARIES], summary_targets=size)
    if step.done():
        return
    reviews = step.targets(TRAIN)
    if size is not None and size < len(reviews):
        reviews = reviews.sample(n=size, random_state=args.seed).sort_index().reset_index(drop=True)
    teacher = step.teacher()
    asked = utils.summaries_asked(step, reviews)
    reviews[TEACHER_SUMMARY] = utils.chat_with_gpt(teacher, asked, TEMPERATURE)
    utils.tell_refused(reviews, asked, reviews[TEACHER_SUMMARY], teacher)
    summarised = reviews[reviews[TEACHER_SUMMARY].notna()].reset_index(drop=True)
    step.write(TEACHER_SUMMARIES, summarised)
    three_parts = int(summarised[TEACHER_SUMMARY].map(prompts.is_summary).sum())
    step.card(len(reviews), len(summarised), with_three_parts=three_parts, **teacher.card())


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags, utils.teacher_flags, utils.batch_flags)
