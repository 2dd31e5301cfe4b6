"""Report how good the reasons for the test rows are, against the real reviews and by themselves.

    python 3_Predictor/7_reason_quality.py --dataset Music_data

Reads  reason_for_test_by_reasoner.pkl, train_summarizer_generation_results.pkl
Writes results/reason_quality.json, {"table": [{"score", "value", "low", "high", "n"}], "settings": {...}}
       results/reason_quality_rows.jsonl.gz, every row with its scores
--judge asks the teacher for a GPTScore of 0 to 100, one request a row; needs OPENAI_API_KEY, and OPENAI_BASE_URL for
a server other than OpenAI's. --bertscore and --bleurt name folders of models that lie on this machine.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

import utils
from reason4rec.llm.prompt import OnDemand
from reason4rec.systems.reason4rec import prompts, reason_quality
from reason4rec.systems.reason4rec.artifacts import REASON, REASON_QUALITY, REASON_QUALITY_ROWS, SUMMARIES, TEST_REASONS

TEMPERATURE = 0.0  # our decision: a judge should not waver


def flags(parser: argparse.ArgumentParser) -> None:
    every = (*reason_quality.NO_DOWNLOAD, *reason_quality.NEEDS)
    parser.add_argument(
        "--scores", nargs="*", choices=every, default=list(reason_quality.NO_DOWNLOAD), help="against the reviews"
    )
    parser.add_argument("--bertscore", type=Path, help="folder of an encoder; adds BERTScore")
    parser.add_argument("--bertscore_layer", type=utils.positive, help="layer to compare tokens in (default: the last)")
    parser.add_argument("--bleurt", type=Path, help="folder of a BLEURT checkpoint; adds BLEURT")
    parser.add_argument("--judge", action="store_true", help="ask the teacher for a GPTScore")


def run(args: argparse.Namespace) -> None:
    if not args.judge:
        del args.prompts, args.teacher_model  # on which nothing else depends
    folders = {"bertscore": args.bertscore, "bleurt": args.bleurt}
    asked = reason_quality.asked_scores(args.scores, folders)
    reads = [TEST_REASONS, SUMMARIES, *filter(None, folders.values())]
    settings = {"scores": asked, "bertscore_layer": args.bertscore_layer, "judge": args.judge}
    step = utils.Step(args, reads=reads, writes=[REASON_QUALITY, REASON_QUALITY_ROWS], **settings)
    if step.done():
        print(reason_quality.as_text(json.loads(step.path(REASON_QUALITY).read_text(encoding="utf-8"))["table"]))
        return
    teacher = step.teacher() if args.judge else None
    rows = step.targets(TEST_REASONS)
    histories = utils.histories_of(step, rows)

    # A row whose review is empty has nothing to be compared with.
    reviewed = rows[rows["reviews"].str.strip() != ""]
    pairs, scores = (reviewed[REASON].tolist(), reviewed["reviews"].tolist()), pd.DataFrame(index=reviewed.index)
    for name in asked:
        if name == "bertscore":
            where = utils.resolve_device(args.device), args.batch_size or 32
            found = reason_quality.bertscore(*pairs, args.bertscore, args.bertscore_layer, *where)
        elif name == "bleurt":
            found = reason_quality.bleurt(*pairs, args.bleurt, utils.resolve_device(args.device), args.batch_size or 32)
        else:
            found = reason_quality.NO_DOWNLOAD[name](*pairs)
        scores = scores.assign(**found)
    if teacher:
        question = partial(prompts.judge, step.dataset.product_class, folder=args.prompts)
        questions = OnDemand(question, reviewed["title"], reviewed["reviews"], reviewed[REASON])
        replies = pd.Series(utils.chat_with_gpt(teacher, questions, TEMPERATURE), index=reviewed.index)
        utils.tell_refused(reviewed, questions, replies, teacher)
        scores["gptscore"] = replies.fillna("").map(reason_quality.judged_score)
        scores["gptscore_unusable"] = scores["gptscore"].isna().astype(float)

    untitled = list(map(reason_quality.without_titles, rows[REASON], rows["title"], histories))
    known = reason_quality.vocabulary(step.read(SUMMARIES), args.seed)
    by_aspects, texts = reason_quality.faithfulness(untitled, histories, known, args.seed)
    texts["rating_words"] = list(map(reason_quality.rating_in_words, untitled))
    leaked = {"rating_in_words": [float(found != "") for found in texts["rating_words"]]}
    scores = scores.reindex(rows.index).assign(
        **by_aspects, **leaked, **reason_quality.checks(rows[REASON], rows["reviews"])
    )
    if teacher:
        texts["judge_reply"] = replies.reindex(rows.index)

    table = reason_quality.table(scores, rows[REASON], rows["user_id"], args.seed)
    step.write(REASON_QUALITY, {"table": table, "settings": step.made_from["settings"]})
    every = pd.concat([rows, scores, pd.DataFrame(texts)], axis=1).astype(object)
    step.write(REASON_QUALITY_ROWS, every.where(every.notna(), None).to_dict("records"))
    print(reason_quality.as_text(table))
    step.card(len(rows), len(rows), without_review=len(rows) - len(reviewed), **(teacher.card() if teacher else {}))


if __name__ == "__main__":
    utils.main(run, __doc__, flags, utils.prompt_flags, utils.model_flags, utils.teacher_flags, utils.batch_flags)
