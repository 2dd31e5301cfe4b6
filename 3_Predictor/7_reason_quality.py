"""Report how good the reasons for the test rows are, against the real reviews and by themselves.

    python 3_Predictor/7_reason_quality.py --dataset Music_data

Reads  reason_for_test_by_reasoner.pkl, train_summarizer_generation_results.pkl
Writes results/reason_quality.json, {"table": [{"score", "value", "low", "high", "n"}], "settings": {...}}
       results/reason_quality_rows.jsonl.gz, every row with its scores
--judge asks the teacher for a GPTScore of 0 to 100, one request a row; needs OPENAI_API_KEY, and OPENAI_BASE_URL for
a server other than OpenAI's. --bertscore and --bleurt name folders of models that lie on this machine.
"""

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils

# isort: split
import pandas as pd

from reason4rec.llm.prompt import OnDemand
from reason4rec.systems.reason4rec import prompts, reason_quality, reason_scores
from reason4rec.systems.reason4rec.artifacts import REASON, REASON_QUALITY, REASON_QUALITY_ROWS, SUMMARIES, TEST_REASONS
from reason4rec.systems.reason4rec.options import Quality

TEMPERATURE = 0.0  # our decision: a judge should not waver


def is_score(reply: str) -> bool:
    return pd.notna(reason_scores.judged_score(reply))


def run(step: utils.ExpertStep) -> None:
    rows, seed = step.rows(TEST_REASONS), step.common.seed
    teacher = step.teacher() if step[Quality].judge else None
    histories = step.histories(rows)
    # A row whose review is empty has nothing to be compared with.
    reviewed = rows[rows["reviews"].str.strip() != ""]
    scores = reason_quality.against_reviews(step, reviewed)
    if teacher:
        question = partial(prompts.judge, step.product_class, folder=step.templates)
        questions = OnDemand(question, reviewed["title"], reviewed["reviews"], reviewed[REASON])
        judged = utils.chat_with_gpt(teacher, questions, TEMPERATURE, is_usable=is_score)
        replies = pd.Series(judged, index=reviewed.index)
        utils.print_refused(reviewed, questions, replies, teacher)
        scores["gptscore"] = replies.fillna("").map(reason_scores.judged_score)
        scores["gptscore_unusable"] = scores["gptscore"].isna().astype(float)

    by_itself, texts = reason_quality.by_itself(rows, histories, step.read(SUMMARIES), seed)
    scores = scores.reindex(rows.index).assign(**by_itself)
    if teacher:
        texts["judge_reply"] = replies.reindex(rows.index)
    table = reason_quality.table(scores, rows[REASON], rows["user_id"], seed)
    step.write(REASON_QUALITY, {"table": table, "settings": step.provenance["settings"]})
    every = pd.concat([rows, scores, pd.DataFrame(texts)], axis=1).astype(object)
    step.write(REASON_QUALITY_ROWS, every.where(every.notna(), None).to_dict("records"))
    print(reason_quality.as_text(table))
    usage = teacher.usage() if teacher else {}
    step.summary(len(rows), len(rows), without_review=len(rows) - len(reviewed), **usage)


def show(step: utils.ExpertStep) -> None:
    print(reason_quality.as_text(json.loads(step.path(REASON_QUALITY).read_text(encoding="utf-8"))["table"]))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
