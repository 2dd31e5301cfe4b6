"""Turn raw reviews into the train, valid and test splits of a known or a new dataset.

    python 0_Data/2_preprocess.py --dataset Music_data

Reads  the raw files that 1_download.py puts in raw/, or --reviews and --metadata: Amazon's dumps of 2014, 2018 and
       2023, Yelp's, Goodreads', Google Local's, or CSV, JSON or Parquet with --columns; plain or packed (an item
       without a title is called by its id)
Writes raw_data/train.pkl, raw_data/valid.pkl, raw_data/test.pkl, data_card.json, and dataset.json for a new dataset
Paper: section on data.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data import data_card, preprocess, reading
from reason4rec.data.schema import DATA_CARD, TEST, TRAIN, VALID
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.by_options import dumps_of
from reason4rec.systems.reason4rec.options import Preprocess


def run(step: utils.ExpertStep) -> None:
    options, limit = step[Preprocess], step.common.limit
    filters = {"core": options.core, "months": step.dataset.months, "window_first": options.window_first}
    reviews, metadata = (dump and step.path(dump) for dump in dumps_of(step))
    fields, scratch = preprocess.fields_of(options.columns), step.folder / ".preprocess"
    (step.folder / reading.BROKEN).unlink(missing_ok=True)
    how = preprocess.How(
        encodings=preprocess.encodings_of(options.encoding),
        scale=step.dataset.scale,
        broken=options.broken_lines,
        folder=step.folder,
    )
    splits = preprocess.preprocess(reviews, metadata, scratch, fields=fields, limit=limit, how=how, **filters)
    sha256 = dict(zip(map(step.path, step.reads), step.provenance["inputs"].values(), strict=True))
    settings = filters | {"columns": options.columns or "known", "limit": limit}
    settings |= options.recorded_later() | step.spec.settings(step)
    card = data_card.card(step.dataset.name, splits, sha256, settings, step.dataset.paper)
    facts.write(step.dataset, step.folder.parent)
    for artifact, content in ((TRAIN, splits.train), (VALID, splits.valid), (TEST, splits.test), (DATA_CARD, card)):
        step.write(artifact, content)
    print(data_card.as_text(card))
    for found in splits.readings:
        if found.broken:
            print(f"note: {reading.broken_lines(found, ' and kept out')}")
    for note in splits.notes:
        print(f"note: {note}")
    warn(card)
    sizes = {name: card["stages"][name]["reviews"] for name in ("train", "valid", "test")}
    step.summary(splits.stages["raw"].reviews, sum(sizes.values()), **sizes)


def show(step: utils.ExpertStep) -> None:
    facts.write(step.dataset, step.folder.parent)
    card = json.loads(step.path(DATA_CARD).read_text(encoding="utf-8"))
    print(data_card.as_text(card))
    warn(card)


def warn(card: dict) -> None:
    if warning := data_card.warning(card):
        print(f"warning: {warning}")


if __name__ == "__main__":
    utils.start(run, __doc__, show)
