"""Give the base model tokens for the semantic ids, each with weights of its own.

    python GREAM/5_extend_base.py --dataset Grocery

Reads  gream/semantic_ids.json
Writes checkpoints/DATASET/GREAM_base, a base model like any other
All codes of all levels get a token, whether an item has it or not. The tokens are not special, so that they stay in
what a model writes. The released code adds special ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.run import files
from reason4rec.run.records import write_record
from reason4rec.systems.gream.artifacts import SEMANTIC_IDS
from reason4rec.systems.gream.options import Extended
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    from reason4rec.llm.vocabulary import extend

    def record(staged: Path) -> None:
        write_record(out, step.provenance, files.sha256(staged))

    tokens, out = step.read(SEMANTIC_IDS).all_tokens(), step.outputs[0]
    files.check_place(out)
    extend(step[Extended].base_model, tokens, out, step.common.seed, record)
    step.summary(len(tokens), len(tokens), base_model=step[Extended].base_model)


if __name__ == "__main__":
    utils.start(run, __doc__)
