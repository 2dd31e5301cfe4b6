"""What asking a teacher used: requests, replies found on disk, tokens, and US dollars."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.run.network import extra_headers, masked

if TYPE_CHECKING:
    from reason4rec.llm.answers import Reply

PRICES = {  # US dollars per million tokens in and out, as listed in 2025
    "gpt-3.5-turbo": (0.50, 1.50),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1-mini": (0.40, 1.60),
}
HEADERS = "OPENAI_EXTRA_HEADERS"  # the variable with a gateway's headers
BATCH_PRICE = 0.5  # of the listed price; OpenAI
REPLY_TOKENS = 1024  # of the longest reply; our decision, the released code allows 4,096
UNUSABLE_AT_FIRST = 36  # answers of another form than is asked for, after which no more is paid for
STAND_IN = "stand-in"  # the model name under which the demo's server answers; it costs nothing


@dataclass(kw_only=True)
class Usage:
    """Numbers of this run.

    `kept` counts the replies found on disk, `unusable` the answers of another form than was asked for; `refused` says
    why there is none to a prompt.
    """

    requests: int = 0
    kept: int = 0
    retried: int = 0
    unusable: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    batch_replies: int = 0
    batch_tokens_in: int = 0
    batch_tokens_out: int = 0
    usable: bool = field(default=False, init=False, repr=False)  # whether any answer is
    refused: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    answered_by: set[str] = field(default_factory=set, init=False, repr=False)

    def judge(
        self, answers: Iterable[str | None], is_usable: Callable[[str], bool], address: str, kept_in: object
    ) -> None:
        """Counts answers of another form than is asked for; InputError if the first UNUSABLE_AT_FIRST all are."""
        given = [answer for answer in answers if answer is not None]
        wrong = [answer for answer in given if not is_usable(answer)]
        self.usable |= len(wrong) < len(given)
        self.unusable += len(wrong)
        if wrong and not self.usable and self.unusable >= UNUSABLE_AT_FIRST:
            shown = masked(wrong[0], [os.environ.get("OPENAI_API_KEY"), *extra_headers(HEADERS).values()])[:60]
            raise InputError(
                f"the teacher at {address}: its first {self.unusable} answers are all of another form than is asked "
                f"for, such as {shown!r}: see --teacher_model and --prompts; if the teacher was mended since, move "
                f"{kept_in} away, which keeps them"
            )

    def count(self, reply: "Reply | None") -> None:
        """Counts a reply to a request; None for one that is asked again."""
        if reply is None:
            self.retried += 1
            return
        self.requests += 1
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self.answered_by |= {reply.model} - {""}

    def count_batch(self, replies: Iterable["Reply"]) -> None:
        """Counts the replies of a batch."""
        for reply in replies:
            self.batch_replies += 1
            self.batch_tokens_in += reply.tokens_in
            self.batch_tokens_out += reply.tokens_out
            self.answered_by |= {reply.model} - {""}

    def summary(self, model: str, batch: bool) -> dict[str, object]:
        """The numbers by the names that a step shows; a cost is None where the price is not known.

        The replies of a `batch` count apart, and only if they are new.
        """
        found = {
            "requests": self.requests,
            "kept_replies": self.kept,
            "retried": self.retried,
            "refused": len(self.refused),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost_usd": cost(model, self.tokens_in, self.tokens_out),
        }
        if self.unusable:
            found["unusable"] = self.unusable
        if batch:
            found |= {
                "batch_replies": self.batch_replies,
                "batch_tokens_in": self.batch_tokens_in,
                "batch_tokens_out": self.batch_tokens_out,
                "batch_cost_usd": cost(model, self.batch_tokens_in, self.batch_tokens_out, BATCH_PRICE),
            }
        if self.answered_by - {model}:
            found["answered_by"] = " ".join(sorted(self.answered_by)[:3])
        return found


def cost(model: str, tokens_in: int, tokens_out: int, share: float = 1.0) -> float | None:
    """What tokens cost in US dollars, at a share of the listed price; None where the price is not known."""
    price = (0.0, 0.0) if model == STAND_IN else PRICES.get(model)
    return price and round((tokens_in * price[0] + tokens_out * price[1]) * share / 1e6, 4)
