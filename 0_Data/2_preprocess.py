"""Turn raw reviews into the train, valid and test splits of a known or a new dataset.

    python 0_Data/2_preprocess.py --dataset Music_data

Reads  the raw files that 1_download.py puts in raw/, or --reviews and --metadata: Amazon's dumps of 2014, 2018 and
       2023, Yelp's, or CSV; plain, gzip, zip or tar (an item without a title is called by its id)
Writes raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, data_card.json, and dataset.json for a new dataset
Paper: section on data.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data import catalog, data_card, preprocess
from reason4rec.data.schema import DATA_CARD, TEST, TRAIN, VALID


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reviews", type=Path, help="raw reviews; for a known dataset those in its raw/")
    parser.add_argument("--metadata", type=Path, help="raw metadata with the items' titles")
    parser.add_argument("--columns", default="", help="names of fields in the reviews: user_id=UserId,ratings=Score")
    parser.add_argument("--product_class", help="what the items are, in words for the prompts (new datasets)")
    parser.add_argument("--core", type=utils.positive, default=5, help="least reviews of a user and item; 1 keeps all")
    parser.add_argument("--window_first", action="store_true", help="cut to the last months before the core filter")


def run(args: argparse.Namespace) -> None:
    if args.reviews is None:
        args.reviews, metadata = catalog.raw_files(args.dataset, args.data_root)
        args.metadata = args.metadata or metadata
    dataset = catalog.described(args.dataset, args.product_class, args.data_root)
    settings = {"core": args.core, "months": dataset.months, "window_first": args.window_first}
    dumps = list(dict.fromkeys([args.reviews, *([args.metadata] if args.metadata else [])]))
    outputs = [TRAIN, VALID, TEST, DATA_CARD]
    step = utils.Step(args, reads=dumps, writes=outputs, dataset=dataset, columns=args.columns, **settings)
    if step.done():
        catalog.write_facts(dataset, args.data_root)
        print(data_card.as_text(json.loads(step.path(DATA_CARD).read_text(encoding="utf-8"))))
        return
    splits = preprocess.preprocess(
        args.reviews,
        args.metadata,
        step.folder / ".preprocess",
        fields=preprocess.fields_of(args.columns),
        limit=args.limit,
        **settings,
    )
    sha256 = dict(zip(dumps, step.made_from["inputs"].values(), strict=True))
    settings |= {"columns": args.columns or "known", "limit": args.limit}
    card = data_card.card(args.dataset, splits, sha256, settings, dataset.paper)
    catalog.write_facts(dataset, args.data_root)
    for artifact, content in ((TRAIN, splits.train), (VALID, splits.valid), (TEST, splits.test), (DATA_CARD, card)):
        step.write(artifact, content)
    print(data_card.as_text(card))
    for reading in splits.readings:
        if reading.broken:
            print(f"note: {preprocess.told(reading)} and kept out")
    sizes = {name: card["stages"][name]["reviews"] for name in ("train", "valid", "test")}
    step.card(splits.stages["raw"].reviews, sum(sizes.values()), **sizes)


if __name__ == "__main__":
    utils.main(run, __doc__, flags)
