"""Summarise every training review with the Summarizer.

    python 1_Summarizer/4_summarizer_generation.py --dataset Music_data

Reads  raw_data/train.pkl, checkpoints/DATASET/Summarizer
Writes train_summarizer_generation_results.pkl (+ aspect_preference_summary)
With --limit N only the reviews that the histories of the first N test rows show. Paper: preference distillation.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.history import HistoryIndex
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, SUMMARY


def run(args: argparse.Namespace) -> None:
    adapter = utils.adapter_path(args, "Summarizer")
    step = utils.Step(args, reads=[TRAIN, adapter, *([TEST] if args.limit else [])], writes=[SUMMARIES])
    if step.done():
        return
    reviews = step.read(TRAIN).reset_index(drop=True)
    if args.limit:
        shown = HistoryIndex(reviews, None, step.dataset.history_length).rows_shown(step.targets(TEST))
        reviews = reviews.loc[shown].reset_index(drop=True)
    model = utils.load_expert(step, "Summarizer")
    asked = utils.summaries_asked(step, reviews)
    reviews[SUMMARY] = utils.chat_with_LLM(model, asked, args.max_new_tokens)
    step.write(SUMMARIES, reviews)
    three_parts = int(reviews[SUMMARY].map(prompts.is_summary).sum())
    step.card(len(reviews), len(reviews), with_three_parts=three_parts, prompts_shortened=model.shortened)


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags, utils.model_flags, utils.server_flags, utils.generation_flags)
