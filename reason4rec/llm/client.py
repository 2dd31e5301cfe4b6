"""A chat server in OpenAI's protocol: one request at a time, what its answer means, and what is asked again.

It speaks HTTP itself, through the library of the openai package: that package's client neither counts its retries nor
bounds what it reads.

What is asked again and what is not, our decision:

- Asked again after a pause, `max_retries` times at most: no connection, no answer in `timeout` seconds, a connection
  cut off, the states 408, 409, 429 and 5xx, an answer that is not in OpenAI's form. After that the step stops.
- A reply without text, broken off, or longer than REPLY_LIMIT: asked EMPTY_REPLIES times in all, then the prompt
  counts as refused.
- Refused at once: the codes of PROMPT_CODES, a refusal by the model, a filtered reply, and one cut at MAX_NEW_TOKENS.
  A cut summary or reason is not what was asked for; with the same seed it would be cut again, and another seed is
  another draw.
- Everything else, such as 401, 403, 404 and any other 400, is wrong with every request: the step stops at once.
"""

import email.utils
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from reason4rec.errors import InputError

OPENAI = "https://api.openai.com/v1"
MAX_NEW_TOKENS = 1024
EMPTY_REPLIES = 3
REPLY_LIMIT = 2**20  # bytes of an answer; 1024 tokens are some 5,000
LONGEST_WAIT = 120  # seconds that a server may ask to wait
PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "exceed_context_size_error",  # llama.cpp
    "invalid_prompt",
    "string_above_max_length",
}
UNFINISHED = ("abort", "error", "repetition")  # how vLLM says that it broke off
CHAT = "chat/completions"


class Reply(NamedTuple):
    """What a teacher answered: a text, or why there is none (`empty` may be mended by asking again), and tokens."""

    text: str
    refused: str
    tokens_in: int
    tokens_out: int
    model: str

    @property
    def empty(self) -> bool:
        """Whether there is neither a text nor a refusal."""
        return not (self.text or self.refused)


class Trouble(NamedTuple):
    """What may pass: what the server does, and the seconds that it asks to wait (0: it does not say)."""

    what: str
    wait: float = 0.0


@dataclass
class ChatClient:
    """A chat server; `timeout` and `backoff`, the first pause before a retry (doubled up to 16-fold), are seconds."""

    url: str = field(repr=False)  # may hold a password
    model: str
    at_once: int
    max_retries: int
    timeout: float
    backoff: float

    def __post_init__(self) -> None:
        self._http = http_client(self.url, key_of_teacher(), self.timeout, self.at_once)

    def reply(
        self,
        content: bytes,
        jitter: random.Random,
        stopped: threading.Event,
        why: Callable[[], str],
        count: Callable[[Reply | None], None],
    ) -> Reply:
        """A text or a refusal. InputError, without the key that a server may repeat, where there is neither.

        `stopped` ends it with the reason that `why` gives; `count` takes each reply, and None for a retry.
        """
        empty = retries = 0
        while True:
            if stopped.is_set():
                raise InputError(why())
            got = self.request(content)
            if isinstance(got, Trouble):
                if retries == self.max_retries:
                    raise InputError(self._complaint(got.what))
                pause = got.wait or min(2**retries, 16) * self.backoff
                retries += 1
                count(None)
                # Upwards, so that nobody comes back before the time, nor all at the same one.
                stopped.wait(pause * (1 + jitter.random() / 4))
                continue
            count(got)
            if not got.empty:
                return got
            empty += 1
            if empty == EMPTY_REPLIES:
                return got._replace(refused=f"{EMPTY_REPLIES} replies without a text")

    def request(self, content: bytes) -> Reply | Trouble:
        """One request: a reply, maybe empty, or trouble that may pass. InputError for trouble that will not."""
        try:
            with self._http.stream("POST", CHAT, content=content) as response:
                status, headers, answer = response.status_code, response.headers, read_bounded(response, self.timeout)
        except httpx2.HTTPError as error:
            return Trouble(f"cannot be reached ({type(error).__name__})")
        if 200 <= status < 300:
            if len(answer) > REPLY_LIMIT:
                return Reply("", "", 0, 0, "")
            try:
                return read_reply(json.loads(answer))
            except (ValueError, RecursionError):
                return Trouble("does not answer in OpenAI's form: see whether OPENAI_BASE_URL must end in /v1")
        error = error_in(answer)
        if reason := refusal_of(status, error):
            return Reply("", reason, 0, 0, "")
        if status == 401:
            raise InputError(
                f"the teacher at {address_of(self.url)} refuses the key (401): set OPENAI_API_KEY; replies so far are "
                f"kept"
            )
        code = tame(error.get("code")) or tame(error.get("param"))
        told = f"{status}{f' ({code})' if code else ''} to a request for {self.model!r}"
        if code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            raise InputError(self._complaint(f"answers {told}"))
        wait = wait_of(headers)
        if wait > LONGEST_WAIT:
            raise InputError(self._complaint(f"answers {told} and asks to wait {wait:,.0f} s"))
        return Trouble(f"still answers {told}", wait)

    def _complaint(self, what: str) -> str:
        return f"the teacher at {address_of(self.url)} {what}; replies so far are kept, run the same command again"


def read_reply(answer: object) -> Reply:
    """What a chat completion says; ValueError if it has not OpenAI's form."""
    if not isinstance(answer, dict) or "choices" not in answer or answer.get("error"):
        raise ValueError("no chat completion")
    usage, model = answer.get("usage"), answer.get("model")
    usage = usage if isinstance(usage, dict) else {}
    tokens = [usage.get(f"{side}_tokens") for side in ("prompt", "completion")]
    tokens = [n if isinstance(n, int) and 0 <= n < 2**31 else 0 for n in tokens]
    named = model if isinstance(model, str) and re.fullmatch(r"[\w.:/@-]{1,80}", model) else ""
    if (key := os.environ.get("OPENAI_API_KEY")) and key in named:
        named = ""
    text = refused = ""
    if answer["choices"]:
        choice = answer["choices"][0] if isinstance(answer["choices"], list) else None
        message = choice.get("message") if isinstance(choice, dict) else None
        content = message.get("content") if isinstance(message, dict) else 0
        if not isinstance(content, str | None):
            raise ValueError("no message with a text")
        # Half a character cannot be written as UTF-8 later.
        text = (content or "").encode(errors="replace").decode().strip()
        if message.get("refusal"):
            refused = "a refusal by the model"
        elif choice.get("finish_reason") == "content_filter":
            refused = "content_filter"
        elif choice.get("finish_reason") == "length":
            refused = f"cut at {MAX_NEW_TOKENS} tokens"
        elif choice.get("finish_reason") in UNFINISHED:
            text = ""
    return Reply("" if refused else text, refused, *tokens, named)


def address_of(url: str) -> str:
    """A server's address without user, password or query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def key_in(variable: str) -> str:
    """The key in a variable of the environment, empty if there is none; InputError for what no key can be."""
    key = os.environ.get(variable, "")
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"{variable} holds a space, a line break or a letter that no key has: set it again")
    return key


def key_of_teacher() -> str:
    key = key_in("OPENAI_API_KEY")
    if not key:
        raise InputError("no key for the teacher: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server)")
    return key


def http_client(url: str, key: str, timeout: float, at_once: int) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if os.environ.get(variable):
            headers[name] = os.environ[variable]
    address = httpx2.URL(url)
    try:
        return httpx2.Client(
            # The library's log lines show the address: without the user and the password in it.
            base_url=address.copy_with(userinfo=b""),
            auth=(address.username, address.password) if address.userinfo else None,
            headers=headers,
            timeout=timeout,
            limits=httpx2.Limits(max_keepalive_connections=at_once),
            follow_redirects=True,
        )
    except Exception:  # the library has errors of its own for each way in which a proxy or a certificate can be wrong
        raise InputError(
            "no connection to the teacher can be prepared: see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from None


def read_bounded(response: httpx2.Response, timeout: float) -> bytes:
    """The answer's content, or a little more than REPLY_LIMIT of it; ReadTimeout if it trickles in too slowly."""
    content, end = bytearray(), time.monotonic() + timeout
    for part in response.iter_bytes():
        content += part
        if len(content) > REPLY_LIMIT:
            break
        if time.monotonic() > end:
            raise httpx2.ReadTimeout("the answer trickles in")
    return bytes(content)


def error_in(answer: bytes | object) -> dict:
    """The error that an answer holds: under `error`, under two of them (vLLM's batches), or the answer itself."""
    if isinstance(answer, bytes):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return {}
    while isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        answer = answer["error"]
    return answer if isinstance(answer, dict) else {"message": answer}


def refusal_of(status: int, error: dict) -> str:
    """Why a prompt is refused; empty if a failed request says nothing about its prompt."""
    if status != 400:
        return ""
    for word in (error.get("code"), error.get("type")):
        if isinstance(word, str) and word in PROMPT_CODES:
            return f"400 {word}"
    # vLLM gives no code of its own.
    return "400 context_length_exceeded" if "maximum context length" in str(error.get("message")) else ""


def tame(text: object) -> str:
    """A server's word where it can be shown: letters only, so no part of a key."""
    return text if isinstance(text, str) and re.fullmatch("[A-Za-z_]{1,60}", text) else ""


def wait_of(headers: Mapping[str, str]) -> float:
    """The seconds that a server asks to wait, 0 if it does not say."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if seconds > 0 else 0.0
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
    return max(date - time.time(), 0.0)


def check_url(url: str) -> None:
    """InputError unless a teacher's address is one of a server."""
    try:
        usable = httpx2.URL(url).scheme in ("http", "https") and bool(urlsplit(address_of(url)).hostname)
    except (httpx2.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise InputError("OPENAI_BASE_URL is no address of a server: set it like https://api.openai.com/v1")
