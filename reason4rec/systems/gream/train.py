"""Train the generator on rows of six tasks and on reasonings: QLoRA fine-tuning of one adapter, with the new tokens.

    python -m reason4rec.systems.gream.train --dataset Grocery

Reads  gream/Generator_train_instruct.pkl, a list of {"messages": [user, assistant]}, checkpoints/DATASET/GREAM_base
Writes checkpoints/DATASET/Generator (adapter, settings.json, loss_curve.json); with --order shuffled Generator_shuffled

The rows are taken in the order of their file, which is the curriculum, and the rows of the new tokens in the embeddings
and in the output head are trained beside the adapter; with --full all weights of the base are, in its place. The loss
is on the answer only. A run that is cut off goes on from its last complete checkpoint and ends as an unbroken one does.
Paper: curriculum activation.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.systems.gream.artifacts import BASE, GENERATOR, INSTRUCT_ROWS, SHUFFLED
from reason4rec.systems.gream.options import Order
from reason4rec.training import step as training
from reason4rec.training.options import Training
from reason4rec.training.recipe import Recipe, rate_factor

if TYPE_CHECKING:
    from reason4rec.run.files import Artifact
    from reason4rec.systems.gream.step import GeneratorStep

# Warm-up, epochs, batch and order are the released code's, which trains all weights of a 4B base at 5e-5; rank, alpha
# and rate of the adapter that stands in for that are our decision.
RECIPE = Recipe(
    rank=64,
    alpha=128,
    dropout=0.0,
    lr=1e-4,
    warmup=0.1,
    epochs=1,
    batch_size=256,
    lm_head=False,
    new_tokens=True,
    in_order=True,
)

RATE_OF_ALL = 5e-5 / rate_factor(4e9)  # where all weights are trained (`--full`); released code, for a base of 4B
MAX_LENGTH = 2_560  # released code


def written(step: "GeneratorStep") -> "Sequence[Artifact]":
    """The adapter that a training in this order writes."""
    return (GENERATOR if step[Order].order == "curriculum" else SHUFFLED,)


def recipe_of(step: "GeneratorStep") -> Recipe:
    """The recipe of the training, with the dataset's own settings and those that were given.

    InputError where another order is asked for than that of the adapter that the step writes.
    """
    order, asked = step[Order].order, step[Training].in_order
    if asked is not None and asked != (order == "curriculum"):
        raise InputError(f"--{'' if asked else 'no-'}in_order with --order {order}: the order of the rows is --order's")
    recipe = replace(RECIPE, lr=RATE_OF_ALL, full=True) if step[Training].full else RECIPE
    found = training.recipe_of(step, recipe, INSTRUCT_ROWS, own_settings(step), BASE)
    return replace(found, in_order=order == "curriculum")


def own_settings(step: "GeneratorStep") -> Mapping[str, object]:
    """The dataset's own training settings; only the demo has any. Its rate is that of an adapter."""
    own = step.dataset.recipes.get(step.spec.adapter, {})
    return {name: value for name, value in own.items() if name != "lr" or not step[Training].full}


def settings(step: "GeneratorStep") -> Mapping[str, object]:
    """All that decides the weights of the adapter."""
    return training.settings_of(step, recipe_of(step), BASE)


def train(step: "GeneratorStep") -> None:
    """Trains the adapter, in this process or in one of several that were launched together."""
    training.train(step, recipe_of(step), INSTRUCT_ROWS, own_settings(step), BASE)


def main(words: Sequence[str]) -> None:
    """Runs the step with the options of a command line."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.gream.pipeline import PIPELINE

    run(train, PIPELINE, PIPELINE.training("Generator"), __doc__, words=list(words))


if __name__ == "__main__":
    main(sys.argv[1:])
