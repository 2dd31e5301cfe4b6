"""The options of training an adapter."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from reason4rec.llm.options import BaseModel, Device
from reason4rec.llm.shape import size_of
from reason4rec.run.options import Count, Number, Options, Positive, option
from reason4rec.training.policy import LossType, Policy, checked, rate_for
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
    new_tokens: bool | None = option(None, "train the embeddings of words that were added to the base too")
    full: bool | None = option(None, "train all weights of the base, unpacked, instead of an adapter")
    in_order: bool | None = option(None, "take the rows in the order of their file, and shuffle none")
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
    draw_at: str = option(
        "", "address of a vLLM server that draws (default: in this process)", changes_output=False, metavar="URL"
    )


@dataclass(frozen=True)
class PolicyOptions(Options):
    """training by a reward (GRPO)"""

    rl_steps: Positive = option(40, "steps")
    iterations: Positive = option(1, "times that each draw is learned from; ratios are clipped from the second on")
    least_spread: Number = option(0.01, "rewards of a group that differ by less count as equal")
    prompts_a_step: Positive = option(12, "prompts in a step")
    group: Positive = option(8, "completions that are drawn for each")
    rl_lr: Number | None = option(None, "learning rate (default: by the size of the base)")
    beta: Number = option(0.02, "weight of the KL divergence from the adapter that it starts from")
    epsilon: Number = option(0.2, "how far below 1 a probability ratio counts")
    epsilon_high: Number = option(0.2, "how far above 1 a probability ratio counts")
    loss_type: LossType = option("dapo", "how the loss is averaged")
    temperature: Number = option(1.0, "of the draws")
    completion_tokens: Positive = option(256, "tokens of the longest draw")
    leave_out_equal: bool = option(True, "leave groups of equal rewards out of the loss")
    mask_truncated: bool = option(False, "leave draws that were cut off out of the loss")
    watched: Count = option(48, "validation cases on which the greedy reward is measured; 0: none")
    watch_every: Positive = option(10, "steps between two such measurements")
    keep: Literal["best", "last"] = option(
        "best", "whose weights are kept: of the best step on these cases, or the last"
    )

    def policy(self, base_model: str) -> Policy:
        """The settings of the trainer for a base; InputError for a number that nothing can be trained with."""
        rate = rate_for(size_of(base_model)) if self.rl_lr is None else self.rl_lr
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name in Policy.__dataclass_fields__}
        return checked(Policy(**named, steps=self.rl_steps, lr=rate, max_new_tokens=self.completion_tokens))

    def recorded(self) -> dict[str, object]:
        """Nothing: the settings of the policy are recorded whole, and what it is measured on beside them."""
        return {}
