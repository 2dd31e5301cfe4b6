"""The settings of reinforcement learning in groups (GRPO), each with its origin."""

import math
from dataclasses import asdict, dataclass
from typing import Literal

from reason4rec.errors import InputError

# From how many weights of the base on a policy has which learning rate. Our decision, from trials on the demo; those of
# larger bases are what is usual for LoRA adapters.
RATES = ((6e9, 1e-5), (9e8, 2e-5), (1e8, 5e-5), (0, 3e-4))

SCHEDULE = "constant"  # our decision: a policy is trained for few steps

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


@dataclass(frozen=True)
class Policy:
    """How a policy is trained: each step learns from `group` completions of each of `prompts_a_step` prompts.

    `beta` is the weight of the KL divergence from the adapter that the training starts from; a probability ratio is
    clipped to 1 - `epsilon` to 1 + `epsilon_high`; `leave_out_equal` leaves groups whose rewards are all equal out of
    the loss, where else the divergence alone would pull at them, `least_spread` being what counts as a difference;
    `mask_truncated` leaves out completions that were cut at `max_new_tokens`. Each draw is learned from `iterations`
    times: in the first the ratio is 1, so that clipping needs two. With `spread_of` groups count as equal by the part
    of the reward of this name, whatever its weight, and not by the reward. `delta` is how far a ratio counts in all
    where the advantage is below 0 (dual clip; Ye et al., 2020, arXiv 1912.09729); None sets no bound.
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
    iterations: int
    least_spread: float
    leave_out_equal: bool
    mask_truncated: bool
    spread_of: str | None = None
    delta: float | None = None


def recorded(policy: Policy) -> dict[str, object]:
    """The settings by the names in a record: those that are None are left out."""
    return {name: value for name, value in asdict(policy).items() if value is not None}


def checked(policy: Policy) -> Policy:
    """Settings that can be trained with; InputError names one that cannot."""
    least = {
        "steps": 1,
        "iterations": 1,
        "least_spread": 0,
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
    if policy.delta is not None and not policy.delta > 1 + policy.epsilon_high:
        raise InputError(
            f"delta {policy.delta!r} of a policy: must be above 1 + epsilon_high, {1 + policy.epsilon_high:g}; else it "
            f"clips what epsilon_high lets pass"
        )
    if policy.steps % policy.iterations:
        raise InputError(f"{policy.steps} steps cannot be divided into rounds of {policy.iterations} iterations")
    if policy.leave_out_equal and policy.loss_type != "dapo":
        raise InputError(
            f"loss type {policy.loss_type}: it divides by all rows, those left out too; take dapo, or keep equal groups"
        )
    return policy


def prompts_of_each(policy: Policy, processes: int) -> int:
    """The prompts of a step that each of several processes draws for; InputError if it does not come out."""
    if policy.prompts_a_step % processes:
        raise InputError(
            f"--prompts_a_step {policy.prompts_a_step} cannot be shared evenly by {processes} processes: choose "
            f"another number of either"
        )
    return policy.prompts_a_step // processes


def rate_for(weights: float | None) -> float:
    """The learning rate for a base of so many weights; that of the largest where the number is not known."""
    return RATES[0][1] if weights is None else next(rate for least, rate in RATES if weights >= least)
