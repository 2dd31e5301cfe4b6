"""A step of Reason4Rec: the facts of its dataset, the histories of its targets, and the models that it asks."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.data import schema
from reason4rec.data.fields import scale_of
from reason4rec.data.history import History, HistoryIndex
from reason4rec.data.schema import TRAIN
from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.base import AWAY, resolve_device
from reason4rec.llm.cache import PATH as CACHE
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.run import records
from reason4rec.run.files import Artifact, adapter, sha256
from reason4rec.run.options import Resolved
from reason4rec.run.project import find
from reason4rec.run.step import Common, Step
from reason4rec.systems.reason4rec import facts, prompts
from reason4rec.systems.reason4rec.artifacts import (
    ON_VALID,
    PREDICTOR,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
)
from reason4rec.systems.reason4rec.facts import Dataset
from reason4rec.systems.reason4rec.options import (
    RULE_TEACHER,
    RULES,
    Batch,
    Histories,
    Model,
    Preprocess,
    Prompts,
    Servers,
    Split,
    Teacher,
)

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.teacher import Teacher as Asked
    from reason4rec.systems.reason4rec.rule_teacher import RuleTeacher

SERVERS_AT_ONCE = 64  # requests


def dataset_of(options: Resolved) -> Dataset:
    """The facts of the dataset that the options name; the preprocessing may describe one that is not there yet."""
    common = options[Common]
    if Preprocess in options:
        given = options[Preprocess]
        scale = scale_of(given.scale) if given.scale else None
        return facts.described(common.dataset, given.product_class, common.folder.parent, scale)
    return facts.get(common.dataset, common.folder.parent)


class ExpertStep(Step):
    """A step of Reason4Rec."""

    _asked: "Asked | None" = None
    _dtype: str = ""  # of a model in this process, where it is not fp32
    patience = AWAY  # seconds that a model's server is waited for

    @cached_property
    def _counts(self) -> list[Counter[str]]:
        """The counts of stopped replies of each model that was asked; not the models, which may be let go of."""
        return []

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

    def rows(self, artifact: Artifact) -> pd.DataFrame:
        """The rows of an artifact, only the first `--limit` of them in a trial, numbered from 0."""
        frame = self.read(artifact)
        return (frame.head(self.common.limit) if self.common.limit else frame).reset_index(drop=True)

    def on(self, artifact: Artifact) -> Artifact:
        """The artifact on the rows that --split names, in the place of one on the test rows."""
        valid = Split in self.options and self[Split].split == "valid"
        return ON_VALID.get(artifact, artifact) if valid else artifact

    def histories(self, targets: pd.DataFrame) -> list[History]:
        """The histories of targets as the experts see them: summaries of earlier training reviews."""
        return HistoryIndex(self.read(SUMMARIES), SUMMARY, self[Histories].history_length).of_rows(targets)

    def summary_prompts(self, reviews: pd.DataFrame) -> Sequence[Prompt]:
        """The prompt for the summary of each review, the same for the teacher and the Summarizer."""
        prompt = partial(prompts.summarizer, self.product_class, folder=self.templates)
        return OnDemand(prompt, reviews["title"], reviews["ratings"], reviews["reviews"])

    def reason_prompts(self, targets: pd.DataFrame, histories: Sequence[History]) -> Sequence[Prompt]:
        """The Reasoner's prompt for each target, from histories without ratings."""
        prompt = partial(prompts.reasoner, self.product_class, folder=self.templates)
        return OnDemand(prompt, targets["title"], histories)

    @cached_property
    def cache(self) -> ResponseCache:
        """The replies kept for this dataset."""
        return ResponseCache(self.folder / CACHE)

    def language_model(self, name: str) -> "LanguageModel":
        """An expert as it was trained: its adapter on its base model, with the row length of its training.

        It runs in this process, or at the servers that --base_url names.
        """
        return self.counted(self._load(name))

    def counted(self, model: "LanguageModel") -> "LanguageModel":
        """A model, whose stopped replies the closing line and the record will tell."""
        self._counts.append(model.stopped)
        return model

    def _load(self, name: str) -> "LanguageModel":
        path = self.path(adapter(name))
        settings = adapter_settings(path)
        servers = self[Servers]
        if servers.address:
            from reason4rec.llm.server import connect

            return connect(
                servers.address,
                servers.served_model or f"{self.common.dataset}-{name}",
                path,
                settings["max_length"],
                self[Model].prompts_at_once or SERVERS_AT_ONCE,
                servers.api,
                servers.top_logprobs,
                self.cache,
                self.patience,
            )
        return _load_here(self, settings, path)

    def teacher(self) -> "Asked | RuleTeacher":
        """The teacher that the options and the environment name."""
        options, batch = self[Teacher], self[Batch] if Batch in self.options else Batch()
        if options.teacher_model == RULES:
            return _rule_teacher(self, batch)
        from reason4rec.llm.teacher import Teacher as Asked

        teacher = Asked(
            self.cache,
            options.teacher_model,
            options.requests_at_once,
            self.common.seed,
            options.retries,
            batch.batch_export,
            reply_tokens=options.reply_tokens,
        )
        if batch.batch_import:
            teacher.import_batch(batch.batch_import)
        self._asked = teacher
        return teacher

    @property
    def stopped(self) -> dict[str, str]:
        """How many replies were stopped and why; nothing where none was."""
        stopped = sum(self._counts, Counter())
        return {"stopped": ", ".join(f"{n} {why}" for why, n in sorted(stopped.items()))} if stopped else {}

    def summary(self, rows_in: int, rows_out: int, **numbers: object) -> None:
        """Prints the closing line, with the replies that were stopped."""
        super().summary(rows_in, rows_out, **numbers, **self.stopped)

    def execution(self) -> dict[str, object]:
        """How the step ran; addresses of servers without anything secret in them."""
        found = super().execution() | self.stopped
        if not (Servers in self.options and self[Servers].address):
            found = {name: value for name, value in found.items() if name not in _SERVERS}
        if Servers in self.used and self[Servers].address:
            from reason4rec.llm.client import address_of

            found["base_url"] = ",".join(address_of(url.strip()) for url in self[Servers].address.split(","))
            found.pop("device", None)
        elif Model in self.used:
            found["device"] = resolve_device(self[Model].device) if "torch" in sys.modules else self[Model].device
            found |= {"dtype": self._dtype} if self._dtype else {}
        client = self._asked.client if self._asked else None
        if client and client.sent_as:
            found["teacher_sent"] = client.sent_otherwise()
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


def _rule_teacher(step: ExpertStep, batch: Batch) -> "RuleTeacher":
    from reason4rec.systems.reason4rec.rule_teacher import RuleTeacher, learn

    if batch.batch_export or batch.batch_import:
        raise InputError(f"--teacher_model {RULES} asks nobody: leave out --batch_export and --batch_import")
    if os.environ.get("OPENAI_BASE_URL"):
        print(f"note: --teacher_model {RULES} answers in this process; OPENAI_BASE_URL is not used")
    return RuleTeacher(lambda: learn(schema.read(step.folder, TRAIN)["reviews"]), step.common.seed, step.templates)


def _has_rule_teacher(step: ExpertStep) -> bool:
    """Whether summaries or reasons of the dataset are the rule teacher's, as their records say."""
    written = [records.read_record(step.path(one)) for one in (TEACHER_SUMMARIES, TEACHER_REASONS)]
    return any(one and one["made_from"]["settings"].get("teacher_model") == RULES for one in written)


def _load_here(step: ExpertStep, settings: dict, path: Path | None) -> "LanguageModel":
    # A step that asks no model does not wait for torch.
    from reason4rec.llm.local import load

    device, at_once = resolve_device(step[Model].device), step[Model].prompts_at_once
    model = load(settings["base_model"], path, device, settings["max_length"], at_once, step.cache)
    step._dtype = str(model.dtype).removeprefix("torch.").replace("float32", "")
    return model


_SERVERS = frozenset(one.name for one in fields(Servers))
