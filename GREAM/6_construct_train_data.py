"""Write the rows of six tasks that tie semantic ids to texts and to what users choose, and those with reasonings.

    python GREAM/6_construct_train_data.py --dataset Grocery

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl, gream/item_texts.pkl, gream/user_texts.pkl,
       gream/semantic_ids.json, gream/reasonings.pkl
Writes gream/Generator_train_instruct.pkl
The rows stand in the order in which they are learned: in each pass over the tasks the reasonings come in between, ever
more densely. All are made of the training part of each sequence. Paper: alignment and curriculum activation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import mixing, prompts, reasoning, tasks, texts
from reason4rec.systems.gream.artifacts import INSTRUCT_ROWS, USER_TEXTS
from reason4rec.systems.gream.options import Prompts, Restating, Rows
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    options, shown, seed = step[Rows], step[Prompts], step.common.seed
    restates = step[Restating].restate_history
    prompts.check(shown.folder, restates)
    users = texts.by_user(step.read(USER_TEXTS))
    material = tasks.Material(step.pasts, step.described(), step.id_texts, users, shown.cut, shown.folder)
    passes = tasks.alignment(material, options.passes, options.fusion_rows, seed, options.tasks)
    reasoned = reasoning.rows(step.reasonings(), step.pasts, step.id_texts, seed, shown.folder, restates)
    rows = mixing.curriculum(passes, reasoned, seed)
    step.write(INSTRUCT_ROWS, rows)
    step.summary(len(step.pasts), len(rows), a_pass=len(passes[0]), passes=len(passes), reasoned=len(reasoned))


if __name__ == "__main__":
    utils.start(run, __doc__)
