"""The options of GREAM's steps, in groups; each says whether it changes what a step makes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from reason4rec.errors import InputError
from reason4rec.llm.options import BaseModel, Device
from reason4rec.llm.prompt import template
from reason4rec.run.options import Count, Number, Options, Positive, option
from reason4rec.systems.gream.prompts import ALONE, CUT, DIRECT, REASONED, SEQREC, TASKS
from reason4rec.systems.gream.prompts import FOLDER as TEMPLATES
from reason4rec.systems.gream.semantic_ids import MOST_LEVELS
from reason4rec.training.options import PolicyOptions

LISTED = 10  # items of a list, and the most of any metric


@dataclass(frozen=True)
class Questions(Options):
    """prompts"""

    used: ClassVar[tuple[str, ...]] = (SEQREC, DIRECT, REASONED, ALONE)
    """The templates that a step with these options fills; all where none is named."""

    prompts: Path | None = option(None, "folder of prompt templates to use (default: those that are shipped)")

    @property
    def folder(self) -> Path:
        """The folder of the templates."""
        return self.prompts or TEMPLATES

    def recorded(self) -> dict[str, object]:
        """The templates that are used by what they say, wherever they lie."""
        templates = sorted(self.folder.glob("*.txt"))
        if not templates:
            raise InputError(f"--prompts {self.folder}: no templates (*.txt) there; copy those of {TEMPLATES}")
        said = [(one.name, one.read_text(encoding="utf-8")) for one in templates if one.stem in (self.used or one.stem)]
        # Templates that earlier versions did not have count where they are not the shipped ones.
        said = [one for one in said if one not in _came_later()]
        text = "".join(f"{name}\n{text}\n" for name, text in said)
        return {"prompts": hashlib.sha256(text.encode()).hexdigest()}


@dataclass(frozen=True)
class Prompts(Questions):
    """prompts"""

    used: ClassVar[tuple[str, ...]] = ()

    cut: Positive = option(CUT, "characters of a description that are shown", fact="cut")

    def recorded(self) -> dict[str, object]:
        """The templates by what they say, wherever they lie, and what is shown of an item."""
        return super().recorded() | {"cut": self.cut}


def _came_later() -> list[tuple[str, str]]:
    return [(f"{name}.txt", template(name, TEMPLATES) + "\n") for name in (ALONE, f"{ALONE}_answer")]


@dataclass(frozen=True)
class Restating(Options):
    """reasoned answers"""

    restate_history: bool = option(
        True,
        "write the history again between thoughts and answer, as the released code does",
        fact="restate_history",
        later=True,
    )


@dataclass(frozen=True)
class TextUsers(Options):
    """users who get texts"""

    text_users: Positive | None = option(None, "how many, drawn at random (default: all)", fact="text_users")


@dataclass(frozen=True)
class Encoder(Options):
    """reading the texts of items"""

    encoder: Literal["base", "minilm"] = option(
        "base", "the base model itself, or all-MiniLM-L6-v2 (requirements-smollm2.txt)"
    )
    read: tuple[Literal["title", "description"], ...] = option(
        ("title", "description"), "which texts of an item; one without a description is its title", fact="read"
    )
    base_model: BaseModel = option("", "short name, hub name or folder", fact="base_model", metavar="NAME")
    device: Device = option("auto", "where it runs", changes_output=False)

    def __post_init__(self) -> None:
        if not self.read:
            raise InputError("--read: name title, description or both")

    def recorded(self) -> dict[str, object]:
        """The encoder, the base model where it is the encoder, and what is read."""
        found = super().recorded()
        return found if self.encoder == "base" else {name: of for name, of in found.items() if name != "base_model"}


@dataclass(frozen=True)
class Ids(Options):
    """semantic ids"""

    levels: Positive = option(4, "tokens of an id, without the one that tells equal ones apart", fact="levels")
    codes: Positive = option(256, "numbers of a level", fact="codes")

    def __post_init__(self) -> None:
        if self.levels > MOST_LEVELS:
            raise InputError(f"--levels {self.levels}: there are at most {MOST_LEVELS}, for which the reward is made")


@dataclass(frozen=True)
class Reasonings(Options):
    """training targets that are reasoned towards"""

    reasonings: Positive | None = option(None, "how many, drawn at random (default: all)", fact="reasonings")


@dataclass(frozen=True)
class Extended(Options):
    """the base model that gets new tokens"""

    base_model: BaseModel = option("", "short name, hub name or folder", fact="base_model", metavar="NAME")
    # Our decision; the released code draws them.
    begin_as: Literal["texts", "drawn"] = option(
        "texts", "weights of a token to begin with: near those of the words of its items' texts, or drawn alone"
    )
    read: tuple[Literal["title", "description"], ...] = option(
        ("title", "description"), "which texts of an item", fact="read"
    )


@dataclass(frozen=True)
class Rows(Options):
    """the rows that are learned"""

    tasks: tuple[Literal["seqrec", "item2index", "index2item", "fusion", "search", "preference"], ...] = option(
        TASKS, "some of the six tasks"
    )
    passes: Positive = option(3, "passes over the tasks, with other wordings in each", fact="passes")
    fusion_rows: Positive = option(50_000, "rows of the fusion task in a pass, at most", fact="fusion_rows")
    reasoned: bool = option(True, "rows with the reasonings too")


@dataclass(frozen=True)
class Order(Options):
    """the order of the rows"""

    order: Literal["curriculum", "shuffled"] = option(
        "curriculum", "as they stand in their file, or at random: what the curriculum is compared with"
    )


@dataclass(frozen=True)
class Reward(Options):
    """the reward and the advantages"""

    advantage: Literal["srpo", "grpo", "no_bonus"] = option(
        "srpo",
        "srpo: the share of the id that is right, with a bonus for the whole one; no_bonus: without it; grpo: whether "
        "the item is right",
    )


@dataclass(frozen=True)
class Reinforcement(PolicyOptions):
    """training by a reward (SRPO)"""

    rl_targets: Positive = option(10_000, "training targets to draw completions for", fact="rl_targets")
    rl_steps: Positive = option(150, "steps", fact="rl_steps")  # released code
    prompts_a_step: Positive = option(32, "prompts in a step", fact="prompts_a_step")
    rl_lr: Number | None = option(None, "learning rate (default: by the size of the base)", fact="rl_lr")
    group: Positive = option(10, "completions that are drawn for each", fact="group")  # released code
    watched: Count = option(48, "validation cases on which the greedy reward is measured; 0: none", fact="watched")
    beta: Number = option(0.001, "weight of the KL divergence from the adapter that it starts from")  # released code
    temperature: Number = option(1.0, "of the draws")  # released code
    # All levels but one of ten are paid 0.949, all levels 0.95.
    least_spread: Number = option(0.001, "rewards of a group that differ by less count as equal")
    completion_tokens: Positive = option(512, "tokens of the longest draw", fact="completion_tokens")

    def recorded(self) -> dict[str, object]:
        """Which targets; all else stands in the settings of the policy."""
        return {"rl_targets": self.rl_targets}


@dataclass(frozen=True)
class Models(Options):
    """the models that recommend"""

    models: tuple[str, ...] = option((), "names (default: all that are trained)", changes_output=False)
    # Our decision: the tenth item of a list is often no beam of a search of ten, which is the released code's.
    beams: Positive = option(30, "beams of a search, of which the best ten make the list")
    # With the released code's 1, the mean over tokens, an item whose id has one token more is favoured: that token is
    # nearly sure.
    length_penalty: Number = option(0.0, "power of an id's length that divides its log-probability")  # our decision
    max_new_tokens: Positive = option(512, "tokens of the longest thoughts", fact="completion_tokens")
    draws: Count = option(0, "replies that are drawn for each case in the reasoned mode, for pass@k")
    draw_temperature: Number = option(0.7, "of these draws")  # released code

    def __post_init__(self) -> None:
        if self.beams < LISTED:
            raise InputError(f"--beams {self.beams}: a list has {LISTED} items; search with as many beams or more")
        if self.draw_temperature <= 0:
            raise InputError(f"--draw_temperature {self.draw_temperature:g}: at 0 all draws are the same; give more")

    def recorded(self) -> dict[str, object]:
        """What decides lists and replies; the temperature where any are drawn."""
        found = super().recorded()
        return found if self.draws else {name: of for name, of in found.items() if name != "draw_temperature"}


@dataclass(frozen=True)
class Evaluation(Options):
    """the evaluation"""

    against: str = option("", "whom all others are tested against (default: popularity)")


@dataclass(frozen=True)
class Comparison(Options):
    """the comparison of parts"""

    parts: tuple[Literal["shuffled", "srpo", "no_bonus", "grpo"], ...] = option(
        ("shuffled", "srpo", "no_bonus", "grpo"),
        "which are compared with the generator: rows in random order, or a training by a reward after it",
    )
    seeds: tuple[int, ...] = option((42, 43, 44), "of the trainings; our decision")

    def __post_init__(self) -> None:
        for name, values in (("parts", self.parts), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values):
                raise InputError(f"--{name} {' '.join(map(str, values))}: name at least one, and each once")
