"""The options of asking language models: one in this process, one at servers, and the teacher."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from reason4rec.llm.known_bases import full_name
from reason4rec.llm.usage import REPLY_TOKENS
from reason4rec.run.options import Options, Positive, option

TEACHER_MODEL = "gpt-4o-mini"  # our decision: the papers say ChatGPT
RULES = "rules"  # the name under which --teacher_model knows the rule teacher
RULE_TEACHER = "rule teacher"
SERVERS = "REASON4REC_BASE_URL"
Device = Literal["auto", "cpu", "cuda"]
BaseModel = Annotated[str, AfterValidator(full_name)]


@dataclass(frozen=True)
class Model(Options):
    """asking a model in this process"""

    execution: ClassVar[bool] = True

    device: Device = option("auto", "where the model runs", changes_output=False)
    prompts_at_once: Positive | None = option(
        None,
        "prompts in a batch, or at once at the servers (default: what fits; 64 at servers)",
        changes_output=False,
        old_names=("batch_size",),
    )


@dataclass(frozen=True)
class Servers(Options):
    """asking an expert at OpenAI-compatible servers instead"""

    execution: ClassVar[bool] = True

    base_url: str | None = option(
        None,
        "servers that hold the expert, such as http://127.0.0.1:8000/v1, several with commas "
        f"(default: {SERVERS} in the environment; without it the model runs in this process)",
        changes_output=False,
        metavar="URL",
    )
    served_model: str | None = option(
        None, "the expert's name at the server (default: DATASET-ADAPTER)", changes_output=False, metavar="NAME"
    )
    api: Literal["completions", "chat"] = option(
        "completions", "how the server is asked (chat: by text)", changes_output=False
    )
    top_logprobs: Positive = option(
        20, "log-probabilities to ask of a server that cannot pick tokens", changes_output=False
    )

    @property
    def address(self) -> str | None:
        """The servers' addresses, from the option or the environment; None where the model runs in this process."""
        return self.base_url if self.base_url is not None else os.environ.get(SERVERS) or None


@dataclass(frozen=True)
class Writing(Options):
    """letting a model write"""

    max_new_tokens: Positive = option(1024, "tokens of the longest reply")  # released code


@dataclass(frozen=True)
class Teacher(Options):
    """asking the teacher (OPENAI_API_KEY and OPENAI_BASE_URL in the environment)"""

    teacher_model: str = option(
        TEACHER_MODEL,
        f"the teacher's model name; {RULES}: the {RULE_TEACHER} in this process, without key, server or price",
        fact="teacher_model",
        metavar="NAME",
    )
    requests_at_once: Positive = option(8, "requests to the teacher in flight", changes_output=False)
    retries: int = option(8, "retries, with back-off, of one request", changes_output=False)
    reply_tokens: Positive = option(REPLY_TOKENS, "tokens of the longest reply", later=True)

    def recorded(self) -> dict[str, object]:
        """The teacher's name and its server."""
        if self.teacher_model == RULES:
            return {"teacher_model": RULES, "teacher_server": RULE_TEACHER}
        # By name, so that a step without a teacher does not load its client.
        from reason4rec.llm.teacher import server_of

        asked = {"teacher_model": self.teacher_model, "teacher_server": server_of(self.teacher_model)}
        return asked | self.recorded_later()


@dataclass(frozen=True)
class Batch(Options):
    """asking the teacher in a batch, for half the price"""

    batch_export: Path | None = option(
        None,
        "write the requests to this file (OpenAI Batch) and ask none",
        changes_output=False,
        one_step=True,
        metavar="FILE",
    )
    batch_import: Path | None = option(
        None,
        "take the replies of such a batch from this file first",
        changes_output=False,
        one_step=True,
        metavar="FILE",
    )
