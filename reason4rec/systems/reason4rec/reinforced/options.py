"""The options of training the Reasoner by a reward."""

from dataclasses import dataclass
from typing import Literal

from reason4rec.run.options import Number, Options, Positive, option
from reason4rec.training.options import PolicyOptions


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
    weight_faithful: Number = option(
        0.0,
        "what a reason gains by the share of the aspects it names that its histories hold; 0: only measured",
        later=True,
    )

    def recorded(self) -> dict[str, object]:
        """Nothing: the weights of all parts stand in the settings of the policy."""
        return {}


@dataclass(frozen=True)
class Reinforcement(PolicyOptions):
    """training by a reward (GRPO)"""

    rl_targets: Positive = option(2_000, "training targets to write reasons for, of those the Predictor did not learn")
    min_history: int = option(5, "earlier reviews of user and item a target needs")

    def recorded(self) -> dict[str, object]:
        """Which targets; all else stands in the settings of the policy."""
        return {"rl_targets": self.rl_targets, "min_history": self.min_history}


@dataclass(frozen=True)
class WhichReasoner(Options):
    """the Reasoner"""

    reasoner: Literal["Reasoner", "Reasoner_rl"] = option(
        "Reasoner", "whose reasons: Reasoner_rl is the one that step 2/8 trained by a reward", later=True
    )
