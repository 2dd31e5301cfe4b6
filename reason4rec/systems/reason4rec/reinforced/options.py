"""The options of training the Reasoner by a reward."""

from dataclasses import dataclass, fields
from typing import Literal

from reason4rec.llm.shape import size_of
from reason4rec.run.options import Number, Options, Positive, option
from reason4rec.training.policy import LossType, Policy, checked, rate_for


@dataclass(frozen=True)
class Reward(Options):
    """the reward"""

    # Within a group both differ by the same number, so that z-scores learn the same from them.
    reward: Literal["gain", "error"] = option(
        "gain", "gain: stars by which the reason brings the Predictor nearer to the rating; error: minus its error"
    )
    weight_stated: Number = option(1.0, "what a reason loses that states a rating")
    weight_empty: Number = option(1.0, "what a reason of fewer than three words loses")
    weight_endless: Number = option(0.5, "what a reason loses that has no end, repeats itself or holds special tokens")
    weight_copied: Number = option(0.5, "what a reason loses that is copied from its histories, by the copied share")

    def recorded(self) -> dict[str, object]:
        """Nothing: the weights of all parts stand in the settings of the policy."""
        return {}


@dataclass(frozen=True)
class Reinforcement(Options):
    """training by a reward (GRPO)"""

    rl_targets: Positive = option(2_000, "training targets to write reasons for, of those the Predictor did not learn")
    min_history: int = option(5, "earlier reviews of user and item a target needs")
    rl_steps: Positive = option(40, "steps")
    iterations: Positive = option(1, "times that each draw is learned from; ratios are clipped from the second on")
    least_spread: Number = option(0.01, "rewards of a group that differ by less count as equal")
    prompts_a_step: Positive = option(12, "targets in a step")
    group: Positive = option(8, "reasons that are drawn for each")
    rl_lr: Number | None = option(None, "learning rate (default: by the size of the base)")
    beta: Number = option(0.02, "weight of the KL divergence from the Reasoner that it starts from")
    epsilon: Number = option(0.2, "how far below 1 a probability ratio counts")
    epsilon_high: Number = option(0.2, "how far above 1 a probability ratio counts")
    loss_type: LossType = option("dapo", "how the loss is averaged")
    temperature: Number = option(1.0, "of the draws")
    completion_tokens: Positive = option(256, "tokens of the longest draw")
    leave_out_equal: bool = option(True, "leave groups of equal rewards out of the loss")
    mask_truncated: bool = option(False, "leave draws that were cut off out of the loss")

    def policy(self, base_model: str) -> Policy:
        """The settings of the trainer for a base; InputError for a number that nothing can be trained with."""
        rate = rate_for(size_of(base_model)) if self.rl_lr is None else self.rl_lr
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name in Policy.__dataclass_fields__}
        return checked(Policy(**named, steps=self.rl_steps, lr=rate, max_new_tokens=self.completion_tokens))

    def recorded(self) -> dict[str, object]:
        """Which targets; all else stands in the settings of the policy."""
        return {"rl_targets": self.rl_targets, "min_history": self.min_history}


@dataclass(frozen=True)
class WhichReasoner(Options):
    """the Reasoner"""

    reasoner: Literal["Reasoner", "Reasoner_rl"] = option(
        "Reasoner", "whose reasons: Reasoner_rl is the one that step 2/8 trained by a reward", later=True
    )
