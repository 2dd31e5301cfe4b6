"""What Reason4Rec has to know of a dataset beside its reviews, with the origin of each value."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict

from reason4rec.data import catalog
from reason4rec.data.catalog import DEMO
from reason4rec.run import files
from reason4rec.run.options import Count

LLAMA_3_8B = "unsloth/llama-3-8b-Instruct-bnb-4bit"
DEMO_BASE = "reason4rec/demo/base"  # from the project's root
NEW_TAU = 0.1  # our decision for a new dataset: as Music_data


@dataclass(frozen=True)
class Dataset(catalog.Dataset):
    """Facts about one dataset.

    `tau` is the acceptance threshold of the reward filter (lower is stricter); `history_length` the entries a side in a
    prompt; `summary_targets` the reviews that the teacher summarises (None: all); `reward_targets` and
    `reason_targets` the sizes of the two disjoint training samples. `recipes` overrides training settings by expert:
    only the demo, whose data is tiny, does so.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    tau: float = field(kw_only=True)
    history_length: Count = 10
    summary_targets: int | None = None
    reward_targets: int = 8_000
    reason_targets: int = 12_000
    base_model: str = LLAMA_3_8B
    recipes: dict[str, dict] = field(default_factory=dict)


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
            product_class="Yelp Business",  # first released version
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


def get(name: str, data_root: Path) -> Dataset:
    """The facts of a dataset; InputError if it is neither known nor has its own `dataset.json`."""
    return catalog.get(name, data_root, KNOWN, Dataset)


def described(
    name: str, product_class: str | None, data_root: Path, scale: tuple[float, float] | None = None
) -> Dataset:
    """The facts of a dataset that is being made, with its items and scale; InputError as in `catalog.described`."""
    return catalog.described(name, product_class, data_root, KNOWN, Dataset(name, "", tau=NEW_TAU), scale)


def write(dataset: Dataset, data_root: Path) -> None:
    """Writes the facts of a new dataset into its folder; InputError if its name is that of no folder there."""
    files.folder_in(data_root, dataset.name, f"{catalog.FACTS}: the name")
    catalog.write_facts(dataset, data_root, KNOWN)
