"""A finished run as something to ask: the step that rated the test rows, with the options that it had."""

from collections.abc import Mapping
from dataclasses import fields

from reason4rec.errors import InputError
from reason4rec.llm.options import Writing
from reason4rec.run import options as run_options
from reason4rec.run import records, staleness
from reason4rec.run.files import Artifact
from reason4rec.run.options import names_of, unknown_option
from reason4rec.systems.reason4rec.artifacts import REASONER, SUMMARIES, TEST_RATINGS, TEST_REASONS
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.step import ExpertStep

RATES = PIPELINE["3/3"]


def step_of_finished_run(dataset: str, given: Mapping[str, object]) -> ExpertStep:
    """The step that rates rows, on a dataset, with the options given and else those of the run that is finished.

    InputError for an option that the step does not have, and where the run had other prompt templates.
    """
    groups = PIPELINE.groups(RATES)
    known = names_of(groups)
    for name in given:
        if name not in known:
            raise InputError(f"{unknown_option(f'--{name}', known)}")
    asked = {name: value for name, value in given.items() if value is not None} | {"dataset": dataset}
    step = _step(groups, asked)
    record = records.read_record(step.path(TEST_RATINGS))
    if record is None:
        return step
    settings = record["made_from"]["settings"]
    changing = {one.name for group in RATES.options for one in fields(group) if one.metadata["changes_output"]}
    of_run = {name: settings[name] for name in changing & settings.keys() - {"prompts", "split"}}
    step = _step(groups, of_run | asked)
    staleness.check(PIPELINE, step.path, TEST_RATINGS)
    step.check_as_made(TEST_RATINGS, ("prompts",))
    return step


def tokens_of(step: ExpertStep, written: Artifact) -> int:
    """Tokens of the longest reply as they were when an artifact was written, unless the option is given."""
    given = step.options.given("max_new_tokens")
    return ({} if given else records.settings_of(step.path(written))).get(
        "max_new_tokens", step[Writing].max_new_tokens
    )


def reasoner_of(step: ExpertStep) -> str:
    """The adapter that wrote the reasons of the test rows, by its name."""
    return records.settings_of(step.path(TEST_REASONS)).get("reasoner", REASONER.path)


def trial_of(step: ExpertStep) -> int | None:
    """How many targets a run was limited to, which summarised only the reviews that they need; None for a whole run."""
    return records.settings_of(step.path(SUMMARIES)).get("limit")


def _step(groups: tuple, asked: Mapping[str, object]) -> ExpertStep:
    resolved = run_options.resolve(groups, asked, {})
    return PIPELINE.step(PIPELINE, RATES, run_options.with_facts(resolved, PIPELINE.facts(resolved)))
