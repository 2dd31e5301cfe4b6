"""A step of a system at work: its options, what it reads and writes, whether it is done, its closing line."""

import json
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Self

from reason4rec.errors import InputError
from reason4rec.run import files, locks, options, records, staleness
from reason4rec.run.commands import guarded
from reason4rec.run.files import Artifact
from reason4rec.run.options import Group, Options, Parser, Resolved, option
from reason4rec.run.pipeline import Pipeline, StepSpec, borrowers, load
from reason4rec.run.project import own
from reason4rec.run.records import Provenance, Status

HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Place(Options):
    """where a dataset and its adapters lie"""

    dataset: str = option("Music_data", "folder of the dataset in the data root", changes_output=False)
    data_root: Path | None = option(None, "folder of all datasets (default: 0_Data)", changes_output=False)
    checkpoint_root: Path | None = option(None, "folder of all adapters (default: checkpoints)", changes_output=False)

    @property
    def folder(self) -> Path:
        """The folder of the dataset; InputError if its name would lead out of the data root."""
        return files.folder_in(self.data_root or own("0_Data"), self.dataset, "--dataset")

    @property
    def adapters(self) -> Path:
        """The folder of the dataset's adapters; InputError as for that of the dataset."""
        return files.folder_in(self.checkpoint_root or own("checkpoints"), self.dataset, "--dataset")

    @property
    def flags(self) -> list[str]:
        """The words of a command line that name this place."""
        values = {"dataset": self.dataset, "data_root": self.data_root, "checkpoint_root": self.checkpoint_root}
        return [word for name, value in values.items() if value for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Common(Place):
    """every step"""

    seed: int = option(42, "seed of everything random")  # released code
    limit: options.Positive | None = option(None, "only the first N targets, for trials")
    overwrite: bool = option(False, "do the step again although its output is there", changes_output=False)
    config: Path | None = option(None, "YAML file of a run; the command line wins", changes_output=False)


class Step:
    """One step of a run on a dataset: it reads artifacts, and writes outputs with a record of what they came from.

    `writes` are its outputs; `reads` its inputs, artifacts of the dataset or plain paths; `settings` what else decides
    its outputs; `used` which groups of options do; all four are the row's where they are not given. `scratch` is worth
    nothing once the outputs are whole.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        spec: StepSpec,
        options: Resolved,
        reads: Sequence[Artifact | Path] | None = None,
        writes: Sequence[Artifact | Path] | None = None,
        settings: Mapping[str, object] | None = None,
        used: Sequence[type[Options]] | None = None,
    ):
        self.started = time.perf_counter()
        self.pipeline, self.spec, self.options = pipeline, spec, options
        self.common = options[Common]
        self.folder, self.adapters = self.common.folder, self.common.adapters
        self._reads, self._writes, self._settings = reads, writes, settings
        self.used = tuple(spec.used(options) if used is None else used)
        self.scratch: Sequence[Path] = ()
        self.outputs = [self._place(output) for output in (spec.writes_with(self) if writes is None else writes)]

    def __reduce__(self) -> tuple:
        """For another process, which finds the row in the table by its name."""
        parts = (self.options, self._reads, self._writes, self._settings, self.used)
        return _rebuilt, (self.pipeline.name, self.spec.name, *parts)

    def __getitem__(self, group: type[Group]) -> Group:
        """The values of a group of options."""
        return self.options[group]

    def part(
        self,
        reads: Sequence[Artifact | Path],
        writes: Sequence[Artifact | Path],
        settings: Mapping[str, object],
        used: Sequence[type[Options]] = (),
    ) -> Self:
        """A part of this step with outputs, inputs and settings of its own, and of its options only those `used`."""
        return type(self)(self.pipeline, self.spec, self.options, reads, writes, settings, used)

    @cached_property
    def reads(self) -> list[Artifact | Path]:
        """What the step reads with its options."""
        return list(self.spec.reads_with(self) if self._reads is None else self._reads)

    def path(self, item: Artifact | Path) -> Path:
        """Where an artifact of the dataset, an adapter, or a plain path lies."""
        return item.within(self._root(item)) if isinstance(item, Artifact) else item

    def _place(self, item: Artifact | Path) -> Path:
        """Where an output lies: never under another name, which is that of somebody else's file."""
        return self._root(item) / item.path if isinstance(item, Artifact) else item

    def _root(self, artifact: Artifact) -> Path:
        return self.adapters if artifact.adapter else self.folder

    @cached_property
    def provenance(self) -> Provenance:
        """The sha256 of each input and all settings, from which the outputs are made; InputError if an input lacks."""
        for item in self.reads:
            _require(self, item)
        inputs = {_name(self, item): files.sha256(self.path(item)) for item in self.reads}
        settings = self.recorded() | dict(self.spec.settings(self) if self._settings is None else self._settings)
        names = options.names_of(self.used) | {"seed", "limit"}
        origins = {name: where for name, where in self.options.origins.items() if name in names and where != "default"}
        settings = json.loads(json.dumps(settings))
        return {"inputs": inputs, "settings": settings, "origins": origins, "by": {"step": self.spec.name}}

    def recorded(self) -> dict[str, object]:
        """The settings that the options and the facts of the dataset give."""
        settings = {"seed": self.common.seed, "limit": self.common.limit}
        for group in self.used:
            settings |= self.options[group].recorded()
            settings |= {name: self.facts[name] for name in group.facts}
        return settings

    @cached_property
    def facts(self) -> Mapping[str, object]:
        """The facts of the dataset by name."""
        return self.pipeline.facts(self.options)

    def status(self) -> Status:
        """How the outputs stand: nothing is written and nothing locked for it."""
        old_names, free = _old_names(self.spec), _free_to_change(self)
        overwrite, optional = self.common.overwrite, self.spec.optional
        return records.status(self.outputs, lambda: self.provenance, overwrite, old_names, optional, free)

    def done(self) -> bool:
        """Whether nothing is to be done, which is printed: the outputs are complete, or a person put them there.

        If there is, the outputs are this process's from here on, and what a killed run left of them is gone.
        InputError if another process is making one of them.
        """
        status = self.status()
        if not status.done:
            self.check_inputs()
        if not status.done or _traces(self):
            holders = {path: locks.lock(path) for path in self.outputs}
            taken = next((path for path in self.outputs if holders[path]), None)
            if taken is None:
                for path in self.outputs:
                    records.recover(path)
                # Meanwhile another process may have ended its work on them.
                status = self.status()
            if taken is None and status.done:
                for left in self.scratch:
                    shutil.rmtree(left, ignore_errors=True)
            if taken or status.done:
                for path in self.outputs:
                    locks.unlock(path)
            if taken and not status.done:
                raise InputError(
                    f"{taken} is being made by another run ({holders[taken]}): wait until it has ended or stop it, "
                    f"then run this command again"
                )
        _print(self, status)
        return status.done

    def check_inputs(self) -> None:
        """InputError unless all inputs are made from what is there: those of other files would change the outputs."""
        staleness.check(self.pipeline, self.path, *self.reads)

    def read(self, artifact: Artifact) -> object:
        """The checked content of an artifact; InputError says who writes one that is missing."""
        path = self.path(artifact)
        if not path.exists():
            raise self.pipeline.missing(path, artifact)
        return self.pipeline.read(self.folder, artifact)

    def write(self, artifact: Artifact | Path, content: object) -> None:
        """Writes an output and its record, which also says how the step ran; that puts nothing out of date."""
        path = self._place(artifact)
        if not len(content):
            raise InputError(f"{path} would be empty: no row was left; see the lines above")
        records.write_recorded(path, content, self.provenance | {"execution": self.execution()})

    def execution(self) -> dict[str, object]:
        """How the step ran: the options that change no output, where they were given."""
        found = {}
        for group in self.used:
            for one in fields(group) if group.execution else ():
                if not one.metadata["changes_output"] and self.options.given(one.name):
                    found[one.name] = getattr(self.options[group], one.name)
        return json.loads(json.dumps(found, default=str))

    def summary(self, rows_in: int, rows_out: int, **numbers: object) -> None:
        """Prints the closing line: rows, seconds, rates, memory and what else the step counted."""
        _print_summary(self, rows_in, rows_out, numbers)


def _old_names(spec: StepSpec) -> dict[str, str]:
    pairs = ((one, old) for group in spec.options for one in fields(group) for old in one.metadata["old_names"])
    return {old: one.name for one, old in pairs}


def _free_to_change(step: Step) -> list[str]:
    written = step.spec.writes_with(step) if step.spec.may_change else ()
    return [name for one in written for name in staleness.free_to_change(step.pipeline, step.path, one)]


def _name(step: Step, item: Artifact | Path) -> str:
    if isinstance(item, Artifact):
        return item.path
    if item.is_relative_to(step.folder):
        return str(item.relative_to(step.folder))
    if step.pipeline.artifact(item.name):  # which is a file of the dataset, and this is another one
        return os.path.relpath(item, step.folder)
    alike = [other for other in step.reads if isinstance(other, Path) and other.name == item.name]
    return item.name if len(alike) == 1 else str(item)


def _require(step: Step, item: Artifact | Path) -> None:
    path = step.path(item)
    if path.exists():
        return
    if isinstance(item, Artifact):
        raise step.pipeline.missing(path, item)
    public = item.is_relative_to(step.folder)
    raise InputError(f"{path} is missing{': 0_Data/1_download.py says where to get public files' if public else ''}")


def _print(step: Step, status: Status) -> None:
    if status.manual:
        print(f"kept: {status.manual} was put there by hand; --overwrite replaces it")
    elif status.done:
        print(f"complete: {', '.join(map(str, step.outputs))}; --overwrite does it again")
    elif status.changed:
        print(f"out of date ({status.changed}): doing it again")
    if not status.done:
        shown = {name: value for name, value in step.provenance["settings"].items() if not _is_hash(value)}
        print(f"{step.common.dataset}: {', '.join(f'{name}={value}' for name, value in shown.items())}", flush=True)


def _traces(step: Step) -> bool:
    """Whether a run that was killed, or one that works at this moment, left files beside the outputs."""
    both = [path for output in step.outputs for path in (output, records.record_path(output))]
    left = (*map(files.staged_path, both), *map(locks.lock_path, step.outputs), *step.scratch)
    return any(path.exists() for path in left)


def _print_summary(step: Step, rows_in: int, rows_out: int, numbers: Mapping[str, object]) -> None:
    seconds = time.perf_counter() - step.started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    parts = [
        f"rows in {rows_in:,}",
        f"rows out {rows_out:,}",
        f"{seconds:.1f} s",
        f"{rows_out / seconds:.1f} rows/s",
        f"peak {peak:.2f} GB",
        *(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in numbers.items()),
    ]
    print(f"[{step.spec.adapter or Path(step.spec.script).stem}] {' | '.join(parts)}")


def _rebuilt(system: str, name: str, *parts: object) -> Step:
    pipeline = load(system)
    return pipeline.step(pipeline, pipeline[name], *parts)


def parse(pipeline: Pipeline, spec: StepSpec, words: Sequence[str], doc: str = "") -> Resolved:
    """The options of a step from a command line; InputError for a value or a file that cannot be used."""
    groups = pipeline.groups(spec)
    command = vars(Parser(doc, groups, spec.defaults).parse_args(list(words)))
    file = options.for_step(read_config(pipeline, command.get("config")), spec.name)
    name = str(command.get("config", ""))
    resolved = options.resolve(groups, command, file, name, spec.defaults)
    return options.with_facts(resolved, pipeline.facts(resolved))


def step_of(pipeline: Pipeline, spec: StepSpec, words: Sequence[str], doc: str = "") -> Step:
    """A step with the options of a command line; InputError as in `parse`."""
    return pipeline.step(pipeline, spec, parse(pipeline, spec, words, doc))


def read_config(pipeline: Pipeline, path: str | None) -> dict[str, object]:
    """A run's YAML file, if there is one; InputError if it cannot be used.

    A step that stands in the table of another system too is handed that one's file.
    """
    if path is None:
        return {}
    tables = [pipeline, *borrowers(pipeline)]
    known = frozenset().union(*(table.option_names for table in tables))
    return options.read_file(Path(path), known, [step.name for table in tables for step in table])


def main(
    work: Callable[[Step], None],
    pipeline: Pipeline,
    spec: StepSpec,
    doc: str = "",
    show: Callable[[Step], None] | None = None,
    words: Sequence[str] | None = None,
) -> None:
    """Parses the command line and does a step, unless it is done; then `show` prints what it made.

    What a user can mend ends in one line and exit code 2; a step that has to wait ends with code 3. What the step makes
    is the user's alone.
    """

    def run() -> None:
        step = step_of(pipeline, spec, sys.argv[1:] if words is None else words, doc)
        if step.outputs and not (spec.also_writes or spec.adapter or spec.launched) and step.done():
            if show:
                show(step)
            return
        work(step)

    guarded(run)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
