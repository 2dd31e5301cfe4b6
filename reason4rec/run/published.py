"""Result files that are published with the code: copied to `results/`, with a word on what they were run on."""

import datetime
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import staleness
from reason4rec.run.files import Artifact, write_text
from reason4rec.run.pipeline import Pipeline
from reason4rec.run.project import ROOT
from reason4rec.run.records import read_record, versions

RUN = "run.json"


def publish(
    found: Sequence[Path], folder: Path, minutes: float | None, derived: Mapping[str, object] | None = None
) -> None:
    """Copies result files to a folder; `run.json` there has date, commit, versions, and what the first was made from.

    The record is that of the file, or of the folder that a step wrote it in. `derived` are files more, by name, of
    contents that stand in no file of their own.
    """
    commit = _commit()  # before results that are published again make the code look changed
    folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        shutil.copyfile(path, folder / path.name)
    for name, content in (derived or {}).items():
        write_text(folder / name, json.dumps(content, indent=1) + "\n")
    record = read_record(found[0]) or read_record(found[0].parent)
    made_from = {"sha256": record["made_from"]["inputs"], "settings": record["made_from"]["settings"]} if record else {}
    about = {"date": str(datetime.date.today()), "commit": commit, "gpu": _gpu(), "minutes": minutes}
    write_text(folder / RUN, json.dumps(about | {"versions": versions()} | made_from, indent=1) + "\n")


def check(pipeline: Pipeline, folder: Path, adapters: Path, found: Sequence[Artifact]) -> None:
    """InputError where one of a dataset's results is out of date, which says what to run."""
    path_of = partial(_path_of, folder, adapters)
    for one in found:
        if why := staleness.why_old(pipeline, path_of, one):
            raise InputError(f"{path_of(one)} is out of date: it {why}")


def _path_of(folder: Path, adapters: Path, artifact: Artifact) -> Path:
    return artifact.within(adapters if artifact.adapter else folder)


def read(path: Path) -> list | dict:
    """The content of a published file; InputError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); publish the dataset again") from error


def _commit() -> str:
    """The commit of the code, with a star where the code differs from it."""
    try:
        words = ["git", "describe", "--always", "--dirty=*", "--abbrev=7", "--exclude=*"]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"none ({os.cpu_count()} CPU cores)"
