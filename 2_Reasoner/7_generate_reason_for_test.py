"""Let the Reasoner say for every test row whether the user will like the item.

    python 2_Reasoner/7_generate_reason_for_test.py --dataset Music_data

Reads  raw_data/test.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Reasoner
Writes reason_for_test_by_reasoner.pkl (+ reasoner_reply)
With --reasoner Reasoner_rl the one that step 2/8 trained by a reward writes them.
With --split valid it reads raw_data/valid.pkl and writes reason_for_valid_by_reasoner.pkl.
Histories come from the training reviews alone. Paper: preference matching.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.schema import TEST
from reason4rec.llm.options import Writing
from reason4rec.systems.reason4rec.artifacts import REASON, TEST_REASONS
from reason4rec.systems.reason4rec.reinforced.options import WhichReasoner


def run(step: utils.ExpertStep) -> None:
    targets = step.rows(step.on(TEST))
    prompts = step.reason_prompts(targets, step.histories(targets))
    reasoner = step.language_model(step[WhichReasoner].reasoner)
    targets[REASON] = utils.chat_with_LLM(reasoner, prompts, step[Writing].max_new_tokens)
    step.write(step.on(TEST_REASONS), targets)
    distinct = targets[REASON].nunique()
    step.summary(len(targets), len(targets), distinct_reasons=distinct, prompts_shortened=reasoner.shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
