"""Train the recommender on instruct rows of three tasks: QLoRA fine-tuning of one adapter on a base model.

    python -m reason4rec.systems.twice_rec.train --dataset Grocery

Reads  twice_rec/Recommender_train_instruct.pkl, a list of {"messages": [user, assistant]}
Writes checkpoints/DATASET/Recommender (adapter, settings.json, loss_curve.json)

The loss is on the answer only. A row that is too long loses its oldest history and then texts of candidates, never the
instruction, a candidate or the answer. A run that is cut off goes on from its last complete checkpoint and ends as an
unbroken one does. Paper: stage 2.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reason4rec.systems.twice_rec.artifacts import INSTRUCT_ROWS
from reason4rec.training import step as training
from reason4rec.training.recipe import Recipe, rate_factor

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

# Released code, which trains a base of 1B; the schedule is that of all trainings here.
RECIPE = Recipe(
    rank=8,
    alpha=16,
    dropout=0.0,
    lr=5e-5 / rate_factor(1e9),
    warmup=0.05,
    epochs=2,
    batch_size=32,
    lm_head=False,
)

# Released code. Rows with 30 candidates have some 5,000 tokens: with fewer most of them would lose their histories.
MAX_LENGTH = 10_000


def recipe_of(step: "RecommenderStep") -> Recipe:
    """The recipe of the training, with the dataset's own settings and those that were given."""
    return training.recipe_of(step, RECIPE, INSTRUCT_ROWS, own_settings(step))


def own_settings(step: "RecommenderStep") -> Mapping[str, object]:
    """The dataset's own training settings; only the demo has any."""
    return step.dataset.recipes.get(step.spec.adapter, {})


def settings(step: "RecommenderStep") -> Mapping[str, object]:
    """All that decides the weights of the adapter."""
    return training.settings_of(step, recipe_of(step))


def train(step: "RecommenderStep") -> None:
    """Trains the adapter, in this process or in one of several that were launched together."""
    training.train(step, recipe_of(step), INSTRUCT_ROWS, own_settings(step))


def main(words: Sequence[str]) -> None:
    """Runs the step with the options of a command line."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.twice_rec.pipeline import PIPELINE

    run(train, PIPELINE, PIPELINE.training("Recommender"), __doc__, words=list(words))


if __name__ == "__main__":
    main(sys.argv[1:])
