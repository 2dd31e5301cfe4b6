"""Which datasets there are: what is known of each, its public files, and the facts of a new one in its own folder.

A system adds facts of its own: its `Dataset` is a subclass of the one here, and `get`, `described` and `write_facts`
take it as it is.
"""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from reason4rec.errors import InputError
from reason4rec.run import files

DEMO = "Demo_data"
FACTS = "dataset.json"
STARS = (1.0, 5.0)
AMAZON_2014 = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"


@dataclass(frozen=True)
class Dataset:
    """Facts about one dataset.

    `product_class` is what its items are, in words for prompts; `months` the time window back from the last review
    (None: all); `paper` the counts that the paper states; `scale` the lowest and the highest rating of its raw reviews,
    which the splits have mapped to 1 to 5.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str
    product_class: str
    months: int | None = None
    paper: dict[str, int] = field(default_factory=dict)
    scale: tuple[float, float] = STARS


Kind = TypeVar("Kind", bound=Dataset)
Ratings = TypeVar("Ratings")


def as_rated(ratings: Ratings, scale: tuple[float, float]) -> Ratings:
    """A rating, or several, of the splits (1 to 5) as the raw reviews have it, on their scale."""
    low, high = scale
    return low + (ratings - 1) * (high - low) / 4


def nearest_star(ratings: Any) -> Any:
    """The nearest of 1 to 5 to a rating of the splits, or to several in an array, of two the higher: 4 for 3.5."""
    return np.floor(ratings + 0.5).astype(int)


@dataclass(frozen=True)
class Download:
    """A public raw file: `bytes`, `sha256` and `reviews`, one a line, are checked where they are known.

    One without an address is behind a page where a person must accept terms.
    """

    name: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    reviews: int | None = None


# Reviews first, metadata second. No hash is published with them.
DOWNLOADS = {
    "Music_data": (
        Download(
            name="reviews_Digital_Music_5.json.gz",
            url=f"{AMAZON_2014}/reviews_Digital_Music_5.json.gz",
            reviews=64_706,
        ),
        Download(name="meta_Digital_Music.json.gz", url=f"{AMAZON_2014}/meta_Digital_Music.json.gz"),
    ),
    # The paper's Book is filtered by the steps here from the full dump (22.5 M reviews, about 10 GB); beside it lies
    # reviews_Books_5.json.gz, which is filtered already.
    "Book_data": (
        Download(name="reviews_Books.json.gz", url=f"{AMAZON_2014}/reviews_Books.json.gz"),
        Download(name="meta_Books.json.gz", url=f"{AMAZON_2014}/meta_Books.json.gz"),
    ),
    "Yelp_data": (
        Download(name="yelp_academic_dataset_review.json"),
        Download(name="yelp_academic_dataset_business.json"),
    ),
}
PAGES = {"Yelp_data": "https://business.yelp.com/data/resources/open-dataset/"}
ARCHIVES = {"Yelp_data": "yelp_dataset.tar"}  # holds both files, and is read as it is


def raw_files(name: str, data_root: Path) -> tuple[Path, Path]:
    """Where the raw reviews and metadata of a known dataset are, or are to be put; one archive may be both."""
    if name not in DOWNLOADS:
        raise InputError(f"--reviews: no public files of {name} are known, so say where its reviews are")
    folder = data_root / name / "raw"
    reviews, metadata = (folder / download.name for download in DOWNLOADS[name])
    archive = folder / ARCHIVES.get(name, "")
    return (archive, archive) if archive.is_file() and not reviews.exists() else (reviews, metadata)


def get(name: str, data_root: Path, known: Mapping[str, Kind], kind: type[Kind]) -> Kind:
    """The facts of a known dataset, or of a new one from its own `dataset.json`; InputError if there is neither."""
    if name in known:
        return known[name]
    path = data_root / name / FACTS
    if not path.is_file():
        there = [one.parent.name for one in data_root.glob(f"*/{FACTS}")]
        near = difflib.get_close_matches(name, [*known, *there], n=1, cutoff=0.7)
        raise InputError(
            f"no dataset {name!r}{f', did you mean {near[0]}?' if near else ':'} known are {', '.join(known)}; "
            f"0_Data/2_preprocess.py --dataset {name} --reviews FILE --product_class TEXT makes a new one"
        )
    try:
        dataset = TypeAdapter(kind).validate_json(path.read_bytes())
        if dataset.months is not None and dataset.months < 1:
            raise ValueError("months is neither null nor a whole number of at least 1")
        if not (all(map(math.isfinite, dataset.scale)) and dataset.scale[0] < dataset.scale[1]):
            raise ValueError("scale is no list of the lowest and the highest rating")
        return dataset
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg'].lower()}"
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error)
    raise InputError(f"{path}: not the facts of a dataset ({reason}); preprocess it again")


def described(
    name: str,
    product_class: str | None,
    data_root: Path,
    known: Mapping[str, Kind],
    new: Kind,
    scale: tuple[float, float] | None = None,
) -> Kind:
    """The facts of a dataset, with the items and the scale of a new one; InputError if a known one is given others.

    `new` has the facts of a dataset of which nothing is known.
    """
    if name in known and scale not in (None, known[name].scale):
        raise InputError(f"--scale: {name} is known and its ratings go from 1 to 5; leave the flag out")
    if product_class is None:
        old = get(name, data_root, known, type(new))
        return old if scale is None else replace(old, scale=scale)
    if name in known:
        raise InputError(f"--product_class: {name} is known and its items are called {known[name].product_class!r}")
    old = get(name, data_root, known, type(new)) if (data_root / name / FACTS).is_file() else replace(new, name=name)
    return replace(old, product_class=product_class, scale=scale or old.scale)


def write_facts(dataset: Dataset, data_root: Path, known: Mapping[str, Dataset]) -> None:
    """Writes the facts of a new dataset into its folder; those of a known one stand in the code."""
    if dataset.name not in known:
        facts = {name: value for name, value in asdict(dataset).items() if (name, value) != ("scale", STARS)}
        files.write_text(data_root / dataset.name / FACTS, json.dumps(facts, indent=1))
