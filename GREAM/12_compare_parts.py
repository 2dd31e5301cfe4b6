"""See what each part of the training teaches: train the generator without it, with several seeds, and judge all.

    python GREAM/12_compare_parts.py --dataset Demo_sequences

Reads  twice_rec/sequences.pkl, items.pkl, gream/semantic_ids.json, gream/Generator_train_instruct.pkl,
       checkpoints/DATASET/GREAM_base, SASRec
Writes results/gream_parts.json
For each seed a generator is trained on the rows in the order of the curriculum, one on shuffled rows, and from the
first one by each variant of the reward. All list items for the same test cases in both modes. The file has the metrics
over all seeds with paired tests against the generator, and of the policies against srpo. A run goes on where it was cut
off: each adapter and its lists are kept, beside those of the other steps.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import part_comparison
from reason4rec.systems.gream.artifacts import COMPARISON
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    for part, seed in part_comparison.runs(step):
        part_comparison.train_and_list(step, part, seed)
    result = part_comparison.compare(step)
    step.write(COMPARISON, result)
    show(step)
    step.summary(result["settings"]["cases"], len(part_comparison.runs(step)))


def show(step: GeneratorStep) -> None:
    print(part_comparison.as_text(part_comparison.read(step.path(COMPARISON))))


if __name__ == "__main__":
    utils.start(run, __doc__, show)
