"""Which finished runs there are to ask."""

from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run.project import own
from reason4rec.systems.reason4rec.artifacts import PREDICTOR, SUMMARIES


def finished_runs(data_root: Path | None = None, checkpoint_root: Path | None = None) -> list[str]:
    """The datasets that have summaries and a trained Predictor, in the roots given or the usual ones, by name."""
    trained = (checkpoint_root or own("checkpoints")).glob(f"*/{PREDICTOR.path}")
    summarised = {path.parent.name for path in (data_root or own("0_Data")).glob(f"*/{SUMMARIES.path}")}
    return sorted({path.parent.name for path in trained if path.is_dir()} & summarised)


def dataset_or_the_only_one(name: str, data_root: Path | None, checkpoint_root: Path | None) -> str:
    """The dataset that is named, or that of the only finished run; InputError names those that there are."""
    if name:
        return name
    found = finished_runs(data_root, checkpoint_root)
    if len(found) == 1:
        return found[0]
    there = f"finished runs here are {', '.join(found)}" if found else "no finished run is here"
    raise InputError(f"--dataset NAME says whose experts are asked; {there}")
