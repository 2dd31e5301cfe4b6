"""A step that asks language models: the adapters of its dataset and the teacher, each as its options name them."""

import os
import sys
from collections import Counter
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from reason4rec.errors import InputError
from reason4rec.llm.adapters import adapter_settings, base_of
from reason4rec.llm.base import AWAY, resolve_device
from reason4rec.llm.cache import PATH as CACHE
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.options import RULE_TEACHER, RULES, Batch, Model, Servers, Teacher
from reason4rec.run.files import Artifact, adapter
from reason4rec.run.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.teacher import Teacher as Asked

SERVERS_AT_ONCE = 64  # requests
_SERVERS = frozenset(one.name for one in fields(Servers))


class Rules(Protocol):
    """A teacher that answers by rules in this process, in the place of `llm.teacher.Teacher`."""

    refused: dict[str, str]

    def ask(
        self,
        prompts: "Sequence[str]",
        temperature: float,
        draw: int = 0,
        quiet: bool = False,
        is_usable: "Callable[[str], bool]" = bool,
    ) -> list[str]:
        """One answer per prompt, in their order; InputError for a prompt that the rules do not know."""
        ...

    def usage(self) -> dict[str, object]:
        """What a step shows of it."""
        ...


class ModelStep(Step):
    """A step that asks language models.

    `rules_edition` is that of the system's rule teacher: it is counted up when the same prompt gets another answer, so
    that records tell. `patience` is for how many seconds a model's server is waited for.
    """

    rules_edition = 1
    patience = AWAY
    _asked: "Asked | None" = None
    _dtype: str = ""  # of a model in this process, where it is not fp32

    @cached_property
    def _counts(self) -> list[Counter[str]]:
        """The counts of stopped replies of each model that was asked; not the models, which may be let go of."""
        return []

    def rows(self, artifact: Artifact) -> pd.DataFrame:
        """The rows of an artifact, only the first `--limit` of them in a trial, numbered from 0."""
        frame = self.read(artifact)
        return (frame.head(self.common.limit) if self.common.limit else frame).reset_index(drop=True)

    @cached_property
    def cache(self) -> ResponseCache:
        """The replies kept for this dataset."""
        return ResponseCache(self.folder / CACHE)

    def language_model(self, name: str) -> "LanguageModel":
        """An adapter as it was trained, on its base model, with the row length of its training.

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
        servers = self[Servers] if Servers in self.options else None
        if servers and servers.address:
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
        return self.load_here(settings, path)

    def load_here(self, settings: dict, path: Path | None) -> "LanguageModel":
        """A model in this process, of the `base_model` and `max_length` in `settings`, with an adapter or without."""
        # A step that asks no model does not wait for torch.
        from reason4rec.llm.local import load

        device, at_once = resolve_device(self[Model].device), self[Model].prompts_at_once
        base = settings["base_model"] if path is None else base_of(path, settings["base_model"])
        model = load(base, path, device, settings["max_length"], at_once, self.cache)
        self._dtype = str(model.dtype).removeprefix("torch.").replace("float32", "")
        return model

    def teacher(self) -> "Asked | Rules":
        """The teacher that the options and the environment name."""
        options, batch = self[Teacher], self[Batch] if Batch in self.options else Batch()
        if options.teacher_model == RULES:
            if batch.batch_export or batch.batch_import:
                raise InputError(f"--teacher_model {RULES} asks nobody: leave out --batch_export and --batch_import")
            if os.environ.get("OPENAI_BASE_URL"):
                print(f"note: --teacher_model {RULES} answers in this process; OPENAI_BASE_URL is not used")
            return self.rule_teacher()
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

    def rule_teacher(self) -> Rules:
        """The system's rule teacher; InputError where it has none."""
        raise InputError(f"--teacher_model {RULES}: {self.pipeline.name} has no rule teacher; name a model")

    def recorded(self) -> dict[str, object]:
        """The settings that the options and the dataset give; of a rule teacher also the edition of its rules."""
        found = super().recorded()
        if found.get("teacher_model") == RULES:
            found["teacher_server"] = f"{RULE_TEACHER}, edition {self.rules_edition}"
        return found

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
        return found
