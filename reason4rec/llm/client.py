"""A chat server in OpenAI's protocol: one request at a time, what its answer means, and what is asked again.

It speaks HTTP itself, through the library of the openai package: that package's client neither counts its retries nor
bounds what it reads.

What is asked again and what is not, our decision:

- Asked again after a pause, `max_retries` times at most: no connection, no answer in `timeout` seconds, a connection
  cut off, the states 408, 409, 429 and 5xx, an answer that is not in OpenAI's form. After that the step stops.
- A reply without text, broken off, or longer than REPLY_LIMIT: asked EMPTY_REPLIES times in all, then the prompt
  counts as refused.
- Refused at once: the codes of PROMPT_CODES, a refusal by the model, a filtered reply, and one cut at --reply_tokens.
  A cut summary or reason is not what was asked for; with the same seed it would be cut again, and another seed is
  another draw.
- A parameter that the server does not take: sent under the name that it asks for, or left out, from then on; said once.
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
from tqdm import tqdm

from reason4rec.errors import InputError
from reason4rec.llm.answers import AnswerError, Reply, parsed, read_reply
from reason4rec.llm.usage import HEADERS, REPLY_TOKENS
from reason4rec.run.network import KEY_OF_AZURE, extra_headers, is_azure, kept_from_others, network_hint

OPENAI = "https://api.openai.com/v1"
EMPTY_REPLIES = 3
REPLY_LIMIT = 2**20  # bytes of an answer; 4,096 tokens are some 20,000
LONGEST_WAIT = 120  # seconds that a server may ask to wait
PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "exceed_context_size_error",  # llama.cpp
    "invalid_prompt",
    "string_above_max_length",
}
CHAT = "chat/completions"
LIMIT = "max_completion_tokens"  # the newer name of max_tokens
NEGOTIABLE = ("max_tokens", LIMIT, "temperature", "seed")
FLAGS = {"model": "--teacher_model", "max_tokens": "--reply_tokens", LIMIT: "--reply_tokens", "seed": "--seed"}
FLAGS |= {"messages": "--prompts"}
NOT_TAKEN = re.compile(
    r"unsupported|not support|extra inputs|extra_forbidden|extra fields|not permitted|not allowed|unknown|unrecognized|"
    r"unexpected|deprecated|only the default"
)
DEFAULT = re.compile(r"[Oo]nly the default \((\d(?:\.\d+)?)\)")


class Trouble(NamedTuple):
    """What may pass: what the server does, and the seconds that it asks to wait (0: it does not say)."""

    what: str
    wait: float = 0.0


@dataclass
class ChatClient:
    """A chat server; `timeout` and `backoff`, the first pause before a retry (doubled up to 16-fold), are seconds.

    `sent_as` says how the server wants a parameter: under another name, with another value, or (None) not at all.
    """

    url: str = field(repr=False)  # may hold a password
    model: str
    at_once: int
    max_retries: int
    timeout: float
    backoff: float
    reply_tokens: int = REPLY_TOKENS
    sent_as: dict[str, str | float | None] = field(default_factory=dict, init=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._http = http_client(self.url, key_of_teacher(), self.timeout, self.at_once)

    def reply(
        self,
        body: Mapping[str, object],
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
            got = self.request(body)
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

    def request(self, body: Mapping[str, object]) -> Reply | Trouble:
        """One request: a reply, maybe empty, or trouble that may pass. InputError for trouble that will not."""
        with self.lock:
            sent = as_sent(body, self.sent_as)
        try:
            with self._http.stream("POST", CHAT, content=json.dumps(sent).encode()) as response:
                status, headers, answer = response.status_code, response.headers, read_bounded(response, self.timeout)
        except httpx2.HTTPError as error:
            return Trouble(f"cannot be reached ({type(error).__name__}{network_hint(self.url, error)})")
        if 200 <= status < 300:
            if len(answer) > REPLY_LIMIT:
                return Reply("", "", 0, 0, "")
            try:
                return read_reply(parsed(answer), self.reply_tokens)
            except AnswerError as error:
                status, answer = status_in(error.content), error.content
            except (ValueError, RecursionError):
                return Trouble(f"does not answer in OpenAI's form{form_hint(headers)}")
        error = error_in(answer)
        if reason := refusal_of(status, error):
            return Reply("", reason, 0, 0, "")
        if status in (400, 422) and (name := refused_parameter(error, sent)):
            self._send_otherwise(name, error, sent, body)
            return self.request(body)
        if status == 401:
            raise InputError(
                f"the teacher at {address_of(self.url)} refuses the key (401): set OPENAI_API_KEY; replies so far are "
                f"kept"
            )
        code = tame(error.get("code")) or tame(error.get("param"))
        told = f"{status}{f' ({code})' if code else ''} to a request for {self.model!r}{flag_hint(error, sent)}"
        if code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            raise InputError(self._complaint(f"answers {told}"))
        wait = wait_of(headers)
        if wait > LONGEST_WAIT:
            raise InputError(self._complaint(f"answers {told} and asks to wait {wait:,.0f} s"))
        return Trouble(f"still answers {told}", wait)

    def _send_otherwise(self, name: str, error: object, sent: Mapping, body: Mapping) -> None:
        """Sends a parameter as the server asks for it, or no longer."""
        with self.lock:
            if as_sent(body, self.sent_as) != sent:
                return  # another thread was told meanwhile, so this complaint is about an earlier form
            ours = next((one for one, other in self.sent_as.items() if other == name), name)
            default = DEFAULT.search(json.dumps(error)) if ours not in self.sent_as else None
            other = LIMIT if name == "max_tokens" else float(default[1]) if default else None
            self.sent_as[ours] = other
        how = "is left out: the teacher's own value holds" if other is None else f"is sent as {other}"
        tqdm.write(f"note: the teacher at {address_of(self.url)} does not take our {name}, which {how}")

    def sent_otherwise(self) -> str:
        """Which parameters the server wanted otherwise than we send them; empty if none."""
        shown = {name: f"no {name}" if other is None else f"{name} as {other}" for name, other in self.sent_as.items()}
        return ", ".join(shown[name] for name in sorted(shown))

    def _complaint(self, what: str) -> str:
        return f"the teacher at {address_of(self.url)} {what}; replies so far are kept, run the same command again"


def address_of(url: str) -> str:
    """A server's address without user, password or query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def as_sent(body: Mapping[str, object], sent_as: Mapping[str, str | float | None]) -> dict[str, object]:
    """A request with its parameters as a server takes them, without those that it does not."""
    sent: dict[str, object] = {}
    for name, value in body.items():
        other = sent_as.get(name, name)
        if isinstance(other, str):
            sent[other] = value
        elif other is not None:
            sent[name] = other
    return sent


def refused_parameter(error: object, sent: Mapping[str, object]) -> str:
    """The parameter of a request that the server says it does not take; empty if it complains of something else."""
    words = json.dumps(error).lower()
    if not NOT_TAKEN.search(words):
        return ""
    named = error.get("param") if isinstance(error, dict) else None
    if named in NEGOTIABLE and named in sent:
        return named
    return next((name for name in NEGOTIABLE if name in sent and re.search(rf"\b{name}\b", words)), "")


def flag_hint(error: object, sent: Mapping[str, object]) -> str:
    """Which flag gives the parameter that a server complains of."""
    named = error.get("param") if isinstance(error, dict) else None
    if named not in FLAGS:
        # "model" and "messages" are words of any complaint.
        words = json.dumps(error).lower()
        named = next((name for name in NEGOTIABLE if name in sent and re.search(rf"\b{name}\b", words)), None)
    return f", about {named}: see {FLAGS[named]}" if named in FLAGS else ""


def status_in(error: object) -> int:
    """The state that an error in an answer of state 200 stands for."""
    code = error_in(error).get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def form_hint(headers: Mapping[str, str]) -> str:
    """What an answer of no known form may come from."""
    kind = re.match(r"[\w/+.-]{0,40}", headers.get("content-type", ""))[0]
    sent = f" but sends {kind}" if kind and "json" not in kind else ""
    return f"{sent}: see whether OPENAI_BASE_URL must end in /v1"


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
    headers = {KEY_OF_AZURE: key} if is_azure(url) else {"Authorization": f"Bearer {key}"}
    headers["Content-Type"] = "application/json"
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if os.environ.get(variable):
            headers[name] = os.environ[variable]
    given = extra_headers(HEADERS)
    headers = {name: value for name, value in headers.items() if name.lower() not in map(str.lower, given)} | given
    address = httpx2.URL(url)
    try:
        return httpx2.Client(
            event_hooks=kept_from_others(address.host, given),
            # The library's log lines show the address: without the user and the password in it.
            base_url=address.copy_with(userinfo=b"", query=None),
            params=address.params,
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
