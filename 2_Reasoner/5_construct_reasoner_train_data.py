"""Turn the accepted reasons into training rows for the Reasoner.

    python 2_Reasoner/5_construct_reasoner_train_data.py --dataset Music_data

Reads  distilling_high_quality_reasons.pkl, train_summarizer_generation_results.pkl
Writes Reasoner_train_instruct.pkl, a list of {"messages": [user, assistant]}
The Reasoner never sees a rating or a hint, whatever the teacher saw. Paper: preference matching.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec.artifacts import REASONER_ROWS, TEACHER_REASON, TEACHER_REASONS


def run(step: utils.ExpertStep) -> None:
    targets = step.rows(TEACHER_REASONS)
    prompts = step.reason_prompts(targets, step.histories(targets))
    rows = [training_row(prompt, reason) for prompt, reason in zip(prompts, targets[TEACHER_REASON])]
    step.write(REASONER_ROWS, rows)
    step.summary(len(targets), len(rows))


if __name__ == "__main__":
    utils.start(run, __doc__)
