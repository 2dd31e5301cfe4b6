"""Turn the accepted reasons into training rows for the Reasoner.

    python 2_Reasoner/5_construct_reasoner_train_data.py --dataset Music_data

Reads  distilling_high_quality_reasons.pkl, train_summarizer_generation_results.pkl
Writes Reasoner_train_instruct.pkl, a list of {"messages": [user, assistant]}
The Reasoner never sees a rating or a hint, whatever the teacher saw. Paper: preference matching.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASONER_ROWS, SUMMARIES, TEACHER_REASONS


def run(args: argparse.Namespace) -> None:
    step = utils.Step(args, reads=[TEACHER_REASONS, SUMMARIES], writes=[REASONER_ROWS])
    if step.done():
        return
    targets = step.targets(TEACHER_REASONS)
    histories = utils.histories_of(step, targets)
    rows = [
        training_row(
            prompts.reasoner(step.dataset.product_class, row.title, history, folder=args.prompts),
            row.personalized_analysis,
        )
        for row, history in zip(targets.itertuples(), histories)
    ]
    step.write(REASONER_ROWS, rows)
    step.card(len(targets), len(rows))


if __name__ == "__main__":
    utils.main(run, __doc__, utils.prompt_flags)
