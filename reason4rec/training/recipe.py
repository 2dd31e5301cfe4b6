"""How each adapter is trained: every hyper-parameter with its origin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Training settings of one adapter; `warmup` below 1 is a share of all steps, from 1 on a number of steps."""

    rank: int
    alpha: int
    dropout: float
    lr: float
    warmup: float
    epochs: float
    batch_size: int
    lm_head: bool


TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # released code
OPTIMIZER = "adamw_8bit"  # released code
SCHEDULE = "linear"  # transformers' default; the released code's is not known
MAX_LENGTH = 4096  # released code
