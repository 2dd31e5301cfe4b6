"""Score summaries of the reviews that were set aside, against the reviews and the published texts on them.

    python 1_Summarizer/5_summary_quality.py --dataset Digital_Music_cut

Reads  published_texts_set_aside.pkl, checkpoints/DATASET/Summarizer
Writes results/summary_quality.json, {"table": [{"texts", "score", "against", "value", "low", "high", "n", "chance",
       ...}], "settings": {...}}, and results/summary_quality_rows.jsonl.gz, every row with its texts
Scored are the Summarizer, its base model without training, the published texts themselves, and those that --summaries
names. --bertscore names an encoder: minilm, or a folder. Our decision; the paper scores no summaries.
"""

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils

# isort: split
import pandas as pd

from reason4rec.llm.base import resolve_device
from reason4rec.llm.options import Model, Writing
from reason4rec.systems.reason4rec import summary_quality as quality
from reason4rec.systems.reason4rec.artifacts import (
    SUMMARIES_SET_ASIDE,
    SUMMARIZER_ROWS,
    SUMMARY_QUALITY,
    SUMMARY_QUALITY_ROWS,
    TEACHER_SUMMARY,
)
from reason4rec.systems.reason4rec.options import SummaryQuality
from reason4rec.systems.reason4rec.prompts import end_of_summary


def run(step: utils.ExpertStep) -> None:
    rows, options, tokens = step.rows(SUMMARIES_SET_ASIDE), step[SummaryQuality], step[Writing].max_new_tokens
    other = quality.others(rows["title"], step.common.seed)
    texts = {quality.PUBLISHED: rows[TEACHER_SUMMARY].tolist()} | quality.named_texts(options.summaries, rows)
    prompts = step.summary_prompts(rows)
    if step.path(SUMMARIZER_ROWS).exists():
        quality.check_set_aside(prompts, step.read(SUMMARIZER_ROWS), step.path(SUMMARIZER_ROWS))
    write = partial(utils.chat_with_LLM, prompts=prompts, max_new_tokens=tokens, finish=end_of_summary)
    texts[quality.TRAINED] = write(step.language_model("Summarizer"))
    if base := quality.untrained(step, "Summarizer"):
        texts[quality.UNTRAINED] = write(base)
    where = resolve_device(step[Model].device), step[Model].prompts_at_once or 32
    scores = {name: quality.scores(one, rows, other, options.encoder, *where) for name, one in texts.items()}
    table = quality.table(scores, rows["title"], step.common.seed)
    step.write(SUMMARY_QUALITY, {"table": table, "settings": step.provenance["settings"]})
    step.write(SUMMARY_QUALITY_ROWS, rows.join(pd.DataFrame(texts)).to_dict("records"))
    print(quality.as_text(table))
    step.summary(len(rows), len(rows), titles=rows["title"].nunique(), texts=len(texts))


def show(step: utils.ExpertStep) -> None:
    print(quality.as_text(json.loads(step.path(SUMMARY_QUALITY).read_text(encoding="utf-8"))["table"]))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
