"""Ask the teacher for reasons and keep those that bring the reward model nearer to the true rating.

    python 2_Reasoner/4_distilling_possible_reason.py --dataset Music_data

Reads  train_12000.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/reason_reward_model
Writes distilling_high_quality_reasons.pkl (+ personalized_analysis, reward_score, accepted_draw)
Needs OPENAI_API_KEY, and OPENAI_BASE_URL for a server other than OpenAI's. Paper: preference matching.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, SUMMARIES, TEACHER_REASON, TEACHER_REASONS
from reason4rec.systems.reason4rec.distillation import blocks_at_once, filter_reasons
from reason4rec.systems.reason4rec.reward_filter import HINTED_DRAWS

TEMPERATURE = 1.0  # released code


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tau", type=float, help="accept scores below this (default: the dataset's)")
    parser.add_argument("--draws", type=int, default=HINTED_DRAWS, help="hinted reasons to ask for at most")
    parser.add_argument("--baseline", choices=("direct", "review"), default="direct", help="what a reason must beat")
    parser.add_argument("--rated_hints", action="store_true", help="show ratings in the histories of hinted requests")


def run(args: argparse.Namespace) -> None:
    adapter = utils.adapter_path(args, "reason_reward_model")
    tau = utils.dataset_of(args).tau if args.tau is None else args.tau
    choices = {"tau": tau, "draws": args.draws, "baseline": args.baseline, "rated_hints": args.rated_hints}
    step = utils.Step(args, reads=[REASON_TARGETS, SUMMARIES, adapter], writes=[TEACHER_REASONS], **choices)
    if step.done():
        return
    targets = step.targets(REASON_TARGETS)
    histories = utils.histories_of(step, targets)
    ratings = targets["ratings"].to_numpy(dtype=float)
    product_class, titles, reviews = step.dataset.product_class, targets["title"], targets["reviews"]
    model, teacher = utils.load_expert(step, "reason_reward_model"), step.teacher()

    def ask(rows, draw):
        hints = (lambda k: ratings[k]) if draw else (lambda k: None)
        rated = args.rated_hints and draw > 0
        asked = [prompts.reasoner(product_class, titles[k], histories[k], hints(k), rated, args.prompts) for k in rows]
        replies = utils.chat_with_gpt(teacher, asked, TEMPERATURE, draw, quiet=True)
        utils.tell_refused(targets.loc[list(rows)], asked, replies, teacher)
        return replies

    def with_reasons(rows, reasons):
        return [
            prompts.predictor(product_class, titles[k], histories[k], reason, args.prompts)
            for k, reason in zip(rows, reasons)
        ]

    def predict_in(block):
        heads = model.read_heads(with_reasons(block, [None] * len(block)), blocks_at_once(args.requests_at_once))
        return lambda rows, reasons: utils.logits_weighted_predict(model, with_reasons(rows, reasons), heads, what="")

    baseline = reviews if args.baseline == "review" else [None] * len(targets)
    accepted, counts = filter_reasons(
        ratings, baseline, tau, ask, predict_in, args.draws, args.requests_at_once, teacher.stop
    )
    kept = targets[[one is not None for one in accepted]].reset_index(drop=True)
    kept[TEACHER_REASON] = [one.reason for one in accepted if one]
    kept["reward_score"] = [one.score for one in accepted if one]
    kept["accepted_draw"] = [one.draw for one in accepted if one]
    step.write(TEACHER_REASONS, kept)
    step.card(len(targets), len(kept), **counts, **teacher.card())


if __name__ == "__main__":
    utils.main(
        run,
        __doc__,
        flags,
        utils.prompt_flags,
        utils.model_flags,
        utils.server_flags,
        utils.teacher_flags,
        utils.batch_flags,
    )
