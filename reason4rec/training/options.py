"""The options of training an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reason4rec.llm.options import BaseModel, Device
from reason4rec.run.options import Number, Options, Positive, option
from reason4rec.training.recipe import MAX_LENGTH, SAVE_MINUTES
from reason4rec.training.trackers import Tracker


@dataclass(frozen=True)
class Training(Options):
    """training an adapter (default: the recipe of the expert)"""

    base_model: BaseModel = option("", "short name, hub name or folder", fact="base_model", metavar="NAME")
    max_length: Positive = option(MAX_LENGTH, "tokens of the longest row")
    rank: Positive | None = option(None, "rank of the adapter")
    alpha: Positive | None = option(None, "scale of the adapter, over its rank")
    dropout: Number | None = option(None, "share of the adapter's inputs that are dropped")
    lr: Number | None = option(None, "learning rate (default: the recipe's, by the size of the base)")
    warmup: Number | None = option(None, "steps of warm-up, at most a tenth of all; below 1 their share")
    epochs: Number | None = option(None, "passes over the rows")
    batch_size: Positive | None = option(None, "rows a step, over all accumulated parts")
    lm_head: bool | None = option(None, "train and save the output head too")
    start_from: Path | None = option(
        None, "folder of a trained adapter to train further (default: a new adapter)", one_step=True, metavar="FOLDER"
    )

    def recorded(self) -> dict[str, object]:
        """Nothing: the recipe that results is recorded whole."""
        return {}


@dataclass(frozen=True)
class Execution(Options):
    """how an adapter is trained; none of this puts it out of date"""

    engine: Literal["auto", "unsloth", "transformers"] = option("auto", "training stack", changes_output=False)
    device: Device = option("auto", "where to train", changes_output=False)
    gradient_accumulation: Positive = option(1, "parts that a step is computed in", changes_output=False)
    padding_free: bool | None = option(
        None,
        "lay the rows of a batch end to end instead of padding them (default: yes; unsloth has its own way)",
        changes_output=False,
    )
    gradient_checkpointing: bool | None = option(
        None,
        "compute activations twice instead of keeping them: less memory, more time (default: on a GPU, and of the "
        "rows for which memory is too short)",
        changes_output=False,
    )
    save_minutes: Positive = option(SAVE_MINUTES, "minutes between checkpoints within an epoch", changes_output=False)
    report_to: tuple[Tracker, ...] = option((), "trackers that are told the losses", changes_output=False)


@dataclass(frozen=True)
class RunsOn(Options):
    """how it is trained; none of this puts it out of date"""

    execution = True

    device: Device = option("auto", "where to train", changes_output=False)
    save_minutes: Positive = option(SAVE_MINUTES, "minutes between checkpoints", changes_output=False)
    report_to: tuple[Tracker, ...] = option((), "trackers that are told the rewards", changes_output=False)
