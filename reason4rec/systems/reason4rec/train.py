"""Train one expert of Reason4Rec: QLoRA fine-tuning of its adapter on a 4-bit base model.

    python -m reason4rec.systems.reason4rec.train --adapter Summarizer --dataset Music_data

Reads  the expert's instruct rows, a list of {"messages": [user, assistant]}
Writes checkpoints/DATASET/ADAPTER (adapter with its head, settings.json, loss_curve.json)

The loss is on the answer only. A row that is too long loses its oldest history, never the instruction or the answer.
A checkpoint is written at the end of each epoch and every --save_minutes. A run that is cut off goes on from the last
complete one and ends as an unbroken one does.

On several GPUs, with the same options and the same rows in each step:

    accelerate launch --config_file configs/accelerate/ddp.yaml -m reason4rec.systems.reason4rec.train \
        --adapter Summarizer --dataset Music_data
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.training import step as training
from reason4rec.training.recipe import Recipe

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.step import ExpertStep


def recipe_of(step: "ExpertStep") -> Recipe:
    """The recipe of a training: the expert's, with the dataset's own settings and those that were given."""
    expert = EXPERTS[step.spec.adapter]
    return training.recipe_of(step, expert.recipe, expert.rows, own_settings(step))


def own_settings(step: "ExpertStep") -> Mapping[str, object]:
    """The dataset's own training settings of the expert; only the demo has any."""
    return step.dataset.recipes.get(step.spec.adapter, {})


def settings(step: "ExpertStep") -> Mapping[str, object]:
    """All that decides the weights of an adapter."""
    return training.settings_of(step, recipe_of(step))


def train(step: "ExpertStep") -> None:
    """Trains the adapter of a step, in this process or in one of several that were launched together."""
    training.train(step, recipe_of(step), EXPERTS[step.spec.adapter].rows, own_settings(step))


def main(words: Sequence[str]) -> None:
    """Trains the expert that --adapter names."""
    from reason4rec.run.step import main as run
    from reason4rec.systems.reason4rec.pipeline import PIPELINE

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--adapter", required=True, choices=EXPERTS)
    known, rest = parser.parse_known_args(words)
    run(train, PIPELINE, PIPELINE.training(known.adapter), __doc__, words=rest)


if __name__ == "__main__":
    main(sys.argv[1:])
