"""Time the semantic ids of a whole catalogue: its embedding and its quantising, and show their card.

    python tests/benchmarks/semantic_ids.py --folder ../shared/data/amazon_grocery_2023_sequences

The folder has sequences.jsonl.gz and items.jsonl.gz. The times are those of the wall and of the CPU.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from reason4rec.data.sequences import read_ready
from reason4rec.systems.gream import embedding, id_card
from reason4rec.systems.gream.quantizing import residual
from reason4rec.systems.gream.semantic_ids import SemanticIds
from reason4rec.systems.twice_rec.catalogue import Catalogue


@contextmanager
def timed(what: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - wall:.0f} s, of the CPU {time.process_time() - cpu:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--encoder", choices=embedding.ENCODERS, default="minilm")
    parser.add_argument("--base_model", default="reason4rec/demo/base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    sequences, frame = read_ready(args.folder / "sequences.jsonl.gz", args.folder / "items.jsonl.gz")
    items = list(Catalogue(frame))
    titles, descriptions = [item.title for item in items], [item.description for item in items]
    with timed(f"embedding {len(items)} items"):
        vectors = embedding.embed(titles, descriptions, args.encoder, args.base_model, args.device)
    with timed(f"quantising in {args.levels} levels of {args.codes} codes"):
        found = residual(vectors, args.levels, args.codes, args.seed)
    with timed("card"):
        ids = SemanticIds.from_codes([item.item_id for item in items], found.codes, args.codes)
        card = id_card.card(ids, items, sequences, found.left, args.seed)
    print(id_card.as_text(card))


if __name__ == "__main__":
    main()
