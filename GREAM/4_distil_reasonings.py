"""Let the teacher reason from histories of the training parts to the item that came next, as if it did not know it.

    python GREAM/4_distil_reasonings.py --dataset Grocery --teacher_model rules

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl, gream/item_texts.pkl
Writes gream/reasonings.pkl
A reply has four steps, of which the last one, which names the item, is taken off. Replies of another form, with tags,
with hindsight or with the title of the target are refused and counted. Every reply is on disk before the next is asked
for. Paper: reverse thinking.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

import utils
from reason4rec.errors import InputError
from reason4rec.systems.gream import reasoning
from reason4rec.systems.gream.artifacts import REASONINGS
from reason4rec.systems.gream.options import Reasonings
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    items, teacher = step.described(), step.teacher()
    targets = step.reasoning_targets(step[Reasonings].reasonings)
    asked = step.asked(reasoning.prompts_of, targets, items)
    replies = utils.chat_with_gpt(teacher, asked, reasoning.TEMPERATURE, is_usable=reasoning.is_in_form)
    rows, counts = reasoning.reasonings(targets, replies, items)
    print("\n".join(f"{what}: {n:,}" for what, n in counts.most_common()))
    if not rows:
        raise InputError("the replies are all refused: take another --teacher_model, or run with --no-reasoned")
    step.write(REASONINGS, pd.DataFrame(rows, columns=REASONINGS.columns))
    step.summary(len(targets), len(rows), **teacher.usage())


if __name__ == "__main__":
    utils.start(run, __doc__)
