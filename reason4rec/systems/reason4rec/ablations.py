"""Variants of the method that differ in one thing from a finished run, each in a folder of its own.

A variant is a dataset like any other: `ablations/NAME` in the folder of the full run, with links to what it shares
with it (reviews, summaries, targets, adapters, replies) and its own facts. The table of steps says which steps a change
puts out of date, and the numbered scripts do them, so that a variant is resumed and recorded as any run is. Adapters
are trained with the settings of the full run's.
"""

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.cache import PATH as CACHE
from reason4rec.llm.options import SERVERS
from reason4rec.run import files, options, records, staleness
from reason4rec.run.commands import run_command
from reason4rec.run.files import Artifact
from reason4rec.run.options import Resolved, names_of
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Common, step_of
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.artifacts import (
    NOT_SUMMARISED,
    REASON_TARGETS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASONS,
    TEST_RATINGS,
)
from reason4rec.systems.reason4rec.facts import Dataset
from reason4rec.systems.reason4rec.step import ExpertStep
from reason4rec.training.options import Execution, Training
from reason4rec.training.recipe import Recipe

FOLDER, FULL = "ablations", "full"
NUMBER = re.compile("-?[0-9]{1,9}([.][0-9]{1,20})?(e-?[0-9]{1,2})?")
ACCEPTS_ALL = 9.0  # a tau above every score: two ratings of 1 to 5 differ by 4 at most
FACTS = frozenset(one.name for one in fields(Dataset))
SHARED = (SUMMARIES, REWARD_TARGETS, REASON_TARGETS)  # every variant is about the same targets and summaries


@dataclass(frozen=True)
class Variant:
    """A variant: what it changes in words, and the options and the input that it changes.

    `options` are by name, and are given to every step that has them. `raw_histories` shows reviews where summaries
    stood. `trained_as` names the adapter whose settings its Predictor is trained with. `keeps` are steps that it leaves
    as the full run has them.
    """

    name: str
    changes: str
    options: Mapping[str, object] = field(default_factory=dict)
    raw_histories: bool = False
    trained_as: str = "Predictor"
    keeps: tuple[str, ...] = ()


FIXED = {
    variant.name: variant
    for variant in (
        Variant("without_summarizer", "reviews in place of summaries", raw_histories=True),
        Variant("without_reasoner", "the Predictor reads no reason", {"predictor_mode": "direct"}),
        Variant("reasoner_rl", "the Reasoner of step 2/8, the Predictor anew", {"reasoner": "Reasoner_rl"}),
        Variant(
            "reasoner_rl_same_predictor",
            "the Reasoner of step 2/8, the Predictor as it is",
            {"reasoner": "Reasoner_rl"},
            keeps=("3/1",),
        ),
        Variant("without_rewards", "the teacher's first reason as it is", {"tau": ACCEPTS_ALL}),
        Variant("one_step", "one adapter: reason, then rating", {"predictor_mode": "one_step"}, trained_as="Reasoner"),
        Variant(
            "rating_first",
            "one adapter: rating, then reason",
            {"predictor_mode": "rating_first"},
            trained_as="Reasoner",
        ),
    )
}


def of_run(step: ExpertStep) -> ExpertStep:
    """The step with the limit of the run that it starts from, and its seed unless one was given.

    InputError where the run has no predictions yet or they are out of date, and for another limit or other prompt
    templates than it had.
    """
    path = step.path(step.on(TEST_RATINGS))
    if not path.exists():
        raise InputError(f"{step.pipeline.missing(path, step.on(TEST_RATINGS))}; ablations start from a finished run")
    staleness.check(step.pipeline, step.path, step.on(TEST_RATINGS))
    record = records.read_record(path)
    if record is None:
        return step
    settings = record["made_from"]["settings"]
    seed, limit = settings.get("seed", step.common.seed), settings.get("limit")
    if step.options.given("limit") and step.common.limit != limit:
        had = f"with --limit {limit}" if limit else "without --limit"
        raise InputError(f"--limit {step.common.limit}: {path} was made {had}, as its variants are: leave it out")
    step.check_as_made(step.on(TEST_RATINGS), ("prompts",))
    common = replace(step.common, limit=limit, seed=step.common.seed if step.options.given("seed") else seed)
    resolved = Resolved({**step.options.groups, Common: common}, step.options.origins)
    return type(step)(step.pipeline, step.spec, resolved)


def variant(name: str) -> Variant:
    """The variant of a name: a fixed one, or `tau_X`, `history_N` or `draws_N`; InputError for any other."""
    if name in FIXED:
        return FIXED[name]
    kind, _, value = name.partition("_")
    if not NUMBER.fullmatch(value):
        kind = ""  # what Python takes for a number has spaces and line ends too, and the name is one of a folder
    try:
        if kind == "tau":
            return Variant(name, f"tau {float(value):g}", {"tau": float(value)})
        if kind == "history" and int(value) >= 0:
            return Variant(name, f"{value} entries a side", {"history_length": int(value)})
        if kind == "draws" and int(value) >= 0:
            return Variant(name, f"at most {value} hinted reasons", {"draws": int(value)})
    except ValueError:
        pass
    raise InputError(
        f"--variants: no {ascii(name[:60])[1:-1]}; there are {', '.join(FIXED)}, tau_X, history_N and draws_N"
    )


def is_variant(model: str) -> bool:
    """Whether a name, as a file has it or as a table shows it, is that of a variant."""
    try:
        return bool(variant(model.replace(" ", "_")))
    except InputError:
        return False


def chosen(names: Iterable[str], step: ExpertStep) -> list[Variant]:
    """The variants of these names, or all with a name, but for those of an adapter that was not trained."""
    if names := list(dict.fromkeys(names)):
        return [variant(name) for name in names]
    return [
        one
        for one in FIXED.values()
        if "reasoner" not in one.options or (step.adapters / one.options["reasoner"]).exists()
    ]


def steps_of(variant: Variant, pipeline: Pipeline) -> list[StepSpec]:
    """The steps that a variant changes, down to the predictions for the test rows."""
    changed = [
        spec for spec in pipeline if variant.options.keys() & names_of(spec.options) and spec.name not in variant.keeps
    ]
    if variant.raw_histories:
        changed += [spec for spec in pipeline if SUMMARIES in spec.reads]
    needed = pipeline.upstream(TEST_RATINGS, SHARED)
    return [spec for spec in pipeline.downstream(spec for spec in changed if spec in needed) if spec in needed]


def inputs_of(variant: Variant, step: ExpertStep) -> list[Artifact]:
    """What the steps of a variant read and none of them makes: what it shares with the full run."""
    steps = [_step(variant, spec, step) for spec in steps_of(variant, step.pipeline)]
    made = {artifact for own in steps for artifact in own.spec.writes_with(own)}
    read = [one for own in steps for one in own.reads if isinstance(one, Artifact)]
    inputs = dict.fromkeys(one for one in (TRAIN, TEST, *read) if one not in made)
    return sorted(inputs, key=lambda one: not one.adapter)


def _step(variant: Variant, spec: StepSpec, step: ExpertStep) -> ExpertStep:
    """A variant's step, as far as its options decide what it reads."""
    values = _recorded(variant, spec, step) | _roots(variant, step) | _given(spec, step) | _changed(variant, spec)
    return step_of(step.pipeline, spec, options.words(values))


def place(variant: Variant, step: ExpertStep) -> None:
    """Makes the folder of a variant with its facts and its links; InputError names what the full run lacks."""
    folder, adapters = step.folder.resolve(), step.adapters.resolve()
    own, trained = folder / FOLDER / variant.name, adapters / FOLDER / variant.name
    facts.write(_facts(variant, step), folder / FOLDER)
    for artifact in inputs_of(variant, step):
        source, link = (adapters, trained) if artifact.adapter else (folder, own)
        if not artifact.within(source).exists():
            missing = step.pipeline.missing(step.path(artifact), artifact)
            raise InputError(f"{missing}; ablations start from a finished run")
        if artifact is SUMMARIES and variant.raw_histories:
            summaries = step.read(SUMMARIES)
            texts = summaries["reviews"].where(summaries[SUMMARY] != NOT_SUMMARISED, NOT_SUMMARISED)
            files.write_pickle(own / SUMMARIES.path, summaries.assign(**{SUMMARY: texts}))
        else:
            _link(artifact.within(source), link / artifact.path)
    (folder / CACHE).parent.mkdir(exist_ok=True)
    _link((folder / CACHE).parent, (own / CACHE).parent)


def _facts(variant: Variant, step: ExpertStep) -> Dataset:
    """The facts of a variant: the dataset's, but those that the full run was given otherwise, and what it changes."""
    changed = {}
    for artifact, name in ((step.on(TEST_RATINGS), "history_length"), (TEACHER_REASONS, "tau")):
        settings = records.settings_of(step.path(artifact))
        if name in settings:
            changed[name] = settings[name]
    changed |= {name: value for name, value in variant.options.items() if name in FACTS}
    return replace(step.dataset, name=variant.name, paper={}, **changed)


def _link(source: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(source, link.parent), target_is_directory=source.is_dir())


def run_steps(variant: Variant, step: ExpertStep) -> None:
    """Runs the steps of a variant, each as a command, with the options that the ablations were given.

    InputError names the step that failed; what it did before that is kept.
    """
    for spec in steps_of(variant, step.pipeline):
        command = spec.command(options_for(variant, spec, step), sys.executable)
        print(f"== {variant.name} {spec.name} {spec.script}", flush=True)
        # A server that the environment names holds the adapters of the full run, not those of a variant.
        variables = {**os.environ, "PYTHON": sys.executable, SERVERS: ""}
        if run_command(command, variables):
            raise InputError(
                f"{variant.name}: {spec.script} failed, as the lines above say; mend it and run this again"
            )


def options_for(variant: Variant, spec: StepSpec, step: ExpertStep) -> dict[str, object]:
    """The options of a variant's step: its own, those that the ablations were given, or else the full run's."""
    given = _recorded(variant, spec, step) | _given(spec, step)
    if spec.adapter:
        as_trained = variant.trained_as if spec.adapter == "Predictor" else spec.adapter
        trained = adapter_settings(step.adapters / as_trained)
        given |= training_options(trained)
        if "start_from" in trained and as_trained == spec.adapter:  # what was read and answered there is the same
            given["start_from"] = trained["start_from"]
    of_run = {"seed": step.common.seed, "limit": step.common.limit}
    return _roots(variant, step) | of_run | given | _changed(variant, spec)


def _recorded(variant: Variant, spec: StepSpec, step: ExpertStep) -> dict[str, object]:
    """The options that the full run had in a step, as the record of its output says; templates are not found by it.

    Of an adapter only seed and limit are taken from there: how it was trained is in its own settings. A variant that
    trains a Reasoner has its reasons from that one.
    """
    settings = records.settings_of(step.path(step.on(spec.writes[0])))
    groups = () if spec.adapter else spec.options
    known = {one.name for group in groups for one in fields(group) if one.metadata["changes_output"]}
    known = known - {*FACTS, "prompts"} | {"seed", "limit"}
    if step.pipeline.training("Reasoner") in steps_of(variant, step.pipeline):
        known -= {"reasoner"}
    return {name: value for name, value in settings.items() if name in known}


def _given(spec: StepSpec, step: ExpertStep) -> dict[str, object]:
    """The options of a step that the ablations were given."""
    known = names_of(spec.options) | {"seed"}
    return {
        one.name: getattr(step[group], one.name)
        for group in step.pipeline.groups(step.spec)
        for one in fields(group)
        if one.name in known and step.options.given(one.name)
    }


def _roots(variant: Variant, step: ExpertStep) -> dict[str, object]:
    data, checkpoints = step.folder.resolve() / FOLDER, step.adapters.resolve() / FOLDER
    return {"dataset": variant.name, "data_root": data, "checkpoint_root": checkpoints}


def _changed(variant: Variant, spec: StepSpec) -> dict[str, object]:
    """The options of a step that a variant changes; those that are facts of the dataset stand in its own facts."""
    own = names_of(spec.options) - FACTS
    return {name: value for name, value in variant.options.items() if name in own}


def training_options(settings: Mapping[str, object]) -> dict[str, object]:
    """The options by which an adapter is trained as another one was, from the settings in its folder."""
    names = ["base_model", "max_length", *(one.name for one in fields(Recipe)), "gradient_accumulation"]
    known = names_of((Training, Execution))
    return {name: settings[name] for name in names if name in known and name in settings}


def finished(step: ExpertStep, made: Collection[str] = ()) -> list[Variant]:
    """All variants of a run that have their predictions, by name, but for those that the run has left behind.

    These are named with what changed; those of the names `made` were done just now and are not looked at.
    """
    predicted, found = step.on(TEST_RATINGS), []
    for path in sorted((step.folder / FOLDER).glob(f"*/{predicted.path}")):
        one = variant(path.parent.name)
        if one.name not in made and (changed := _changed_since(one, step)):
            print(f"left out: {one.name} is not of this run ({changed}); --variants {one.name} does it anew")
        else:
            found.append(one)
    return found


def _changed_since(variant: Variant, step: ExpertStep) -> str:
    """What puts a variant's predictions out of date, given the run as it is now; nothing where they are current."""
    try:
        place(variant, step)
        for spec in steps_of(variant, step.pipeline):
            own = step_of(step.pipeline, spec, options.words(options_for(variant, spec, step)))
            if not (status := own.status()).done:
                return f"{spec.name}: {status.changed or 'its output is missing'}"
    except InputError as error:
        return str(error)
    return ""


def adapters_of(variants: Iterable[Variant]) -> list[Artifact]:
    """The adapters of the run that variants are about, and the run itself is not: that of step 2/8."""
    return [files.adapter(name) for name in dict.fromkeys(one.options.get("reasoner") for one in variants) if name]


def folder_of(folder: Path, variant: Variant) -> Path:
    """The folder of a variant in that of a run."""
    return folder / FOLDER / variant.name
