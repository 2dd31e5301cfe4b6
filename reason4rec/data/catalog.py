"""Which datasets there are, and the facts about each that a step needs."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import files

LLAMA_3_8B = "unsloth/llama-3-8b-Instruct-bnb-4bit"
DEMO_BASE = "reason4rec/demo/base"  # from the root of a clone, where every command runs
DEMO = "Demo_data"
FACTS = "dataset.json"
NEW_TAU = 0.1  # our decision for a new dataset: as Music_data
AMAZON_2014 = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"


@dataclass(frozen=True)
class Dataset:
    """Facts about one dataset.

    `tau` is the acceptance threshold of the reward filter (lower is stricter); `months` the time window
    back from the last review (None: all); `history_length` the entries a side in a prompt; `summary_targets` the
    reviews that the teacher summarises (None: all); `reward_targets` and `reason_targets` the sizes of the two
    disjoint training samples; `paper` the counts that the paper states. `recipes` overrides training settings by
    adapter: only the demo, whose data is tiny, does so.
    """

    name: str
    product_class: str
    tau: float
    months: int | None = None
    history_length: int = 10
    summary_targets: int | None = None
    reward_targets: int = 8_000
    reason_targets: int = 12_000
    base_model: str = LLAMA_3_8B
    paper: dict[str, int] = field(default_factory=dict)
    recipes: dict[str, dict] = field(default_factory=dict)


_KINDS = {
    str: str,
    float: (int, float),
    int: int,
    int | None: (int, type(None)),
    dict[str, int]: dict,
    dict[str, dict]: dict,
}
KNOWN = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="Music_data",
            product_class="Digital Music",
            tau=0.1,  # released code
            paper={"interactions": 64_706, "users": 5_541, "items": 3_568, "warm_test_rows": 1_273},
        ),
        Dataset(
            name="Book_data",
            product_class="Book",
            tau=0.2,  # stated by a third party who read the paper
            months=2,
            paper={"interactions": 540_074, "users": 174_050, "items": 127_821, "warm_test_rows": 5_100},
        ),
        Dataset(
            name="Yelp_data",
            product_class="Restaurant or local business",  # our wording; the paper's is not known
            tau=0.08,  # stated by a third party who read the paper
            months=6,
            paper={"interactions": 302_558, "users": 173_099, "items": 67_854, "warm_test_rows": 3_863},
        ),
        Dataset(
            name=DEMO,
            product_class="Album",
            tau=0.1,  # as Music_data
            history_length=6,  # shorter prompts, so that the demo fits in its ten minutes
            summary_targets=240,
            reward_targets=160,
            reason_targets=240,
            base_model=DEMO_BASE,
            recipes={
                "Summarizer": {"epochs": 2, "warmup": 0.1, "lr": 1e-3},
                "reason_reward_model": {"lr": 1e-3, "epochs": 2},
                "Reasoner": {"epochs": 2, "warmup": 0.1, "lr": 1e-3, "batch_size": 16},
                "Predictor": {"lr": 1e-3, "epochs": 2},
            },
        ),
    )
}


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


def get(name: str, data_root: Path) -> Dataset:
    """The facts of a known dataset, or of a new one from its own `dataset.json`; InputError if there is neither."""
    if name in KNOWN:
        return KNOWN[name]
    path = data_root / name / FACTS
    if not path.is_file():
        raise InputError(
            f"no dataset {name!r}: known are {', '.join(KNOWN)}; "
            f"0_Data/2_preprocess.py --dataset {name} --reviews FILE --product_class TEXT makes a new one"
        )
    try:
        dataset = Dataset(**json.loads(path.read_text(encoding="utf-8")))
        for fact in fields(Dataset):
            if not isinstance(getattr(dataset, fact.name), _KINDS[fact.type]):
                raise TypeError(f"{fact.name} is no {fact.type}")
        if dataset.months is not None and not (isinstance(dataset.months, int) and dataset.months > 0):
            raise ValueError("months is neither null nor a whole number of at least 1")
        return dataset
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the facts of a dataset ({error}); preprocess it again") from error


def described(name: str, product_class: str | None, data_root: Path) -> Dataset:
    """The facts of a dataset, with what the items of a new one are; InputError if a known one is given other words."""
    if product_class is None:
        return get(name, data_root)
    if name in KNOWN:
        raise InputError(f"--product_class: {name} is known and its items are called {KNOWN[name].product_class!r}")
    old = get(name, data_root) if (data_root / name / FACTS).is_file() else Dataset(name, product_class, NEW_TAU)
    return replace(old, product_class=product_class)


def write_facts(dataset: Dataset, data_root: Path) -> None:
    """Writes the facts of a new dataset into its folder; those of a known one stand in this module."""
    if dataset.name not in KNOWN:
        files.write_text(data_root / dataset.name / FACTS, json.dumps(asdict(dataset), indent=1))
