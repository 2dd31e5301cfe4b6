"""What is out of date: a file whose inputs have changed since it was made, or what it was made from.

Steps are run by hand too, in any order, so that a file can be there whose inputs are no longer those that it was made
with. What was put there by hand has no record that fits it, and is taken as it is.
"""

from collections.abc import Callable
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import files, records
from reason4rec.run.files import Artifact
from reason4rec.run.pipeline import Pipeline

PathOf = Callable[[Artifact], Path]
"""Where an artifact of a dataset lies."""

Known = dict[Artifact, tuple[Artifact, str] | None]
"""What was found already on the way to each artifact."""


def why_old(pipeline: Pipeline, path_of: PathOf, made: Artifact) -> str:
    """Why a file is out of date, and what to run; empty where it is not, or is not there.

    What it was made from is looked at first, as far up as there are records, so that the first step to run is named.
    """
    return _why(pipeline, path_of, made, {})


def check(pipeline: Pipeline, path_of: PathOf, *read: Artifact | Path) -> None:
    """InputError where an artifact is out of date, which says what to run, or how to take it as it is."""
    known: Known = {}
    for made in read:
        if isinstance(made, Artifact) and (why := _why(pipeline, path_of, made, known)):
            record = records.record_path(path_of(made)).name
            raise InputError(f"{made.path} is out of date: it {why}, or remove its {record} to take it as it is")


def _why(pipeline: Pipeline, path_of: PathOf, made: Artifact, known: Known) -> str:
    changed = _changed(pipeline, path_of, made, known)
    if changed is None:
        return ""
    old, name = changed
    made_from = records.read_record(path_of(old))["made_from"]
    why = f"was made with another {name} than the one that is there; {pipeline.again(old, made_from)}"
    return why if old == made else f"goes back to {old.path}, which {why}"


def free_to_change(pipeline: Pipeline, path_of: PathOf, made: Artifact) -> list[str]:
    """The inputs of a file, by name, that may be others than those it was made with: they were made anew from it."""
    maker = pipeline.producer(made)
    inputs = maker.may_change if maker else ()
    return [one.path for one in inputs if _goes_back_to(pipeline, path_of, one, made, set())]


def _goes_back_to(pipeline: Pipeline, path_of: PathOf, made: Artifact, source: Artifact, seen: set[Artifact]) -> bool:
    seen.add(made)
    record = records.record_of(path_of(made))
    inputs = [pipeline.artifact(name) for name in record["made_from"]["inputs"]] if record else []
    return source in inputs or any(
        _goes_back_to(pipeline, path_of, one, source, seen) for one in inputs if one and one not in seen
    )


def _changed(pipeline: Pipeline, path_of: PathOf, made: Artifact, known: Known) -> tuple[Artifact, str] | None:
    """The first file on the way to this one that was made with another input, and that input's name."""
    if made in known:
        return known[made]
    known[made] = None
    record = records.record_of(path_of(made)) if pipeline.producer(made) else None
    if record is None or not pipeline.writes(made, record["made_from"]):
        return None
    free = free_to_change(pipeline, path_of, made)
    for name, then in record["made_from"]["inputs"].items():
        one = pipeline.artifact(name)
        if one is None or name in free or not path_of(one).exists():
            continue
        changed = _changed(pipeline, path_of, one, known)
        if changed is None and files.sha256(path_of(one)) != then:
            changed = made, name
        if changed:
            known[made] = changed
            break
    return known[made]
