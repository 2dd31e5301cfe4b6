"""The table of a system's steps, and what follows from it: order, who writes a file, what a change puts out of date.

A step is a row and a script. Everything else that has to know the steps asks here: the run of many steps and its
options, messages about missing files, the dry run, ablations, and the table of steps in the docs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.run.files import Artifact
from reason4rec.run.options import Options, Resolved, names_of, words
from reason4rec.run.project import ROOT

if TYPE_CHECKING:
    from reason4rec.run.step import Step

Environment = AbstractContextManager[Mapping[str, str]]


@dataclass(frozen=True)
class StepSpec:
    """One row of the table.

    `name` is that of `--from` and `--to`; `script` is its path in the project. `reads` must be there, `reads_if_there`
    need not; `reads_with` and `writes_with` give what it reads and writes with the options that it has; what it writes
    with others alone is in `elsewhere`, with the words for it. `also_writes` are folders in which it
    writes files whose names depend on its options. `may_change` are inputs that later steps can make anew from its
    outputs, which does not put these out of date. `defaults` are those of its options that differ from the group's.
    `settings` gives what else decides its outputs, by the names in their records; those that not every version of this
    project records are in `optional`. `uses` gives the groups of options that decide something, where not
    all do. `runs` says whether a run of all steps has it, and `not_handed_on` which of its
    options such a run does not give it. `adapter` is the adapter that it trains. `launched` says that several processes
    may do it together, which then find out among them whether it is done. `parts` gives the parts of a step that
    has no output of its own. `estimate` gives its lines of a dry run. One that is `borrowed` is another system's,
    and its script runs as that.
    """

    name: str
    script: str
    what: str
    reads: tuple[Artifact, ...] = ()
    writes: tuple[Artifact, ...] = ()
    options: tuple[type[Options], ...] = ()
    reads_if_there: tuple[Artifact, ...] = ()
    also_writes: tuple[Artifact, ...] = ()
    reads_with: Callable[["Step"], Sequence[Artifact | Path]] = lambda step: step.spec.reads
    writes_with: Callable[["Step"], Sequence[Artifact]] = lambda step: step.spec.writes
    elsewhere: Mapping[Artifact, str] = field(default_factory=dict)
    may_change: tuple[Artifact, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    settings: Callable[["Step"], Mapping[str, object]] = lambda step: {}
    optional: tuple[str, ...] = ()
    uses: Callable[[Resolved], Collection[type[Options]] | None] = lambda options: None
    runs: Callable[[Resolved], bool] = lambda options: True
    not_handed_on: tuple[str, ...] = ()
    adapter: str = ""
    launched: bool = False
    parts: Callable[["Step"], Sequence["Step"]] = lambda step: ()
    estimate: Callable | None = None
    borrowed: bool = False

    @property
    def is_shell(self) -> bool:
        """Whether the script is one of the shell's, not of Python's."""
        return self.script.endswith(".sh")

    def command(self, values: Mapping[str, object], python: str) -> list[str]:
        """The command that runs the step with options by name, from any folder."""
        return ["bash" if self.is_shell else python, str(ROOT / self.script), *words(values)]

    def used(self, options: Resolved) -> tuple[type[Options], ...]:
        """The groups of options that decide something, with these values."""
        used = self.uses(options)
        return tuple(group for group in self.options if used is None or group in used)


class Pipeline:
    """The steps of a system in the order in which they run: as listed, but for what reads what another writes.

    `common` are the groups of every step. `facts` gives the facts of a dataset by name, given its options; `read` reads
    and checks an artifact in a dataset's folder; `step` is the class of its steps. `around` is entered for the time of
    a run of many steps and gives variables for their environment. `default` is the dataset of such a run, unless
    another is named; `refused` says why a run makes no sense with its options; `closing` is what it prints at its end,
    given how a step is run with the same options; `plan` makes what the estimates of the steps count with. ValueError
    where two steps have one name, or steps wait for each other.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[StepSpec],
        common: Sequence[type[Options]],
        facts: Callable[[Resolved], Mapping[str, object]],
        read: Callable[[Path, Artifact], object],
        step: type["Step"],
        default: str,
        around: Callable[[Resolved], Environment] = lambda options: nullcontext({}),
        refused: Callable[[Resolved], str] = lambda options: "",
        closing: Callable[[Resolved, Callable[[str], str]], str] = lambda options, command: "",
        plan: Callable | None = None,
    ):
        self.name, self.common, self.facts, self.read, self.step = name, tuple(common), facts, read, step
        self.default, self.around, self.refused, self.closing = default, around, refused, closing
        self.plan = plan
        self._producers: dict[Artifact, StepSpec] = {}
        for step in steps:
            for artifact in (*step.writes, *step.also_writes, *step.elsewhere):
                self._producers.setdefault(artifact, step)
        self.steps = _ordered(steps)
        self._by_name = {step.name: step for step in self.steps}

    def __iter__(self) -> Iterator[StepSpec]:
        return iter(self.steps)

    def __getitem__(self, name: str) -> StepSpec:
        """The step of a name; InputError if there is none."""
        if name in self._by_name:
            return self._by_name[name]
        raise InputError(f"no step {name}: steps are {', '.join(step.name for step in self.steps)}")

    def of_script(self, path: Path) -> StepSpec:
        """The row of a script; InputError if it has none."""
        for step in self.steps:
            if (ROOT / step.script).resolve() == path.resolve():
                return step
        raise InputError(f"{path}: no step of {self.name} has this script")

    def training(self, adapter: str) -> StepSpec:
        """The step that trains an adapter; InputError if none does."""
        for step in self.steps:
            if adapter and step.adapter == adapter:
                return step
        known = ", ".join(step.adapter for step in self.steps if step.adapter)
        raise InputError(f"--adapter {adapter}: no such expert; there are {known}")

    def producer(self, artifact: Artifact) -> StepSpec | None:
        """The step that writes a file, or that writes files into the folder which it lies in."""
        if artifact in self._producers:
            return self._producers[artifact]
        return next((step for step in self.steps if _writes_into(step, artifact)), None)

    def artifact(self, name: str) -> Artifact | None:
        """The artifact that a record names, in the table or in a folder of it; None for any other file."""
        if name in self._artifacts:
            return self._artifacts[name]
        return Artifact(name) if self.producer(Artifact(name)) else None

    @cached_property
    def _artifacts(self) -> dict[str, Artifact]:
        parts = ((*s.reads, *s.reads_if_there, *s.writes, *s.elsewhere) for s in self.steps)
        return {artifact.path: artifact for of_step in parts for artifact in of_step}

    def missing(self, path: Path, artifact: Artifact) -> InputError:
        """What is said where a file is missing: who writes it."""
        if self.producer(artifact) is None:
            return InputError(f"{path} is missing")
        return InputError(f"{path} is missing: {self.script_of(artifact)} writes it")

    def script_of(self, artifact: Artifact) -> str:
        """The script that writes a file that some step writes, with the option with which it does."""
        producer = self.producer(artifact)
        words = f" {producer.elsewhere[artifact]}" if artifact in producer.elsewhere else ""
        return f"{producer.script}{words}"

    def again(self, artifact: Artifact, made_from: Mapping[str, Mapping] | None = None) -> str:
        """What is said where a file that some step writes is out of date: what to run.

        Of several steps that write it, it is the one in what its record says it was `made_from`.
        """
        maker = self._maker(made_from or {})
        if maker is None or maker is self.producer(artifact):
            return f"run {self.script_of(artifact)} again"
        return f"run {maker.script} again"

    def writes(self, artifact: Artifact, made_from: Mapping[str, Mapping]) -> bool:
        """Whether a file is where the step of its record writes it; else a person moved it there."""
        maker = self._maker(made_from)
        if maker is None or _writes_into(maker, artifact):
            return True
        return artifact.path in {one.path for one in (*maker.writes, *maker.elsewhere)}

    def _maker(self, made_from: Mapping[str, Mapping]) -> StepSpec | None:
        return self._by_name.get(made_from.get("by", {}).get("step", ""))

    def groups(self, step: StepSpec) -> tuple[type[Options], ...]:
        """The groups of options of a step, the common ones first."""
        return (*self.common, *step.options)

    @cached_property
    def option_names(self) -> frozenset[str]:
        """The names of all options of all steps."""
        return frozenset(names_of(group for step in self.steps for group in self.groups(step)))

    def select(self, first: str = "", last: str = "", only: Iterable[str] = ()) -> tuple[StepSpec, ...]:
        """The steps from one to another in the order in which they run, or only those named; InputError if in vain."""
        if only := list(only):
            if first or last:
                raise InputError("--only names the steps by itself: leave out --from and --to")
            wanted = {self[name].name for name in only}
            return tuple(step for step in self.steps if step.name in wanted)
        start = self.steps.index(self[first]) if first else 0
        end = self.steps.index(self[last]) if last else len(self.steps) - 1
        if start > end:
            raise InputError(f"--from {first} runs after --to {last}: swap them")
        return self.steps[start : end + 1]

    def downstream(self, steps: Iterable[StepSpec]) -> tuple[StepSpec, ...]:
        """The steps and all whose inputs they change, directly or through others."""
        changed = {step.name for step in steps}
        anew: set[Artifact] = set()
        for step in self.steps:
            if step.name in changed or anew & set(step.reads):
                changed.add(step.name)
                anew |= set(step.writes)
        return tuple(step for step in self.steps if step.name in changed)

    def upstream(self, artifact: Artifact, there: Collection[Artifact] = ()) -> tuple[StepSpec, ...]:
        """The steps that have to run for a file, where others are there already; of two that write it the first."""
        needed, wanted = set(), {artifact}
        for step in reversed(self.steps):
            if any(self.producer(one) is step for one in wanted & set(step.writes)):
                needed.add(step.name)
                wanted |= set(step.reads) - set(there)
        return tuple(step for step in self.steps if step.name in needed)


def _writes_into(step: StepSpec, artifact: Artifact) -> bool:
    """Whether a file lies in a folder in which a step writes files."""
    return any(artifact.path.startswith(f"{one.path}/") for one in (*step.also_writes, *step.elsewhere))


def _ordered(steps: Sequence[StepSpec]) -> tuple[StepSpec, ...]:
    if len({step.name for step in steps}) < len(steps):
        raise ValueError("two steps have one name")
    by_name = {step.name: step for step in steps}
    sorter = TopologicalSorter({step.name: () for step in steps})
    for step in steps:
        for artifact in (*step.reads, *step.reads_if_there):
            for other in steps:
                if artifact in (*other.writes, *other.also_writes) and other is not step:
                    sorter.add(step.name, other.name)
    order = {step.name: place for place, step in enumerate(steps)}
    found: list[StepSpec] = []
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"steps wait for each other: {' '.join(error.args[1])}") from error
    ready: set[str] = set()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        first = min(ready, key=order.__getitem__)
        ready.remove(first)
        found.append(by_name[first])
        sorter.done(first)
    return tuple(found)


def systems() -> list[str]:
    """The names of the systems that there are."""
    package = importlib.import_module("reason4rec.systems")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def load(system: str) -> Pipeline:
    """The table of a system; InputError if there is no such system."""
    if system not in systems():
        raise InputError(f"--system {system}: no such system; there are {', '.join(systems())}")
    return importlib.import_module(f"reason4rec.systems.{system}.pipeline").PIPELINE


def borrowers(pipeline: Pipeline) -> list[Pipeline]:
    """The tables in which steps of this one stand too."""
    own = {step.script for step in pipeline if not step.borrowed}
    return [one for one in map(load, systems()) if any(step.borrowed and step.script in own for step in one)]


def of_script(path: Path) -> tuple[Pipeline, StepSpec]:
    """The table that a script is of, and its row there; InputError if it is of none."""
    for system in systems():
        pipeline = load(system)
        with suppress(InputError):
            if not (spec := pipeline.of_script(path)).borrowed:
                return pipeline, spec
    raise InputError(f"{path}: no step of a system has this script")
