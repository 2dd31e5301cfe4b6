"""Prompts in the terms of OpenAI's two APIs, and the choices' probabilities in what they answer."""

import functools
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import openai
from transformers import PreTrainedTokenizerBase

from reason4rec.errors import InputError
from reason4rec.llm.base import AWAY
from reason4rec.llm.cache import ResponseCache, key_of
from reason4rec.llm.prompt import Prompt, shorten
from reason4rec.llm.tokens import WITHOUT_THINKING, chat_ids, check, encode, end_of_turn, plain_ids

MINUS_INFINITY = -9999.0  # as vLLM writes it in JSON
ROUNDING = 1e-3  # by which a log-probability may be above 0


class Asked(NamedTuple):
    """A prompt in the API's terms, the client that is to send it, and how many tokens it has."""

    client: openai.OpenAI
    body: dict[str, Sequence]
    length: int


@dataclass
class ServedPrompts:
    """An adapter that servers hold under the name `served`, each behind a client; all must hold the same.

    `name` stands for the weights in the keys of kept replies; `shortened` counts prompts that lost history to fit,
    `stopped` why replies were cut, `altered` the prompts in which the chat API would have read special tokens. At most
    `at_once` requests are in flight. A server that is away is waited for `patience` seconds.
    """

    clients: Sequence[openai.OpenAI]
    served: str
    tokenizer: PreTrainedTokenizerBase
    name: str
    max_length: int
    at_once: int
    api: str
    top_logprobs: int
    cache: ResponseCache | None
    patience: float = AWAY
    shortened: int = 0
    altered: int = 0
    stopped: Counter[str] = field(default_factory=Counter)

    def beams(self, *_: object, **__: object) -> None:
        """InputError: a server chooses its own tokens, and gives no say over each of the steps of a search."""
        raise InputError(
            "a beam search along given answers needs the model in this process, not at a server: where the step has "
            "--base_url, leave it out and unset REASON4REC_BASE_URL"
        )

    def _check(self, prompts: Sequence[Prompt], longest: int, replies: Sequence[str]) -> None:
        """InputError if a prompt cannot be asked, before any is; says whether the chat API changes any."""
        altered = self.altered
        for prompt, reply in zip(prompts, replies, strict=True):
            check(self.tokenizer, prompt, longest, reply)
            text = prompt.text + reply
            self.altered += self.api == "chat" and self._harmless(text) != text
        if self.altered and not altered:
            print(
                f"note: {self.altered} prompts hold special tokens of the model in a user's text; --api chat sends "
                f"them with a space inside, --api completions would send them as they are"
            )

    def _asked(self, prompt: Prompt, reply: str, longest: int) -> Asked:
        """A prompt and the beginning of its reply in the API's terms, at most `longest` tokens together."""
        encode_one = self._as_ids if self.api == "completions" else self._as_messages
        body, length = encode_one(prompt, longest - len(plain_ids(self.tokenizer, reply)), reply)
        return Asked(self._client_of(prompt), body, length)

    def _as_ids(self, prompt: Prompt, longest: int, reply: str) -> tuple[dict[str, list], int]:
        ids, cut = encode(self.tokenizer, prompt, longest)
        self.shortened += cut > 0
        ids = ids + plain_ids(self.tokenizer, reply)
        # As numbers of Python, those of a window would take ten times the memory.
        return {"prompt": array("i", ids)}, len(ids)

    def _as_messages(self, prompt: Prompt, longest: int, reply: str) -> tuple[dict[str, list], int]:
        def length(text: str) -> int:
            return len(chat_ids(self.tokenizer, self._harmless(text)))

        text = prompt.text
        if length(text) > longest:
            text, _ = shorten(prompt, lambda text: length(text) <= longest)
            self.shortened += 1
        text, begun = self._harmless(text).strip(), self._harmless(reply.rstrip())
        messages = [{"role": "user", "content": text}]
        if begun:
            messages.append({"role": "assistant", "content": begun})
        return {"messages": messages}, length(text) + len(plain_ids(self.tokenizer, begun))

    def _harmless(self, text: str) -> str:
        """The text with a space after the first character of each special token in it, which a server would obey."""
        special = _special_tokens(self.tokenizer)
        text = special.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)
        if special.search(text):
            raise InputError("a prompt holds special tokens of the model that cannot be broken: use --api completions")
        return text

    def _rest(self, prefix: str) -> list[int]:
        """The tokens of a prefix that a template that trims would take from its end."""
        ids, begun = plain_ids(self.tokenizer, prefix), plain_ids(self.tokenizer, prefix.rstrip())
        if ids[: len(begun)] != begun:
            raise InputError(f"the tokenizer joins the end of {prefix!r} with what is before it: use --api completions")
        return ids[len(begun) :]

    def _of_template(self) -> dict[str, object]:
        """What a server has to be told of a chat template so that it writes and ends a turn as the training does."""
        if self.api == "chat":
            switches = any(name in self.tokenizer.chat_template for name in WITHOUT_THINKING)
            return {"chat_template_kwargs": WITHOUT_THINKING} if switches else {}
        end = end_of_turn(self.tokenizer)
        return {} if end == self.tokenizer.eos_token_id else {"stop_token_ids": [end]}

    def _names(self, id_: int) -> tuple[str, str]:
        """How a server may write a token."""
        return f"token_id:{id_}", self.tokenizer.decode([id_])

    def _weigh(
        self, found: dict[str, float], choices: Sequence[str], columns: Sequence[int], address: str
    ) -> list[float]:
        """The softmax over the choices' log-probabilities; InputError names a choice that has none."""
        logs = []
        for choice, id_ in zip(choices, columns):
            value = next((found[name] for name in self._names(id_) if name in found), None)
            if value is not None and not (isinstance(value, (int, float)) and -math.inf < value <= ROUNDING):
                raise InputError(
                    f"the server at {address} gave {value!r} as the log-probability of {choice!r}, which none can be; "
                    f"nothing of this reply is kept: see how the model was served, and in which precision"
                )
            if value is None or value <= MINUS_INFINITY:
                raise InputError(
                    f"the server at {address} gave no log-probability of {choice!r}, only of {len(found)} tokens: "
                    f"ask for more with --top_logprobs N (now {self.top_logprobs}) and let the server give them "
                    f"(vLLM: --max-logprobs N)"
                )
            logs.append(value)
        weights = np.exp(np.array(logs) - max(logs))
        return (weights / weights.sum()).tolist()

    def _client_of(self, prompt: Prompt) -> openai.OpenAI:
        number = int(key_of(head=prompt.text[: prompt.head] or prompt.text)[:8], 16)
        return self.clients[number % len(self.clients)]


@functools.lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
