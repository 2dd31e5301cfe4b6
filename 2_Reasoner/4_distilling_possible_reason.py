"""Ask the teacher for reasons and keep those that bring the reward model nearer to the true rating.

    python 2_Reasoner/4_distilling_possible_reason.py --dataset Music_data

Reads  train_12000.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/reason_reward_model
Writes distilling_high_quality_reasons.pkl (+ personalized_analysis, reward_score, accepted_draw)
Needs OPENAI_API_KEY, and OPENAI_BASE_URL for a server other than OpenAI's. Paper: preference matching.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.options import Teacher
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, TEACHER_REASON, TEACHER_REASONS
from reason4rec.systems.reason4rec.distillation import blocks_at_once, filter_reasons
from reason4rec.systems.reason4rec.options import RewardFilter

TEMPERATURE = 1.0  # released code


def run(step: utils.ExpertStep) -> None:
    options, at_once = step[RewardFilter], step[Teacher].requests_at_once
    targets = step.rows(REASON_TARGETS)
    histories, titles = step.histories(targets), targets["title"]
    ratings = targets["ratings"].to_numpy(dtype=float)
    reward_model, teacher = step.language_model("reason_reward_model"), step.teacher()

    def reason_prompt(k, draw):
        hint, rated = (ratings[k], options.rated_hints) if draw else (None, False)
        return prompts.reasoner(step.product_class, titles[k], histories[k], hint, rated, step.templates)

    def rating_prompts(rows, reasons):
        return [
            prompts.predictor(step.product_class, titles[k], histories[k], reason, step.templates)
            for k, reason in zip(rows, reasons)
        ]

    def ask(rows, draw):
        asked = [reason_prompt(k, draw) for k in rows]
        replies = utils.chat_with_gpt(teacher, asked, TEMPERATURE, draw, quiet=True)
        utils.print_refused(targets.loc[list(rows)], asked, replies, teacher)
        return replies

    def predict_in(block):
        prefix_cache = reward_model.read_prefixes(rating_prompts(block, [None] * len(block)), blocks_at_once(at_once))
        return lambda rows, reasons: utils.logits_weighted_predict(
            reward_model, rating_prompts(rows, reasons), prefix_cache, what=""
        )

    baseline = targets["reviews"] if options.baseline == "review" else [None] * len(targets)
    accepted, counts = filter_reasons(
        ratings, baseline, options.tau, ask, predict_in, options.draws, at_once, teacher.stop
    )
    kept = targets[[one is not None for one in accepted]].reset_index(drop=True)
    kept[TEACHER_REASON] = [one.reason for one in accepted if one]
    kept["reward_score"] = [one.score for one in accepted if one]
    kept["accepted_draw"] = [one.draw for one in accepted if one]
    step.write(TEACHER_REASONS, kept)
    step.summary(len(targets), len(kept), **counts, **teacher.usage())


if __name__ == "__main__":
    utils.start(run, __doc__)
