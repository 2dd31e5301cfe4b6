"""Give the base model tokens for the semantic ids, each with weights of its own.

    python GREAM/5_extend_base.py --dataset Grocery

Reads  twice_rec/items.pkl, gream/item_texts.pkl, gream/semantic_ids.json
Writes checkpoints/DATASET/GREAM_base, a base model like any other
All codes of all levels get a token, whether an item has it or not. The tokens are not special, so that they stay in
what a model writes. The released code adds special ones. A code begins near the words of the texts of its items, so
that a model need not learn from nothing what it stands for; with --begin_as drawn, and in the released code, at random.
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
    from reason4rec.systems.gream.embedding import texts_of

    def record(staged: Path) -> None:
        write_record(out, step.provenance, files.sha256(staged))

    ids, out, options = step.read(SEMANTIC_IDS), step.outputs[0], step[Extended]
    files.check_place(out)
    tokens = ids.all_tokens()
    # What tells items of equal codes apart stands for nothing.
    items = list(step.described()) if options.begin_as == "texts" else []
    read = zip(items, *texts_of(items, options.read))
    texts = [(f"{title}\n{text}".strip(), ids.tokens_of(item.item_id)[: ids.levels]) for item, title, text in read]
    extend(options.base_model, tokens, out, step.common.seed, record, texts)
    step.summary(len(tokens), len(tokens), base_model=options.base_model)


if __name__ == "__main__":
    utils.start(run, __doc__)
