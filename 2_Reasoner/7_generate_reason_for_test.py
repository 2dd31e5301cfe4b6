"""Let the Reasoner say for every test row whether the user will like the item.

    python 2_Reasoner/7_generate_reason_for_test.py --dataset Music_data

Reads  raw_data/test.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Reasoner
Writes reason_for_test_by_reasoner.pkl (+ reasoner_reply)
Histories come from the training reviews alone. Paper: preference matching.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TEST
from reason4rec.systems.reason4rec.artifacts import REASON, SUMMARIES, TEST_REASONS


def run(args: argparse.Namespace) -> None:
    adapter = utils.adapter_path(args, "Reasoner")
    step = utils.Step(args, reads=[TEST, SUMMARIES, adapter], writes=[TEST_REASONS])
    if step.done():
        return
    targets = step.targets(TEST)
    histories = utils.histories_of(step, targets)
    model = utils.load_expert(step, "Reasoner")
    targets[REASON] = utils.reasons_of(model, step, targets["title"], histories)
    step.write(TEST_REASONS, targets)
    distinct = targets[REASON].nunique()
    step.card(len(targets), len(targets), distinct_reasons=distinct, prompts_shortened=model.shortened)


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags, utils.model_flags, utils.server_flags, utils.generation_flags)
