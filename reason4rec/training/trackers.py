"""Trackers of experiments that are told a training's losses while it runs: which there are, and where they keep them.

They only listen: what they are told decides nothing, and stands in no record.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reason4rec.errors import InputError
from reason4rec.run import files

if TYPE_CHECKING:
    from trl import SFTTrainer

Tracker = Literal["tensorboard", "trackio", "wandb"]
PROJECT = __name__.partition(".")[0]
FOLDERS = ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_DIR")  # variables of the trackers' own


def check(names: Sequence[Tracker]) -> None:
    """InputError where the package of a tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"--report_to {name}: needs the package {name}; run: python -m pip install {name}")


def logs_folder(out: Path) -> Path:
    """The folder of what trackers keep on this machine, beside an adapter; it stays when the adapter is complete."""
    return out.with_name(f"{out.name}.logs")


def tell(trainer: "SFTTrainer", names: Sequence[Tracker], out: Path) -> None:
    """Lets trackers follow the training of an adapter, under the names of its dataset and its own.

    They write to `logs_folder`, unless the environment names another place.
    """
    if not names:
        return
    from transformers.integrations import get_reporting_integration_callbacks

    folder = logs_folder(out)
    files.make_folder(folder)
    for variable in FOLDERS:
        os.environ.setdefault(variable, str(folder))
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    trainer.args.report_to = list(names)
    trainer.args.project, trainer.args.run_name = PROJECT, f"{out.parent.name}-{out.name}"
    for callback in get_reporting_integration_callbacks(list(names)):
        trainer.add_callback(callback)
