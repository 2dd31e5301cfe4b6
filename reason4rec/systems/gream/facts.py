"""What GREAM has to know of a dataset beside its sequences, with the origin of each value."""

from dataclasses import asdict, dataclass, field

from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.twice_rec import facts as of_sequences
from reason4rec.systems.twice_rec.facts import DEMO_SEQUENCES

QWEN3_4B = "Qwen/Qwen3-4B-Instruct-2507"


@dataclass(frozen=True)
class Dataset:
    """Facts about one dataset; those here are the released code's, or our decisions, for all of them.

    Semantic ids have `levels` of `codes` codes, and are made of the texts in `read`. `passes` are those over the six
    tasks, with `fusion_rows` rows of the fusion task in each. `text_users` and `reasonings` are the users and the
    training targets that a teacher writes on, `cases` those of a split that are judged (None: all). Reasoned answers
    have the history once more with `restate_history`. `rl_steps` and `rl_targets` are the steps of the training by a
    reward and the training targets it draws from, `prompts_a_step` of them in a step, with `group` completions each, at
    the rate `rl_lr` (None: by the size of the base); `watched` validation cases it is measured on. `recipes` overrides
    training settings by adapter. `released` counts the users and items of data that is published.
    """

    base_model: str = QWEN3_4B
    read: tuple[str, ...] = ("title", "description")
    levels: int = 4
    codes: int = 256
    cut: int = 300
    passes: int = 3
    fusion_rows: int = 50_000
    text_users: int | None = None
    reasonings: int | None = None
    restate_history: bool = True
    cases: int | None = None
    rl_steps: int = 150
    rl_targets: int = 10_000  # our decision: more than 150 steps of 32 prompts draw
    prompts_a_step: int = 32  # our decision, for one GPU; released code: 256 on eight
    group: int = 10
    completion_tokens: int = 512  # our decision, for one GPU; released code: 1,560
    rl_lr: float | None = None
    watched: int = 48
    recipes: dict[str, dict] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)


KNOWN = {
    DEMO_SEQUENCES: Dataset(
        base_model=DEMO_BASE,
        # Titles of the made-up world mean nothing. With them, items with the same first code are chosen by the same
        # users 1.08 times as often as any two, without them 1.44 times.
        read=("description",),
        # In counts of what users choose together, lists by the first code alone find 0.33 of the validation targets
        # with 24 codes, 0.29 with 8, and popularity 0.24.
        levels=2,
        codes=24,
        passes=3,
        fusion_rows=100,
        text_users=60,
        reasonings=1_200,
        # The tiny base does not learn to copy a history: asked to, it came to no answer in any greedy reply.
        restate_history=False,
        rl_steps=12,
        rl_targets=200,
        prompts_a_step=8,
        group=8,
        # At the 3e-4 of a base of this size, 40 steps lost the form of one greedy answer in seven.
        rl_lr=5e-5,
        completion_tokens=160,
        watched=100,
        # Most rows are those of seqrec. On as many of them, batches of 8 at 2e-3 came to a validation loss of 4.81 per
        # item, batches of 16 at 4e-3 (all weights trained) to 4.89, one trial each; popularity has 4.77.
        recipes={"Generator": {"lr": 2e-3, "epochs": 1, "batch_size": 8, "warmup": 0.02, "rank": 32, "alpha": 64}},
    ),
    "Grocery": Dataset(released=of_sequences.get("Grocery").released),
}


def get(name: str) -> Dataset:
    """The facts of a dataset; of one that is not known those that hold for all."""
    return KNOWN.get(name, Dataset())


def by_name(name: str) -> dict[str, object]:
    """The facts of a dataset by their names, and those of its sequences and lists, which are TWiCE-Rec's."""
    return {"n_candidates": of_sequences.get(name).n_candidates} | asdict(get(name))
