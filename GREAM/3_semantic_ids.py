"""Make the semantic ids: residual k-means with balanced clusters, and one token more where items have the same codes.

    python GREAM/3_semantic_ids.py --dataset Grocery

Reads  twice_rec/sequences.pkl, twice_rec/items.pkl, gream/item_texts.pkl, gream/embeddings.safetensors
Writes gream/semantic_ids.json, gream/codebooks.safetensors, results/gream_ids.json
The card says whether the ids tell items apart, how evenly codes are used, and whether items with the same first code
share words and are chosen by the same users more often than by chance. Released code: RQ-KMeans.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.systems.gream import embedding, id_card, quantizing
from reason4rec.systems.gream.artifacts import CODEBOOKS, EMBEDDINGS, ID_CARD, SEMANTIC_IDS
from reason4rec.systems.gream.options import Ids
from reason4rec.systems.gream.semantic_ids import SemanticIds
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    items, options, seed = list(step.described()), step[Ids], step.common.seed
    item_ids = [item.item_id for item in items]
    vectors, _ = embedding.read(step.path(EMBEDDINGS), item_ids)
    found = quantizing.residual(vectors, options.levels, options.codes, seed)
    ids = SemanticIds.from_codes(item_ids, found.codes, options.codes)
    card = id_card.card(ids, items, step.sequences, found.left, seed)
    print(id_card.as_text(card))
    step.write(SEMANTIC_IDS, ids.as_dict())
    step.write(CODEBOOKS, quantizing.as_bytes(found.codebooks))
    step.write(ID_CARD, card)
    step.summary(len(items), len(ids), levels=options.levels, codes=options.codes)


if __name__ == "__main__":
    utils.start(run, __doc__)
