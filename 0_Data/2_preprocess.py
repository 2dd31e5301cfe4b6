"""Turn raw reviews into the train, valid and test splits of a known or a new dataset.

    python 0_Data/2_preprocess.py --dataset Music_data --reviews reviews_Digital_Music_5.json.gz \\
        --metadata meta_Digital_Music.json.gz

Reads  a raw dump of reviews, and one of metadata for titles (an item without a title is called by its id)
Writes raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, and dataset.json for a new dataset
Paper: section on data.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec import datasets, raw
from reason4rec.artifacts import TEST, TRAIN, VALID


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reviews", type=Path, required=True, help="raw reviews, JSON lines, plain or gzipped")
    parser.add_argument("--metadata", type=Path, help="raw metadata with the items' titles")
    parser.add_argument("--product_class", help="what the items are, in words for the prompts (new datasets)")
    parser.add_argument("--core", type=int, default=5, help="reviews that every user and item must have; 1 keeps all")
    parser.add_argument("--window_first", action="store_true", help="cut to the last months before the core filter")


def run(args: argparse.Namespace) -> None:
    if args.product_class:
        datasets.describe(args.dataset, args.product_class, args.data_root)
    dumps = [args.reviews, *([args.metadata] if args.metadata else [])]
    months = utils.dataset_of(args).months
    settings = {"core": args.core, "months": months, "window_first": args.window_first}
    step = utils.Step(args, reads=dumps, writes=[TRAIN, VALID, TEST], **settings)
    if step.done():
        return
    reviews = raw.read_reviews(args.reviews, args.limit)
    titles = raw.read_titles(args.metadata) if args.metadata else {}
    parts = raw.preprocess(reviews, titles, args.core, months, str(args.reviews), args.window_first)
    for artifact, part in zip((TRAIN, VALID, TEST), parts):
        step.write(artifact, part)
    sizes = dict(zip(("train", "valid", "test"), map(len, parts)))
    step.card(len(reviews), sum(sizes.values()), **sizes)
    known = step.dataset.paper.get("interactions")
    if known and known != sum(sizes.values()):
        print(f"note: the paper's {args.dataset} has {known:,} reviews, this one {sum(sizes.values()):,}")


if __name__ == "__main__":
    utils.main(run, __doc__, flags)
