"""Read the texts of the items with the base model itself, or a small encoder, and keep a vector of each.

    python GREAM/2_embed_items.py --dataset Grocery --encoder minilm

Reads  twice_rec/items.pkl, gream/item_texts.pkl
Writes gream/embeddings.safetensors
A vector is the mean of those of the title and of the description, each the mean over the tokens of the last hidden
states. An item without a description is its title alone, and --read names what is looked at. Released code.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.llm.base import resolve_device
from reason4rec.systems.gream import embedding
from reason4rec.systems.gream.artifacts import EMBEDDINGS
from reason4rec.systems.gream.options import Encoder
from reason4rec.systems.gream.step import GeneratorStep


def run(step: GeneratorStep) -> None:
    items, options = list(step.described()), step[Encoder]
    titles, descriptions = embedding.texts_of(items, options.read)
    device = resolve_device(options.device)
    vectors = embedding.embed(titles, descriptions, options.encoder, options.base_model, device)
    if without := embedding.without_description([item.description for item in items]):
        print(f"{without:,} items have no description: their vectors are those of their titles")
    step.write(EMBEDDINGS, embedding.as_bytes(vectors, options.encoder, [item.item_id for item in items]))
    step.summary(len(items), len(vectors), encoder=options.encoder, numbers=vectors.shape[1])


if __name__ == "__main__":
    utils.start(run, __doc__)
