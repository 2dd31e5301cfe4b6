"""Turn the teacher's summaries into training rows for the Summarizer.

    python 1_Summarizer/2_construct_summarizer_train_data.py --dataset Music_data

Reads  train_aspect_preference_summary.pkl
Writes Summarizer_train_instruct.pkl, a list of {"messages": [user, assistant]}
A summary that lacks one of its three parts teaches the wrong form and is left out. Paper: preference distillation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec.artifacts import SUMMARIZER_ROWS, TEACHER_SUMMARIES, TEACHER_SUMMARY
from reason4rec.systems.reason4rec.options import SummarizerRows
from reason4rec.systems.reason4rec.prompts import is_summary


def run(step: utils.ExpertStep) -> None:
    reviews, size = step.rows(TEACHER_SUMMARIES), step[SummarizerRows].summarizer_rows
    if size is not None and size < len(reviews):
        reviews = reviews.sample(n=size, random_state=step.common.seed)
    rows = [
        training_row(prompt, summary)
        for prompt, summary in zip(step.summary_prompts(reviews), reviews[TEACHER_SUMMARY])
        if is_summary(summary)
    ]
    step.write(SUMMARIZER_ROWS, rows)
    step.summary(len(reviews), len(rows), without_three_parts=len(reviews) - len(rows))


if __name__ == "__main__":
    utils.start(run, __doc__)
