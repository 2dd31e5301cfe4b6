"""The teacher, ChatGPT or any server that speaks its protocol: ask, keep, retry, count.

The key and the address come from OPENAI_API_KEY and OPENAI_BASE_URL. Every reply is on disk before the step goes on;
draws of one prompt at temperature 1 are told apart by their number, so they stay different draws and are asked once.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import openai
from tqdm import tqdm

from reason4rec.errors import InputError
from reason4rec.store import ReplyStore, key_of

DEFAULT_MODEL = "gpt-4o-mini"  # our decision: the paper says ChatGPT
PRICES = {  # US dollars per million tokens in and out, as listed in 2025
    "gpt-3.5-turbo": (0.50, 1.50),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1-mini": (0.40, 1.60),
}
STAND_IN = "stand-in"  # the model name under which the demo's server answers; it costs nothing
MAX_NEW_TOKENS = 1024
EMPTY_REPLIES = 3


@dataclass
class Teacher:
    """A teacher and what it was asked so far; numbers count this run, `kept` the replies found on disk."""

    store: ReplyStore
    model: str = DEFAULT_MODEL
    at_once: int = 8
    seed: int = 0
    max_retries: int = 8
    requests: int = 0
    kept: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    client: openai.OpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not os.environ.get("OPENAI_API_KEY"):
            raise InputError("no key for the teacher: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server)")
        self.client = openai.OpenAI(max_retries=self.max_retries, timeout=120)

    @property
    def address(self) -> str:
        """The server's address without anything secret in it."""
        parts = urlsplit(str(self.client.base_url))
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def ask(self, prompts: Sequence[str], temperature: float, draw: int = 0) -> list[str]:
        """One reply per prompt, in their order; the same `draw` of the same prompt is asked only once, ever.

        InputError if the teacher refuses the key or stays away after the retries: what it said until then is kept.
        """
        keys = [
            key_of(teacher=self.model, at=self.address, prompt=p, temperature=temperature, seed=self.seed, draw=draw)
            for p in prompts
        ]
        replies = self.store.get_all(keys)
        self.kept += sum(key in replies for key in keys)
        missing = {key: prompt for key, prompt in zip(keys, prompts) if key not in replies}
        with (
            tqdm(total=len(missing), desc=f"asking {self.model}", unit="request", disable=not missing) as bar,
            ThreadPoolExecutor(self.at_once) as pool,
        ):
            futures = {
                pool.submit(self._request, prompt, temperature, self.seed + draw): key
                for key, prompt in missing.items()
            }
            try:
                for future in as_completed(futures):
                    text, tokens_in, tokens_out, requests = future.result()
                    self.store.put({futures[future]: text})
                    replies[futures[future]] = text
                    self.requests += requests
                    self.tokens_in += tokens_in
                    self.tokens_out += tokens_out
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                done = {key: f.result()[0] for f, key in futures.items() if f.done() and not f.cancelled() and not f.exception()}
                self.store.put(done)
                raise
        return [replies[key] for key in keys]

    def card(self) -> dict[str, object]:
        """Requests, tokens, replies found on disk and cost in US dollars (None where the price is not known)."""
        price = (0.0, 0.0) if self.model == STAND_IN else PRICES.get(self.model)
        cost = None
        if price is not None:
            cost = round((self.tokens_in * price[0] + self.tokens_out * price[1]) / 1e6, 4)
        return {
            "requests": self.requests,
            "kept_replies": self.kept,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost_usd": cost,
        }

    def _request(self, prompt: str, temperature: float, seed: int) -> tuple[str, int, int, int]:
        """The text of one reply, its tokens in and out, and the requests it took."""
        tokens_in = tokens_out = 0
        for attempt in range(1, EMPTY_REPLIES + 1):
            try:
                reply = self.client.chat.completions.create(
                    model=self.model,
                    messages=[{"role": "user", "content": prompt}],
                    temperature=temperature,
                    max_tokens=MAX_NEW_TOKENS,
                    seed=seed,
                )
            except openai.AuthenticationError:
                # The server's own message can repeat a part of the key.
                raise InputError(f"the teacher at {self.address} refuses the key (401): set OPENAI_API_KEY") from None
            except openai.APIStatusError as error:
                raise InputError(
                    f"the teacher at {self.address} answers {error.status_code} to model {self.model!r} after "
                    f"{self.max_retries} retries; replies so far are kept, run again"
                ) from None
            except openai.APIConnectionError:
                raise InputError(
                    f"the teacher at {self.address} cannot be reached after {self.max_retries} retries; "
                    f"replies so far are kept, run again"
                ) from None
            if reply.usage:
                tokens_in += reply.usage.prompt_tokens
                tokens_out += reply.usage.completion_tokens
            text = (reply.choices[0].message.content or "").strip() if reply.choices else ""
            if text:
                return text, tokens_in, tokens_out, attempt
        raise InputError(
            f"the teacher at {self.address} gave {EMPTY_REPLIES} empty replies to one prompt, which begins "
            f"{prompt[:60]!r}; replies so far are kept"
        )
