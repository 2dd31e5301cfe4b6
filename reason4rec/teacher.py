"""The teacher, ChatGPT or any server that speaks its protocol: ask, keep, retry, count.

The key and the address come from OPENAI_API_KEY and OPENAI_BASE_URL. Every reply is on disk before the step goes on;
draws of one prompt at temperature 1 are told apart by their number, so they stay different draws and are asked once.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import openai
from tqdm import tqdm

from reason4rec.errors import InputError
from reason4rec.store import ReplyStore, key_of

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
    model: str
    at_once: int = 8
    seed: int = 0
    max_retries: int = 8
    requests: int = 0
    kept: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    client: openai.OpenAI = field(init=False, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key:
            raise InputError("no key for the teacher: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server)")
        if not all("!" <= character <= "~" for character in key):
            raise InputError("OPENAI_API_KEY holds a space, a line break or a letter that no key has: set it again")
        if self.max_retries < 0:
            raise InputError(f"--retries {self.max_retries}: must be 0 or more")
        try:
            self.client = openai.OpenAI(max_retries=self.max_retries, timeout=120)
            usable = self.address.startswith(("http://", "https://"))
        except Exception:  # the HTTP library has errors of its own for each way in which an address can be wrong
            usable = False
        if not usable:
            raise InputError("OPENAI_BASE_URL is no address of a server: set it like https://api.openai.com/v1")

    @property
    def address(self) -> str:
        """The server's address without anything secret in it."""
        return address_of(str(self.client.base_url))

    def ask(self, prompts: Sequence[str], temperature: float, draw: int = 0) -> list[str]:
        """One reply per prompt, in their order; the same `draw` of the same prompt is asked only once, ever.

        InputError if the teacher refuses the key or stays away after the retries: what it said until then is kept.
        """
        server = server_of(self.model)
        keys = [
            key_of(teacher=self.model, at=server, prompt=p, temperature=temperature, seed=self.seed, draw=draw)
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
                pool.submit(self._ask_and_keep, key, prompt, temperature, self.seed + draw): key
                for key, prompt in missing.items()
            }
            try:
                for future in as_completed(futures):
                    replies[futures[future]] = future.result()
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
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

    def _ask_and_keep(self, key: str, prompt: str, temperature: float, seed: int) -> str:
        for _ in range(EMPTY_REPLIES):
            text, tokens_in, tokens_out = self._request(prompt, temperature, seed)
            with self.lock:
                self.requests += 1
                self.tokens_in += tokens_in
                self.tokens_out += tokens_out
            if text:
                self.store.put({key: text})
                return text
        raise InputError(
            f"the teacher at {self.address} gave {EMPTY_REPLIES} empty replies to the prompt that begins "
            f"{prompt[:60]!r}; replies so far are kept"
        )

    def _request(self, prompt: str, temperature: float, seed: int) -> tuple[str, int, int]:
        """One reply, maybe empty, and its tokens in and out.

        InputError, without the key that a server's own message may repeat, where there is none.
        """
        try:
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=temperature,
                max_tokens=MAX_NEW_TOKENS,
                seed=seed,
            )
            message = reply.choices[0].message if reply.choices else None
            text = (message.content or "").strip() if message else ""
            usage = reply.usage
            return text, (usage and usage.prompt_tokens) or 0, (usage and usage.completion_tokens) or 0
        except openai.AuthenticationError:
            raise InputError(f"the teacher at {self.address} refuses the key (401): set OPENAI_API_KEY") from None
        except openai.APIStatusError as error:
            trouble = f"still answers {error.status_code} to a request for {self.model!r}"
        except openai.APIError as error:
            trouble = f"cannot be reached ({type(error).__name__})"
        except (ValueError, TypeError, AttributeError):
            trouble = "does not answer in OpenAI's form: see whether OPENAI_BASE_URL must end in /v1"
        raise InputError(
            f"the teacher at {self.address} {trouble}; replies so far are kept, run the same command again"
        )


def address_of(url: str) -> str:
    """A server's address without user, password or query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def server_of(model: str) -> str:
    """What stands for the server in records and keys: its address, but one name for the stand-in on any port."""
    if model == STAND_IN:
        return STAND_IN
    return address_of(os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1")
