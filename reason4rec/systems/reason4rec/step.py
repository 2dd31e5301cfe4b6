"""A step of Reason4Rec: the facts of its dataset, the histories of its targets, and the models that it asks."""

from collections.abc import Sequence
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.data import schema
from reason4rec.data.fields import scale_of
from reason4rec.data.history import History
from reason4rec.data.schema import TRAIN
from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.options import RULE_TEACHER, RULES, Teacher
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.llm.step import ModelStep
from reason4rec.run import records
from reason4rec.run.files import Artifact, sha256
from reason4rec.run.options import Resolved
from reason4rec.run.project import find
from reason4rec.run.step import Common
from reason4rec.systems.reason4rec import facts, prompts
from reason4rec.systems.reason4rec.artifacts import (
    ON_VALID,
    PREDICTOR,
    PREDICTOR_ROWS,
    REASONER_RL,
    REASONER_ROWS,
    REWARD_ROWS,
    SUMMARIES,
    SUMMARIZER_ROWS,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
    TEST_RATINGS,
    TEST_REASONS,
    VALID_RATINGS,
    VALID_REASONS,
)
from reason4rec.systems.reason4rec.facts import Dataset
from reason4rec.systems.reason4rec.options import EDITION, Histories, Preprocess, Prompts, Split
from reason4rec.systems.reason4rec.targets import index_of

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.rule_teacher import RuleTeacher


AS_MADE = ("prompts", "history_length", "predictor_mode")
SHOW_HISTORIES = frozenset(
    (
        REWARD_ROWS,
        TEACHER_REASONS,
        REASONER_ROWS,
        REASONER_RL,
        TEST_REASONS,
        VALID_REASONS,
        PREDICTOR_ROWS,
        TEST_RATINGS,
        VALID_RATINGS,
    )
)
"""What was made of histories in prompts, so that what reads it has to show the same."""


OF_SUMMARIES = frozenset((TEACHER_SUMMARIES, SUMMARIZER_ROWS))
"""What was made of reviews in prompts that show no history."""


def dataset_of(options: Resolved) -> Dataset:
    """The facts of the dataset that the options name; the preprocessing may describe one that is not there yet."""
    common = options[Common]
    if Preprocess in options:
        given = options[Preprocess]
        scale = scale_of(given.scale) if given.scale else None
        return facts.described(common.dataset, given.product_class, common.folder.parent, scale)
    return facts.get(common.dataset, common.folder.parent)


class ExpertStep(ModelStep):
    """A step of Reason4Rec."""

    rules_edition = EDITION

    @cached_property
    def dataset(self) -> Dataset:
        """The facts of the dataset."""
        return dataset_of(self.options)

    @property
    def product_class(self) -> str:
        """What the items are, in words for the prompts."""
        return self.dataset.product_class

    @property
    def templates(self) -> Path:
        """The folder of the prompt templates."""
        return self[Prompts].folder

    def on(self, artifact: Artifact) -> Artifact:
        """The artifact on the rows that --split names, in the place of one on the test rows."""
        valid = Split in self.options and self[Split].split == "valid"
        return ON_VALID.get(artifact, artifact) if valid else artifact

    def check_inputs(self) -> None:
        """InputError unless the inputs are made from what is there, and show histories and prompts as this step does.

        What an adapter has learned is in the rows that it was trained on, as long as they are there.
        """
        super().check_inputs()
        for item in self.reads:
            if not isinstance(item, Artifact):
                continue
            learned = records.record_of(self.path(item)) if item.adapter else None
            rows = [self.pipeline.artifact(name) for name in learned["made_from"]["inputs"]] if learned else []
            for one in (item, *rows):
                if one in SHOW_HISTORIES:
                    self.check_as_made(one)
                elif one in OF_SUMMARIES:
                    self.check_as_made(one, ("prompts",))

    def check_as_made(self, made: Artifact, names: Sequence[str] = AS_MADE) -> None:
        """InputError where a file was made with another value of one of these options than this step has."""
        record = records.record_of(self.path(made))
        then, now = record["made_from"]["settings"] if record else {}, self.recorded()
        for name in names:
            # Without templates in it, a record is of a version that had only those that are shipped.
            if name in now and then.get(name, "") not in ("", now[name]):
                what = f"--{name} {then[name]}: pass the same here"
                if name == "prompts":
                    what = f"other prompt templates than {self.templates}: give their folder as --prompts"
                raise InputError(
                    f"{self.path(made)} was made with {what}, or {self.pipeline.again(made, record['made_from'])}"
                )

    def histories(self, targets: pd.DataFrame) -> list[History]:
        """The histories of targets as the experts see them: summaries of earlier training reviews."""
        length = self[Histories].history_length
        found = index_of(self.read(SUMMARIES), length).of_rows(targets)
        if left_out := sum(len(one.user) < min(one.user_count, length) for one in found):
            print(
                f"{left_out:,} of {len(found):,} rows have earlier reviews without a summary, which their histories "
                f"leave out: 1_Summarizer/4_summarizer_generation.py had another --limit"
            )
        return found

    def summary_prompts(self, reviews: pd.DataFrame) -> Sequence[Prompt]:
        """The prompt for the summary of each review, the same for the teacher and the Summarizer."""
        prompt = partial(prompts.summarizer, self.product_class, folder=self.templates)
        return OnDemand(prompt, reviews["title"], reviews["ratings"], reviews["reviews"])

    def reason_prompts(self, targets: pd.DataFrame, histories: Sequence[History]) -> Sequence[Prompt]:
        """The Reasoner's prompt for each target, from histories without ratings."""
        prompt = partial(prompts.reasoner, self.product_class, folder=self.templates)
        return OnDemand(prompt, targets["title"], histories)

    def rule_teacher(self) -> "RuleTeacher":
        """The rules for English, with the nouns of the training reviews."""
        from reason4rec.systems.reason4rec.rule_teacher import RuleTeacher, learn

        return RuleTeacher(lambda: learn(schema.read(self.folder, TRAIN)["reviews"]), self.common.seed, self.templates)

    def execution(self) -> dict[str, object]:
        """How the step ran, with the packages that the rule teacher reads with."""
        found = super().execution()
        if Teacher in self.used and self[Teacher].teacher_model == RULES:
            found["rules_from"] = ", ".join(f"{name} {version(name)}" for name in ("textblob", "vaderSentiment"))
        return found

    @property
    def label(self) -> str:
        """The name of our row in a table; it says so where the demo's tiny model or the rule teacher made it."""
        remarks = []
        path = self.path(PREDICTOR)
        if path.exists() and adapter_settings(path)["base_sha256"] == sha256(find(facts.DEMO_BASE)):
            remarks = ["demo model" if self.common.dataset == facts.DEMO else "demo model: not meaningful"]
        if _has_rule_teacher(self):
            remarks.append(RULE_TEACHER)
        return f"Reason4Rec ({', '.join(remarks)})" if remarks else "Reason4Rec"


def _has_rule_teacher(step: ExpertStep) -> bool:
    """Whether summaries or reasons of the dataset are the rule teacher's, as their records say."""
    written = (step.path(one) for one in (TEACHER_SUMMARIES, TEACHER_REASONS))
    return any(records.settings_of(path).get("teacher_model") == RULES for path in written)
