"""How each adapter is trained: every hyper-parameter with its origin."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reason4rec.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Training settings of one adapter; `warmup` below 1 is a share of all steps, from 1 on a number of steps.

    `new_tokens` trains the embeddings of the words that were added to the base, and their rows of its output head,
    beside the adapter; `in_order` takes the rows as they stand in their file, in every epoch, and shuffles none. With
    `full` there is no adapter: all weights of the base are trained, its head and new tokens too, and none is in 4 bits.
    """

    rank: int
    alpha: int
    dropout: float
    lr: float
    warmup: float
    epochs: float
    batch_size: int
    lm_head: bool
    new_tokens: bool = False
    in_order: bool = False
    full: bool = False


TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # released code
OPTIMIZER = "adamw_8bit"  # released code
SCHEDULE = "linear"  # transformers' default, since the released code names none
MAX_LENGTH = 4096  # released code
LONGEST_WARMUP = 0.1  # of all steps, where a warm-up is a number of steps; our decision
SAVE_MINUTES = 10  # our decision; saving changes no result

# From how many weights of the base on a learning rate is multiplied by what: the recipes are those of an 8B base, and
# the best rate falls about as a base gets wider, so with the cube root of its weights. Our decision.
RATE_FACTORS = ((6e9, 1), (9e8, 2), (0, 4))

LEAST_STEPS = 10  # of an epoch, where a recipe's batch is not set

# What a number must be at least, or above, and what it must be below.
AT_LEAST = {"rank": 1, "alpha": 1, "batch_size": 1, "dropout": 0, "warmup": 0}
ABOVE = {"lr": 0, "epochs": 0}
BELOW = {"dropout": 1}

# What earlier versions did not have: it is recorded where it is used, so that what they trained stays up to date.
LATER = ("new_tokens", "in_order", "full")


def checked(recipe: Recipe) -> Recipe:
    """A recipe whose numbers can be trained with; InputError names the option of one that cannot."""
    for names, fits, words in (
        (AT_LEAST, lambda value, bound: value >= bound, "at least"),
        (ABOVE, lambda value, bound: value > bound, "above"),
        (BELOW, lambda value, bound: value < bound, "below"),
    ):
        for name, bound in names.items():
            value = getattr(recipe, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not fits(value, bound):
                raise InputError(
                    f"--{name} {value!r}: must be a number {words} {bound}; so must it in a dataset's recipe"
                )
    if recipe.full and (recipe.new_tokens or recipe.lm_head):
        raise InputError("--full trains all weights: pass --no-lm_head and --no-new_tokens with it")
    if recipe.new_tokens and recipe.lm_head:
        raise InputError("--new_tokens trains the new rows of the output head alone: pass --no-lm_head with it")
    return recipe


def recorded(recipe: Recipe) -> dict[str, object]:
    """The settings of a recipe by the names in the record."""
    return {name: value for name, value in asdict(recipe).items() if value or name not in LATER}


def recipe_in(settings: Mapping[str, object]) -> Recipe:
    """The recipe that stands in the settings of an adapter."""
    return Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__ if name in settings})


def warmup_steps(recipe: Recipe, n_rows: int) -> float:
    """The warm-up of a training on so many rows, as transformers takes it: below 1 a share of all steps, else steps.

    A number of steps is at most LONGEST_WARMUP of all, so that it ends on little data too. Our decision.
    """
    if recipe.warmup < 1:
        return recipe.warmup
    steps = math.ceil(recipe.epochs * math.ceil(n_rows / recipe.batch_size))
    longest = math.ceil(LONGEST_WARMUP * steps)
    if recipe.warmup > longest:
        print(f"warm-up of {longest} steps, not {recipe.warmup:g}: at most a tenth of all {steps}", flush=True)
    return min(recipe.warmup, longest)


def batch_for(batch_size: int, n_rows: int) -> int:
    """The rows of a step on so many rows in all: a recipe's, halved until an epoch has LEAST_STEPS steps. Our decision.

    So that little data is learned from too: 20 rows in batches of 32 are one step an epoch.
    """
    while batch_size > 1 and n_rows / batch_size < LEAST_STEPS:
        batch_size = (batch_size + 1) // 2
    return batch_size


def rate_factor(weights: float | None) -> int:
    """By what a recipe's learning rate is multiplied for a base of so many weights; 1 where that is not known."""
    return 1 if weights is None else next(factor for least, factor in RATE_FACTORS if weights >= least)
