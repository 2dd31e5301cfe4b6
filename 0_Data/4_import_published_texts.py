"""Import texts that the authors' 8B experts wrote and a third party published, as the teacher's for a dataset.

    python 0_Data/4_import_published_texts.py --dataset Digital_Music_cut --tables texts

Reads  raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, and in the folder --tables log tables of a Reasoner
       (*.table.json, *.table.json.gz), or summaries.jsonl.gz and reasons.jsonl.gz
Writes train_aspect_preference_summary.pkl and Reasoner_train_instruct.pkl, as steps 1/1 and 2/5 do
       published_texts_set_aside.pkl and published_reasons_set_aside.pkl, those of the items that --set_aside keeps back
Texts of reviews in valid and test are left out. Our decision; see docs/data.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils

# isort: split
import pandas as pd

from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import prompts, published, published_files
from reason4rec.systems.reason4rec.artifacts import (
    REASONER_ROWS,
    REASONS_SET_ASIDE,
    SUMMARIES_SET_ASIDE,
    TEACHER_SUMMARIES,
    TEACHER_SUMMARY,
)
from reason4rec.systems.reason4rec.options import Histories, PublishedTexts


def run(step: utils.ExpertStep) -> None:
    share, seed = step[PublishedTexts].set_aside, step.common.seed
    files = published_files.files_in(step[PublishedTexts].tables)
    print(f"{published.ORIGIN}: {files.form} in {step[PublishedTexts].tables}")
    train = step.read(TRAIN)
    held_out = pd.concat([step.read(one) for one in (VALID, TEST) if step.path(one).exists()])
    summaries, logged = published_files.read_ordered(files)
    everything = pd.concat([train, held_out], ignore_index=True)
    reviews_of = published.reviews_by_entry(summaries, everything)
    splits = published.splits_of(train, held_out)

    found, not_in_train = published.rows_of_summaries(summaries, train)
    aside = found["title"].map(lambda title: published.is_set_aside(title, share, seed))
    three_parts = int(found[TEACHER_SUMMARY].map(prompts.is_summary).sum())

    targets, left_out = published.reasoner_targets(logged, reviews_of, splits)
    length, rows = step[Histories].history_length, {False: [], True: []}
    for prompt, reason in targets:
        history = published.as_history(prompt, length)
        asked = prompts.reasoner(step.product_class, prompt.title, history, folder=step.templates)
        rows[published.is_set_aside(prompt.title, share, seed)].append(training_row(asked, reason))

    step.write(TEACHER_SUMMARIES, found[~aside].reset_index(drop=True))
    step.write(REASONER_ROWS, rows[False])
    step.write(SUMMARIES_SET_ASIDE, found[aside].reset_index(drop=True))
    step.write(REASONS_SET_ASIDE, rows[True])
    step.summary(
        len(summaries) + len(logged),
        len(found) + len(targets),
        summaries=int((~aside).sum()),
        with_three_parts=three_parts,
        not_in_train=not_in_train,
        reasons=len(rows[False]),
        set_aside=f"{int(aside.sum())} + {len(rows[True])}",
        **left_out,
    )


if __name__ == "__main__":
    utils.start(run, __doc__)
