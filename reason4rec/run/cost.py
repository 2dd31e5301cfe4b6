"""What a run would cost, before anything is spent: its steps, which of them are done, and a line of numbers for each.

Nothing is asked, loaded or written. Whether a step is done is decided by its records, as the step itself decides it.
"""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reason4rec.errors import InputError
from reason4rec.run import records
from reason4rec.run.files import Artifact
from reason4rec.run.options import words
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Step, step_of

COLUMNS = 120
DONE = "done"


@dataclass(frozen=True)
class Line:
    """A line of the table; what is None does not apply. Dollars are NaN where the price is not known."""

    step: str
    what: str
    by: str
    rows: float | None = None
    requests: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    hours: float | None = None
    dollars: float | None = None


class Survey:
    """The steps of a run as they stand: what is done, what is to be done again and why, and what is not there yet.

    `values` gives the options of a step as they would be handed to it.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        selected: Sequence[StepSpec],
        values: Callable[[StepSpec], Mapping[str, object]],
    ):
        self.pipeline, self.selected = pipeline, selected
        self._steps = {spec.name: step_of(pipeline, spec, words(values(spec))) for spec in pipeline if spec.estimate}
        self.notes: list[str] = []
        self.to_do: set[str] = set()
        self._look()

    def step(self, name: str) -> Step:
        """A step with the options that it would get."""
        return self._steps[name]

    def done(self, spec: StepSpec) -> bool:
        """Whether a step would do nothing."""
        return spec.name not in self.to_do

    def made(self, artifact: Artifact) -> bool:
        """Whether this run would make a file, for the first time or again."""
        producer = self.pipeline.producer(artifact)
        return producer is not None and producer.name in self.to_do

    def usable(self, artifact: Artifact) -> bool:
        """Whether a file is there and this run would leave it as it is."""
        first = next(iter(self._steps.values()))
        return first.path(artifact).exists() and not self.made(artifact)

    def _look(self) -> None:
        absent: dict[Path, str] = {}
        for spec in self.selected:
            if spec.estimate is None:
                continue
            step = self._steps[spec.name]
            why = self._why(step)
            if why is None:
                continue
            self.to_do.add(spec.name)
            if why:
                self.notes.append(f"{spec.name} is done again: {why}")
            for item in _inputs(step):
                producer = self.pipeline.producer(item)
                if producer and producer not in self.selected and not step.path(item).exists():
                    absent[step.path(item)] = producer.script
        self.notes += [f"not there yet: {path}, which {script} writes" for path, script in absent.items()]

    def _why(self, step: Step) -> str | None:
        """Why the outputs of a step do not stand, empty if there are none; None if they do."""
        if step.common.overwrite:
            return "--overwrite" if any(path.exists() for path in step.outputs) else ""
        anew = [item for item in (*_inputs(step), *step.spec.reads_if_there) if self.made(item)]
        if not anew and all(step.path(item).exists() for item in _inputs(step)):
            parts = step.spec.parts(step) or [step]
            return next((status.changed for status in (part.status() for part in parts) if not status.done), None)
        if records.put_there(step.outputs):
            return None
        there = any(path.exists() for path in step.outputs)
        return f"{anew[0].path} is made anew" if anew and there else ""


def _inputs(step: Step) -> list[Artifact]:
    return [item for item in step.reads if isinstance(item, Artifact)]


def dry_run(
    pipeline: Pipeline, selected: Sequence[StepSpec], values: Callable[[StepSpec], Mapping[str, object]]
) -> str:
    """The table of a run, at most 120 columns wide, and what it assumes; InputError where it cannot be told."""
    if pipeline.plan is None:
        raise InputError(f"--dry_run: {pipeline.name} has no estimates")
    survey = Survey(pipeline, selected, values)
    return as_text(survey, pipeline.plan(survey))


def lines(survey: Survey, plan: object) -> list[Line]:
    """The lines of all steps of a run, in their order."""
    found: list[Line] = []
    for spec in survey.selected:
        if spec.estimate is None:
            continue
        found += [Line(spec.name, spec.what, DONE)] if survey.done(spec) else spec.estimate(plan, spec)
    return found


def as_text(survey: Survey, plan: object) -> str:
    """The table for a terminal, with the plan's heading above it and its remarks and assumptions below."""
    of_steps = lines(survey, plan)
    totals = [total(of_steps, "teacher"), total(of_steps, "model")]
    header = ["step", "what", "by", "rows", "requests", "tokens in", "tokens out", "GPU hours", "dollars"]
    cells = [header, *map(_cells, of_steps), *map(_cells, filter(None, totals))]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    table = [
        "  ".join(cell.ljust(width) if k < 3 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths)))
        for row in cells
    ]
    if any(totals):
        table.insert(len(of_steps) + 1, "-" * len(table[0]))
    remarks = [*dominating(of_steps, *totals), *plan.remarks(of_steps, *totals), *survey.notes, *plan.notes]
    listed = [line for remark in remarks for line in _wrapped(remark, "- ", "  ")]
    parts = ["\n".join(_wrapped(plan.heading(), "", "")), "\n".join(row.rstrip() for row in table), "\n".join(listed)]
    if plan.assumed:
        parts.append("\n".join(["Assumed, not known:", *_assumptions(plan.assumed)]))
    return "\n\n".join(parts)


def total(of_steps: Sequence[Line], by: str) -> Line | None:
    """The sum of the lines by the teacher, or of those by local models."""
    of_kind = [line for line in of_steps if line.by == by]
    if not of_kind:
        return None

    def summed(name: str) -> float | None:
        values = [value for line in of_kind if (value := getattr(line, name)) is not None]
        return sum(values) if values else None

    sums = {name: summed(name) for name in ("requests", "tokens_in", "tokens_out", "hours", "dollars")}
    return Line("", "all", by, **sums)


def dominating(of_steps: Sequence[Line], teacher: Line | None, models: Line | None) -> list[str]:
    """Which step takes most of the hours, and which most of the dollars."""
    found = []
    for name, whole, unit in (("hours", models, "GPU hours"), ("dollars", teacher, "dollars")):
        costly = [line for line in of_steps if getattr(line, name)]
        if costly and getattr(whole, name) > 0:
            most = max(costly, key=lambda line: getattr(line, name))
            share = getattr(most, name) / getattr(whole, name)
            found.append(f"Most of the {unit} go to {most.step}, {most.what}: {share:.0%}.")
    return found


def price(dollars: float) -> str:
    """An amount of US dollars as it is shown."""
    return "unknown" if math.isnan(dollars) else f"{dollars:,.2f}"


def _cells(line: Line) -> list[str]:
    return [
        line.step,
        line.what,
        line.by,
        *("" if number is None else f"{number:,.0f}" for number in (line.rows, line.requests)),
        *("" if number is None else _short(number) for number in (line.tokens_in, line.tokens_out)),
        "" if line.hours is None else f"{line.hours:,.2f}",
        "" if line.dollars is None else price(line.dollars),
    ]


def _short(tokens: float) -> str:
    return f"{tokens / 1e6:,.2f} M" if tokens >= 1e5 else f"{tokens:,.0f}"


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _assumptions(assumed: Mapping[str, tuple[str, str]]) -> list[str]:
    name_width, value_width = (max(map(len, column)) for column in zip(*((n, v) for n, (v, _) in assumed.items())))
    return [
        line
        for name, (value, origin) in assumed.items()
        for line in _wrapped(
            origin,
            f"  {name.ljust(name_width)}  {value.rjust(value_width)}  ",
            " " * (name_width + value_width + 6),
        )
    ]
