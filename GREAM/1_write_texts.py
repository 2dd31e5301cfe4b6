"""Let the teacher describe the items from reviews, and say of users what they like and what they looked for.

    python GREAM/1_write_texts.py --dataset Grocery --teacher_model rules

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl
Writes gream/item_texts.pkl, gream/user_texts.pkl
Only the training part of each sequence is read. An item without a review there, or whose answer cannot be used, keeps
its own description; a text on a user that cannot be used is empty, and no row is made from it. Every reply is on disk
before the next is asked for. Paper: data synthesis.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

import utils
from reason4rec.systems.gream import texts
from reason4rec.systems.gream.artifacts import ITEM_TEXTS, USER_TEXTS
from reason4rec.systems.gream.step import GeneratorStep
from reason4rec.systems.twice_rec.artifacts import ITEMS


def run(step: GeneratorStep) -> None:
    teacher, users = step.teacher(), step.text_pasts()
    reviews = texts.to_describe(step.catalogue, step.pasts)
    asked = step.asked(texts.item_prompts, step.catalogue, reviews, step.common.seed)
    replies = utils.chat_with_gpt(teacher, asked, texts.TEMPERATURE, is_usable=texts.is_item_text)
    rows, counts = texts.item_texts(step.catalogue, reviews, replies)
    items = pd.DataFrame(rows, columns=ITEM_TEXTS.columns)
    catalogue = texts.described(step.read(ITEMS), items)
    of_users = {}
    for kind in texts.KINDS:
        asked = step.asked(texts.user_prompts, kind, catalogue, users)
        of_users[kind] = utils.chat_with_gpt(teacher, asked, texts.TEMPERATURE, is_usable=texts.is_usable(kind))
    rows, more = texts.user_texts(catalogue, users, of_users)
    print("\n".join(f"{what}: {n:,}" for what, n in (counts + more).most_common()))
    step.write(ITEM_TEXTS, items)
    step.write(USER_TEXTS, pd.DataFrame(rows, columns=USER_TEXTS.columns))
    step.summary(len(step.catalogue), len(items), users=len(rows), **teacher.usage())


if __name__ == "__main__":
    utils.start(run, __doc__)
