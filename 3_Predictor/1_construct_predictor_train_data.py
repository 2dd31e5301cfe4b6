"""Let the Reasoner write a reason for its training targets, and turn them into training rows for the Predictor.

    python 3_Predictor/1_construct_predictor_train_data.py --dataset Music_data

Reads  distilling_high_quality_reasons.pkl, train_summarizer_generation_results.pkl, checkpoints/DATASET/Reasoner
Writes Predictor_train_instruct.pkl, a list of {"messages": [user, assistant]}
The Predictor learns from the reasons that it will meet, not from the teacher's. Paper: feedback prediction.
With --reasoner Reasoner_rl the one that step 2/8 trained by a reward writes them.
With --predictor_rows all it reads train_12000.pkl instead: the targets without an accepted reason come in too.
The other modes of --predictor_mode are ablations: they ask no Reasoner, and those that write a reason learn it from
the teacher.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.options import Writing
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import (
    PREDICTOR_ROWS,
    REASON_TARGETS,
    TEACHER_REASON,
    TEACHER_REASONS,
)
from reason4rec.systems.reason4rec.options import Mode, PredictorRows
from reason4rec.systems.reason4rec.reinforced.options import WhichReasoner


def run(step: utils.ExpertStep) -> None:
    of, mode = step[PredictorRows].predictor_rows, step[Mode].predictor_mode
    targets = step.rows(TEACHER_REASONS if of == "accepted" else REASON_TARGETS)
    histories, reasons, shortened = step.histories(targets), targets.get(TEACHER_REASON, [""] * len(targets)), 0
    if mode == "reasoned":
        reasoner, prompts = step.language_model(step[WhichReasoner].reasoner), step.reason_prompts(targets, histories)
        reasons, shortened = utils.chat_with_LLM(reasoner, prompts, step[Writing].max_new_tokens), reasoner.shortened
    rows = [
        training_row(
            predictor_modes.question(mode, step.product_class, row.title, history, reason, step.templates),
            predictor_modes.answer(mode, row.ratings, reason),
        )
        for row, history, reason in zip(targets.itertuples(), histories, reasons)
    ]
    step.write(PREDICTOR_ROWS, rows)
    step.summary(len(targets), len(rows), distinct_reasons=len(set(reasons)), prompts_shortened=shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
