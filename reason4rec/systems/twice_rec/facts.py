"""What TWiCE-Rec has to know of a dataset beside its sequences, with the origin of each value."""

from dataclasses import asdict, dataclass, field

from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.twice_rec.prompts import CUT, FIELDS

DEMO_SEQUENCES = "Demo_sequences"
GEMMA_3_1B = "google/gemma-3-1b-it"


@dataclass(frozen=True)
class Dataset:
    """Facts about one dataset; those here are the paper's, or the released code's, for all of them.

    `n_candidates` are the items in a list, the target among them; `fields` what prompts show of an item beside its
    title and id, up to `cut` characters of a text. `train_cases` and `rationale_targets` are the training cases that
    are learned from and that get a rationale, `cases` those of a split that are judged (None: all). `rl_steps` and
    `rl_targets` are the steps of the training by a reward and the training cases it draws from, `prompts_a_step` of
    them in a step; `watched` validation cases it is measured on. `recipes` overrides
    training settings by adapter. `released` counts the users and items of data that is published with the paper.
    """

    base_model: str = GEMMA_3_1B
    n_candidates: int = 30
    fields: tuple[str, ...] = FIELDS
    cut: int = CUT
    train_cases: int | None = None
    rationale_targets: int | None = None
    cases: int | None = None
    rl_steps: int = 200
    rl_targets: int = 1_700  # released code: 15% of Grocery's training cases
    completion_tokens: int = 300
    prompts_a_step: int = 8  # released code
    watched: int = 48
    recipes: dict[str, dict] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)


KNOWN = {
    # Short prompts, few judged cases and few steps, so that the demo fits in its minutes; our decisions. From a third
    # of the training cases the tiny base did not learn to name an id of the list.
    DEMO_SEQUENCES: Dataset(
        base_model=DEMO_BASE,
        n_candidates=10,
        fields=("description",),
        cut=60,
        cases=200,
        rl_steps=10,
        rl_targets=300,
        prompts_a_step=4,
        watched=24,
        completion_tokens=150,
        recipes={"Recommender": {"lr": 3e-3, "epochs": 2, "batch_size": 16, "warmup": 0.1, "rank": 32, "alpha": 64}},
    ),
    "Grocery": Dataset(released={"users": 11_334, "items": 6_149}),
}


def get(name: str) -> Dataset:
    """The facts of a dataset; of one that is not known those that hold for all."""
    return KNOWN.get(name, Dataset())


def by_name(name: str) -> dict[str, object]:
    """The facts of a dataset by their names."""
    return asdict(get(name))
