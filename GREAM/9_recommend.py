"""Let every trained generator list ten items for each case, at once and after its thoughts.

    python GREAM/9_recommend.py --dataset Grocery

Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, checkpoints/DATASET/GREAM_base, Generator and those
       that were trained beside it or further
Writes gream/ranked/MODEL_MODE_test.pkl (the items of each list), MODEL_MODE_test_replies.pkl (the thoughts)
A list comes from a beam search in which only ids of the catalogue can be written, and none of the history. With
--draws N as many whole replies are drawn too, for pass@k. With --split valid the same on the validation cases.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import prompts, recommending, recommending_runs
from reason4rec.systems.gream.options import Models
from reason4rec.systems.gream.step import GeneratorStep
from reason4rec.systems.twice_rec.options import Split


def run(step: GeneratorStep) -> None:
    cases, options = step.judged_cases(step[Split].split), step[Models]
    prompts.check(step.templates)
    for model in recommending_runs.models(step):
        part = recommending_runs.part_of(step, model)
        if part.done():
            continue
        generator = part.language_model(model.adapter)
        tables = recommending.recommended(part, generator, cases, model, options)
        for path, table in zip(part.outputs, tables):
            part.write(path, table)
        part.summary(len(cases), len(tables[0]), model=model.name, prompts_shortened=generator.shortened)


if __name__ == "__main__":
    utils.start(run, __doc__)
