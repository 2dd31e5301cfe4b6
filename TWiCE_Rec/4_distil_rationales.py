"""Let the teacher say, for training cases, why the item that was chosen suits the user, and whether it truly does.

    python TWiCE_Rec/4_distil_rationales.py --dataset Grocery --teacher_model rules

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl
Writes twice_rec/rationales.pkl
One reply holds the rationale and a verdict. Kept are those with a connection and without hindsight, tags or more than
200 words; the others are counted by their fault. Every reply is on disk before the next is asked for. Paper: stage 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

import utils
from reason4rec.systems.twice_rec import distillation
from reason4rec.systems.twice_rec.artifacts import RATIONALES
from reason4rec.systems.twice_rec.replies import outcomes, rationale_of
from reason4rec.systems.twice_rec.step import RecommenderStep


def run(step: RecommenderStep) -> None:
    cases, teacher = distillation.targets(step), step.teacher()
    prompts = distillation.prompts_of(step, cases)
    replies = utils.chat_with_gpt(teacher, prompts, distillation.TEMPERATURE, is_usable=distillation.is_in_form)
    read = [rationale_of(reply or "") for reply in replies]
    kept = [(case, one) for case, one in zip(cases, read) if one.relevant and not one.refused]
    rows = [(case.user_id, case.target.item_id, one.text) for case, one in kept]
    print("\n".join(f"{why}: {n:,}" for why, n in outcomes(read).most_common()))
    step.write(RATIONALES, pd.DataFrame(rows, columns=RATIONALES.columns))
    step.summary(len(cases), len(rows), **teacher.usage())


if __name__ == "__main__":
    utils.start(run, __doc__)
