"""Run the steps of a system in their order, each as a command of its own, and skip what is complete.

    python -m reason4rec.run --system NAME
    python -m reason4rec.run --system NAME --dataset Music_data --from 2/5 --to 3/3

Every option of every step can be given; each step gets those that it takes. --from, --to and --only name steps as in
the file names. A step whose output is complete and still fits its inputs and settings is skipped. One that has to wait,
such as for a batch of the teacher's, ends the run with exit code 3.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from reason4rec.errors import InputError
from reason4rec.run import options
from reason4rec.run.commands import guarded, run_command
from reason4rec.run.options import Options, Parser, Resolved, names_of, option
from reason4rec.run.pipeline import Pipeline, StepSpec, load
from reason4rec.run.project import check_clone
from reason4rec.run.step import Common, read_config


@dataclass(frozen=True)
class Run(Options):
    """the run"""

    system: str = option("", "which system", metavar="NAME")
    first: str = option("", "first step, named as in 2/5, in the order in which the steps run", metavar="STEP")
    last: str = option("", "last step", metavar="STEP")
    only: tuple[str, ...] = option((), "only these steps", metavar="STEP")
    dry_run: bool = option(False, "say what the run would cost, and do, ask and write nothing")


# `from` is a word of Python's, so the fields have other names.
FLAGS = {"first": "from", "last": "to"}


def groups_of(pipeline: Pipeline) -> tuple[type[Options], ...]:
    """The groups of options of a run: its own, and each group of a step once."""
    steps = (group for step in pipeline for group in pipeline.groups(step))
    return tuple(dict.fromkeys((Run, *steps)))


def parse(pipeline: Pipeline, words: Sequence[str]) -> tuple[Resolved, dict[str, object]]:
    """The options of a run, and the words that each was given on the command line."""
    defaults = {"dataset": pipeline.default}
    listed = "\n".join(f"  {step.name}  {step.what}" for step in pipeline)
    parser = Parser(
        __doc__, groups_of(pipeline), defaults, FLAGS, "bash run_all.sh", f"steps, in their order:\n{listed}"
    )
    command = vars(parser.parse_args(list(words)))
    for one in (one for group in groups_of(pipeline) for one in fields(group)):
        for old in set(one.metadata["old_names"]) & set(command):
            print(f"note: --{old} is another option now; the one that some steps had by this name is --{one.name}")
    content = read_config(pipeline, command.get("config"))
    general = {name: value for name, value in content.items() if name != "steps"}
    return options.resolve(groups_of(pipeline), command, general, str(command.get("config")), defaults), command


def selected(pipeline: Pipeline, given: Resolved) -> list[StepSpec]:
    """The steps to run, in their order; InputError for options that make no sense together."""
    run = given[Run]
    if why := pipeline.refused(given):
        raise InputError(why)
    steps = pipeline.select(run.first, run.last, run.only)
    return [step for step in steps if run.only or step.runs(given)]


def handed_on(pipeline: Pipeline, step: StepSpec, command: Mapping[str, object], given: Resolved) -> dict[str, object]:
    """The options of the command line that a step takes, by name; the dataset also where it is the run's default."""
    taken = names_of((*pipeline.common, *step.used(given))) - set(step.not_handed_on)
    found = {name: value for name, value in command.items() if name in taken}
    return ({"dataset": given[Common].dataset} if given.origins["dataset"] == "default" else {}) | found


def check_single(pipeline: Pipeline, steps: Sequence[StepSpec], command: Mapping[str, object], given: Resolved) -> None:
    """InputError where an option that is for one step would go to none or to several."""
    every = {one.name: one for group in groups_of(pipeline) for one in fields(group)}
    for name in command:
        if name not in every or not every[name].metadata["one_step"]:
            continue
        taking = [step.name for step in steps if name in handed_on(pipeline, step, command, given)]
        if len(taking) != 1:
            known = [step.name for step in pipeline if name in names_of(step.options)]
            raise InputError(
                f"--{name} is for one step of {', '.join(known)}, and this run has {' and '.join(taking) or 'none'}: "
                f"choose with --only STEP, or with --from and --to"
            )


def run(words: Sequence[str]) -> int:
    """Runs the steps that a command line asks for; the exit code of the first that fails, or 0."""
    pipeline = load(system_in(words))
    given, command = parse(pipeline, words)
    steps = selected(pipeline, given)
    check_single(pipeline, steps, command, given)
    if given[Run].dry_run:
        from reason4rec.run.cost import dry_run

        print(dry_run(pipeline, steps, lambda step: handed_on(pipeline, step, command, given)))
        return 0
    check_clone("the scripts of the steps")
    python = os.environ.get("PYTHON") or sys.executable
    with pipeline.around(given) as variables:
        environment = os.environ | dict(variables)
        for step in steps:
            print(f"== {step.name} {step.script}: {step.what}", flush=True)
            values = handed_on(pipeline, step, command, given)
            try:
                code = run_command(step.command(values, python), environment)
            except KeyboardInterrupt:
                return 130  # the step was told too, and says what is kept
            if code:
                return code if code > 0 else 1
    print(pipeline.closing(given, lambda name: shown(pipeline, pipeline[name], command, given)), flush=True)
    return 0


def shown(pipeline: Pipeline, step: StepSpec, command: Mapping[str, object], given: Resolved) -> str:
    """The command of another step with the options of a run, as a user types it in the clone."""
    values = {name: value for name, value in handed_on(pipeline, step, command, given).items() if name != "overwrite"}
    return shlex.join(["bash" if step.is_shell else "python", step.script, *options.words(values)])


def system_in(words: Sequence[str]) -> str:
    """The system that a command line names; InputError if it names none."""
    for place, word in enumerate(words):
        if word.startswith("--system="):
            return word.partition("=")[2]
        if word == "--system" and place + 1 < len(words):
            return words[place + 1]
    raise InputError("--system NAME says which system to run")


def command(words: Sequence[str]) -> None:
    """Runs the steps that a command line asks for, and ends with their exit code."""
    sys.exit(run(words))


if __name__ == "__main__":
    guarded(lambda: command(sys.argv[1:]))
