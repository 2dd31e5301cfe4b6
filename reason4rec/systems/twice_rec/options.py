"""The options of TWiCE-Rec's steps, in groups; each says whether it changes what a step makes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reason4rec.data.sequences import LEAST_RATING, LONGEST, SHORTEST
from reason4rec.errors import InputError
from reason4rec.llm.options import Device
from reason4rec.run.options import Count, Number, Options, Positive, option
from reason4rec.systems.twice_rec.prompts import FIELDS
from reason4rec.systems.twice_rec.prompts import FOLDER as TEMPLATES
from reason4rec.training.options import PolicyOptions

TASKS = ("describe", "item_only", "rationale_first")


@dataclass(frozen=True)
class Sequences(Options):
    """sequences of items"""

    sequences: Path | None = option(
        None, "ready sequences (default: from the splits of 0_Data/2_preprocess.py)", changes_output=False
    )
    items: Path | None = option(None, "the items of ready sequences", changes_output=False, metavar="FILE")
    metadata: Path | None = option(
        None, "raw metadata with the items' descriptions", changes_output=False, metavar="FILE"
    )
    least_rating: Number = option(LEAST_RATING, "stars from which on a review is a choice; 1 takes all")
    shortest: Positive = option(SHORTEST, "least items of a user")
    longest: Positive = option(LONGEST, "most items of a user, the last ones")


@dataclass(frozen=True)
class Candidates(Options):
    """lists of candidates"""

    n_candidates: Positive = option(30, "items in a list, the target among them", fact="n_candidates")
    sampling: Literal["uniform", "popular"] = option("uniform", "how the others are drawn")


@dataclass(frozen=True)
class Collaborative(Options):
    """training the collaborative model"""

    epochs_most: Positive = option(200, "passes over the sequences, unless the validation gets no better before")
    sasrec_loss: Literal["softmax", "bce"] = option(
        "softmax", "over the whole catalogue, or of one drawn item, as in the released code"
    )
    device: Device = option("auto", "where to train", changes_output=False)


@dataclass(frozen=True)
class Prompts(Options):
    """prompts

    InputError for a field that no item has.
    """

    prompts: Path | None = option(None, "folder of prompt templates to use (default: those that are shipped)")
    fields: tuple[str, ...] = option(FIELDS, f"what is shown of an item: some of {', '.join(FIELDS)}", fact="fields")
    cut: Positive = option(300, "characters of a text that are shown", fact="cut")

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.fields) - set(FIELDS)):
            raise InputError(f"--fields {unknown[0]}: no such field; there are {', '.join(FIELDS)}")

    @property
    def folder(self) -> Path:
        """The folder of the templates."""
        return self.prompts or TEMPLATES

    def recorded(self) -> dict[str, object]:
        """The templates by what they say, wherever they lie, and what is shown of an item."""
        templates = sorted(self.folder.glob("*.txt"))
        if not templates:
            raise InputError(f"--prompts {self.folder}: no templates (*.txt) there; copy those of {TEMPLATES}")
        text = "".join(f"{one.name}\n{one.read_text(encoding='utf-8')}\n" for one in templates)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return {"prompts": sha256, "fields": list(self.fields), "cut": self.cut}


@dataclass(frozen=True)
class RationaleTargets(Options):
    """training cases that get a rationale"""

    rationale_targets: Positive | None = option(
        None, "how many, drawn at random (default: all)", fact="rationale_targets"
    )


@dataclass(frozen=True)
class Tasks(Options):
    """the tasks that are learned"""

    tasks: tuple[Literal["describe", "item_only", "rationale_first"], ...] = option(TASKS, "some of the three tasks")
    train_cases: Positive | None = option(
        None, "training cases of item_only, drawn at random (default: all)", fact="train_cases"
    )


@dataclass(frozen=True)
class Reward(Options):
    """the reward"""

    reward: Literal["mended", "faithful", "match"] = option(
        "mended",
        "mended: needs the id in the list and its own title, confidence among the candidates; faithful: as in the "
        "released code; match: whether the item is right, without the collaborative model",
    )
    confidence: Literal["debiased", "list_softmax"] = option(
        "debiased", "of the mended reward: the logit less the item's mean, or a softmax over the candidates"
    )
    lam: Number = option(3.0, "weight of the confidence where the item is right")  # released code
    tau: Number | None = option(
        None, "confidence below which it counts nothing (default: 0.3 in faithful, else what chance gives)"
    )


@dataclass(frozen=True)
class Reinforcement(PolicyOptions):
    """training by a reward (GRPO)"""

    rl_targets: Positive = option(1_700, "training cases to draw completions for", fact="rl_targets")
    rl_steps: Positive = option(200, "steps", fact="rl_steps")
    prompts_a_step: Positive = option(8, "prompts in a step", fact="prompts_a_step")  # released code
    watched: Count = option(48, "validation cases on which the greedy reward is measured; 0: none", fact="watched")
    watch_every: Positive = option(6, "steps between two such measurements")
    beta: Number = option(0.04, "weight of the KL divergence from the adapter that it starts from")  # released code
    temperature: Number = option(0.9, "of the draws")  # released code
    completion_tokens: Positive = option(300, "tokens of the longest draw", fact="completion_tokens")  # released code

    def recorded(self) -> dict[str, object]:
        """Which cases; all else stands in the settings of the policy."""
        return {"rl_targets": self.rl_targets}


@dataclass(frozen=True)
class Split(Options):
    """the cases that are asked about"""

    split: Literal["test", "valid"] = option("test", "which: valid is for choosing settings")


@dataclass(frozen=True)
class Cases(Options):
    """how many cases are asked about"""

    cases: Positive | None = option(None, "drawn at random (default: all)", fact="cases")


@dataclass(frozen=True)
class Models(Options):
    """the models that rank"""

    models: tuple[str, ...] = option((), "names (default: all that are trained)", changes_output=False)
    max_new_tokens: Positive = option(300, "tokens of the longest reply", fact="completion_tokens")
    draws: Count = option(0, "replies that are drawn for each case beside the greedy one, for pass@k", later=True)
    draw_temperature: Number = option(1.5, "of these draws", later=True)  # released code, as the next two
    draw_top_k: Count = option(120, "likeliest tokens that they are drawn from; 0: all", later=True)
    draw_top_p: Number = option(0.95, "of these the likeliest that have so much of the probability", later=True)

    def __post_init__(self) -> None:
        if self.draw_temperature <= 0:
            raise InputError(f"--draw_temperature {self.draw_temperature:g}: at 0 all draws are the same; give more")


@dataclass(frozen=True)
class Evaluation(Options):
    """the evaluation"""

    scored: Literal["mean", "sum"] = option(
        "mean", "a candidate's log-probability: over its number of tokens, or whole"
    )
    against: str = option("", "whom all others are tested against (default: the supervised recommender)")


@dataclass(frozen=True)
class Quality(Options):
    """quality of the rationales"""

    judge: bool = option(False, "ask the teacher for grades of 0 to 3")


@dataclass(frozen=True)
class CaseStudy(Options):
    """page of case studies"""

    rows: Positive = option(60, "cases on the page, at most")


@dataclass(frozen=True)
class Comparison(Options):
    """the comparison of rewards"""

    rewards: tuple[Literal["mended", "faithful", "match"], ...] = option(
        ("match", "faithful", "mended"), "which are compared"
    )
    seeds: tuple[int, ...] = option((42, 43, 44), "of the trainings; our decision")
