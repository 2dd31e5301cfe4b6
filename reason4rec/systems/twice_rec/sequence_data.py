"""Where the sequences and items of a dataset come from, and the card that describes them."""

from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.data import metadata, schema
from reason4rec.data import sequences as of
from reason4rec.data.catalog import DEMO
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.run import markdown
from reason4rec.systems.reason4rec.artifacts import DEMO_METADATA
from reason4rec.systems.twice_rec import artifacts
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.facts import DEMO_SEQUENCES
from reason4rec.systems.twice_rec.options import Sequences

if TYPE_CHECKING:
    from pathlib import Path

    from reason4rec.run.files import Artifact
    from reason4rec.systems.twice_rec.step import RecommenderStep

CHOOSING = {"least_rating": of.LEAST_RATING, "shortest": of.SHORTEST, "longest": of.LONGEST}  # of reviews


def reads(step: "RecommenderStep") -> "list[Artifact | Path]":
    """What the sequences are made of; InputError for options that do not go together."""
    given = step[Sequences]
    if (given.sequences is None) != (given.items is None):
        raise InputError("--sequences and --items belong together: pass both, or none for the splits of the dataset")
    if given.sequences is not None:
        if given.metadata is not None:
            raise InputError("--metadata is for the splits of a dataset; ready --items have their own descriptions")
        _refuse_choosing(given, "ready sequences")
        return [given.sequences, given.items]
    if step.common.dataset == DEMO_SEQUENCES:
        if given.metadata is not None:
            raise InputError("--metadata is for the splits of a dataset; the demo has descriptions of its own")
        _refuse_choosing(given, "the sequences of the demo")
        return [artifacts.DEMO_SEQUENCES, artifacts.DEMO_ITEMS]
    described = given.metadata or (DEMO_METADATA if step.common.dataset == DEMO else None)
    return [TRAIN, VALID, TEST, *([described] if described else [])]


def _refuse_choosing(given: Sequences, what: str) -> None:
    for name, default in CHOOSING.items():
        if (value := getattr(given, name)) != default:
            raise InputError(f"--{name} {value:g}: {what} are taken as they are; leave it out")


def read(step: "RecommenderStep") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sequences and the items, of ready files or of all reviews of a dataset."""
    given, sources = step[Sequences], reads(step)
    if len(sources) == 2:
        sequences, items = of.read_ready(*map(step.path, sources))
    else:
        reviews = pd.concat([schema.read(step.folder, split) for split in (TRAIN, VALID, TEST)], ignore_index=True)
        sequences = of.from_reviews(reviews, given.least_rating, given.shortest, given.longest)
        titles = reviews.drop_duplicates("item_id")[["item_id", "title"]]
        texts = metadata.texts_of_items(step.path(sources[3])) if len(sources) > 3 else None
        items = _described(titles, texts)
    of.check_items(items, "items")
    of.check_sequences(sequences, "sequences", set(items["item_id"]))
    Catalogue(items)  # before anything is made of ids that no answer can name
    return sequences, items


def _described(titles: pd.DataFrame, texts: pd.DataFrame | None) -> pd.DataFrame:
    if texts is None:
        return titles.assign(description="", details="").reset_index(drop=True)
    if not titles["item_id"].isin(texts["item_id"]).any():
        raise InputError("--metadata: it has none of the items of the reviews; name the file of the same dataset")
    return titles.merge(texts, on="item_id", how="left").fillna({"description": "", "details": ""})


def card(step: "RecommenderStep", sequences: pd.DataFrame, items: pd.DataFrame) -> dict:
    """What is told of the data: counts, lengths, how often items were chosen, and what is known of them."""
    lengths = sequences.groupby("user_id", sort=False).size()
    times = sequences["item_id"].value_counts().reindex(items["item_id"], fill_value=0)
    seen = sequences.groupby("user_id", sort=False)["position"].transform("max") - sequences["position"] >= 2
    trained = set(sequences.loc[seen, "item_id"])
    targets = sequences.groupby("user_id", sort=False)["item_id"].last()
    return {
        "dataset": step.common.dataset,
        "users": len(lengths),
        "items": len(items),
        "chosen": len(sequences),
        "density": round(len(sequences) / (len(lengths) * len(items)), 6),
        "length": _spread(lengths),
        "times_an_item_was_chosen": _spread(times),
        "test_targets_not_in_training": int((~targets.isin(trained)).sum()),
        "items_without_description": int((items["description"] == "").sum()),
        "titles_of_several_items": int(items["title"].duplicated(keep=False).sum()),
        "with_rating": int(sequences["ratings"].notna().sum()),
        "with_review": int((sequences["reviews"] != "").sum()),
    }


def _spread(numbers: pd.Series) -> dict[str, float]:
    found = numbers.quantile([0, 0.5, 0.95, 1]).tolist()
    return dict(zip(("least", "median", "p95", "most"), found)) | {"mean": round(float(numbers.mean()), 2)}


def as_text(card: dict) -> str:
    """The card for a terminal."""
    rows = []
    for name, value in card.items():
        shown = _shown(value)
        rows.append([name.replace("_", " "), shown])
    return markdown.table(["of the sequences", ""], rows)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one:g}" for key, one in value.items())
    return value if isinstance(value, str) else f"{value:,}"
