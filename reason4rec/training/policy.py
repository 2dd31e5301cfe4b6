"""The settings of reinforcement learning in groups (GRPO), each with its origin."""

import math
from dataclasses import dataclass
from typing import Literal

from reason4rec.errors import InputError

# From how many weights of the base on a policy has which learning rate. Our decision, from trials on the demo; those of
# larger bases are what is usual for LoRA adapters.
RATES = ((6e9, 1e-5), (9e8, 2e-5), (1e8, 5e-5), (0, 3e-4))

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


@dataclass(frozen=True)
class Policy:
    """How a policy is trained: each step learns from `group` completions of each of `prompts_a_step` prompts.

    `beta` is the weight of the KL divergence from the adapter that the training starts from; a probability ratio is
    clipped to 1 - `epsilon` to 1 + `epsilon_high`; `leave_out_equal` leaves groups whose rewards are all equal out of
    the loss, where else the divergence alone would pull at them; `mask_truncated` leaves out completions that were cut
    at `max_new_tokens`.
    """

    steps: int
    prompts_a_step: int
    group: int
    lr: float
    beta: float
    epsilon: float
    epsilon_high: float
    loss_type: LossType
    temperature: float
    max_new_tokens: int
    leave_out_equal: bool
    mask_truncated: bool


def checked(policy: Policy) -> Policy:
    """Settings that can be trained with; InputError names one that cannot."""
    least = {
        "steps": 1,
        "prompts_a_step": 1,
        "group": 2,
        "max_new_tokens": 1,
        "beta": 0,
        "epsilon": 0,
        "epsilon_high": 0,
    }
    for name, bound in least.items():
        value = getattr(policy, name)
        if not (math.isfinite(value) and value >= bound):
            raise InputError(f"{name} {value!r} of a policy: must be a number of at least {bound}")
    for name in ("lr", "temperature"):
        value = getattr(policy, name)
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value!r} of a policy: must be a number above 0")
    return policy


def rate_for(weights: float | None) -> float:
    """The learning rate for a base of so many weights; that of the largest where the number is not known."""
    return RATES[0][1] if weights is None else next(rate for least, rate in RATES if weights >= least)
