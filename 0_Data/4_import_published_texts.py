"""Import texts that the authors' 8B experts wrote and a third party published, as the teacher's for a dataset.

    python 0_Data/4_import_published_texts.py --dataset Digital_Music_cut --tables FOLDER

Reads  raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, and in the folder --tables log tables of a Reasoner
       (*.table.json, *.table.json.gz), or summaries.jsonl.gz and reasons.jsonl.gz, where these are there
Writes train_aspect_preference_summary.pkl and Reasoner_train_instruct.pkl, as steps 1/1 and 2/5 do,
       published_texts_set_aside.pkl and published_reasons_set_aside.pkl, the same of the titles that are set aside
With --reviews (and --metadata), summaries are looked for among all raw reviews, not only those in the splits. Texts of
reviews in valid and test are left out. Our decision; docs/data.md says what is taken.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils

# isort: split
import pandas as pd

from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import artifacts as a
from reason4rec.systems.reason4rec import prompts, published, published_files
from reason4rec.systems.reason4rec.options import Histories, PublishedTexts


def run(step: utils.ExpertStep) -> None:
    options, seed = step[PublishedTexts], step.common.seed
    files = published_files.files_in(options.tables)
    print(f"{published.ORIGIN}: {files.form} in {options.tables}")
    train = step.read(TRAIN)
    held_out = pd.concat([step.read(one) for one in (VALID, TEST) if step.path(one).exists()])
    splits = published.splits_of(train, held_out)
    summaries, logged, counts = published_files.read(step, files, pd.concat([train, held_out], ignore_index=True))

    found, outside = published.rows_of_summaries(summaries, train)
    found = found.head(step.common.limit or len(found))
    aside = found["title"].map(lambda title: published.is_set_aside(title, options.set_aside, seed))
    targets, left_out = published.reasoner_targets(logged[: step.common.limit], summaries, splits)
    rows: dict[bool, list[dict]] = {False: [], True: []}
    for prompt, reason in targets:
        history = published.as_history(prompt, step[Histories].history_length)
        asked = prompts.reasoner(step.product_class, prompt.title, history, folder=step.templates)
        rows[published.is_set_aside(prompt.title, options.set_aside, seed)].append(training_row(asked, reason))

    contents = {
        a.TEACHER_SUMMARIES: found[~aside].reset_index(drop=True),
        a.REASONER_ROWS: rows[False],
        a.SUMMARIES_SET_ASIDE: found[aside].reset_index(drop=True),
        a.REASONS_SET_ASIDE: rows[True],
    }
    if empty := next((artifact.path for artifact, content in contents.items() if not len(content)), ""):
        raise InputError(
            f"{empty} would be empty: {len(found):,} summaries of reviews in train and {len(targets):,} reasons are "
            f"left, of which --set_aside {options.set_aside} takes {aside.sum():,} and {len(rows[True]):,}"
        )
    for artifact, content in contents.items():
        step.write(artifact, content)
    counts |= {"summaries": len(found), "with_three_parts": int(found[a.TEACHER_SUMMARY].map(prompts.is_summary).sum())}
    counts |= {"not_in_train": outside, "summaries_set_aside": int(aside.sum())}
    counts |= {"reasons": len(targets), "reasons_set_aside": len(rows[True])}
    step.summary(len(summaries) + len(logged), len(found) + len(targets), **counts, **left_out)


if __name__ == "__main__":
    utils.start(run, __doc__)
