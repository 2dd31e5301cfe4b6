"""Let the Reasoner write a reason for its training targets, and turn them into training rows for the Predictor.

    python 3_Predictor/1_construct_predictor_train_data.py --dataset Music_data

Reads  distilling_high_quality_reasons.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Reasoner
Writes Predictor_train_instruct.pkl, a list of {"messages": [user, assistant]}
The Predictor learns from the reasons that it will meet, not from the teacher's. Paper: feedback prediction.
The other forms of --form are ablations: they ask no Reasoner, and those that write a reason learn it from the teacher.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import PREDICTOR_ROWS, SUMMARIES, TEACHER_REASON, TEACHER_REASONS


def run(args: argparse.Namespace) -> None:
    reasoner = [utils.adapter_path(args, "Reasoner")] if args.form == "reasoned" else []
    step = utils.Step(args, reads=[TEACHER_REASONS, SUMMARIES, *reasoner], writes=[PREDICTOR_ROWS], form=args.form)
    if step.done():
        return
    targets = step.targets(TEACHER_REASONS)
    histories = utils.histories_of(step, targets)
    reasons, shortened = targets[TEACHER_REASON], 0
    if reasoner:
        model = utils.load_expert(step, "Reasoner")
        reasons, shortened = utils.reasons_of(model, step, targets["title"], histories), model.shortened
    rows = [
        training_row(
            predictor_modes.question(args.form, step.dataset.product_class, row.title, history, reason, args.prompts),
            predictor_modes.answer(args.form, row.ratings, reason),
        )
        for row, history, reason in zip(targets.itertuples(), histories, reasons)
    ]
    step.write(PREDICTOR_ROWS, rows)
    step.card(len(targets), len(rows), distinct_reasons=len(set(reasons)), prompts_shortened=shortened)


if __name__ == "__main__":
    utils.main(
        run,
        __doc__,
        utils.form_flags,
        utils.prompt_flags,
        utils.model_flags,
        utils.server_flags,
        utils.generation_flags,
    )
