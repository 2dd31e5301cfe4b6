"""The teacher, ChatGPT or any server that speaks its protocol: ask, keep, retry, count; or let a batch service answer.

The key and the address come from OPENAI_API_KEY and OPENAI_BASE_URL. Every reply is on disk before the step goes on;
draws of one prompt at temperature 1 are told apart by their number, so they stay different draws and are asked once.

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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2
from tqdm import tqdm

from reason4rec.errors import InputError, Pending
from reason4rec.llm.base import windows
from reason4rec.llm.cache import ResponseCache, key_of
from reason4rec.run.files import atomic_write

PRICES = {  # US dollars per million tokens in and out, as listed in 2025
    "gpt-3.5-turbo": (0.50, 1.50),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1-mini": (0.40, 1.60),
}
BATCH_PRICE = 0.5  # of the listed price; OpenAI
STAND_IN = "stand-in"  # the model name under which the demo's server answers; it costs nothing
OPENAI = "https://api.openai.com/v1"
MAX_NEW_TOKENS = 1024
EMPTY_REPLIES = 3
REFUSED_AT_FIRST = 20  # so many refusals before any answer are the teacher's fault and not the prompts'
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
BATCH_URL = f"/v1/{CHAT}"
BATCH_REQUESTS, BATCH_BYTES = 50_000, 200_000_000  # in one file; OpenAI
COUNTS = ("taken", "kept before", "refused", "failed", "empty", "unknown", "cut off")  # of a batch's lines
LINES_AT_ONCE = 5_000
HALF_A_CHARACTER = "half a character in the text (a lone surrogate)"


class BatchPending(Pending):
    """Replies are missing and none may be asked for: `teacher` holds the requests for `write_export`."""

    def __init__(self, teacher: "Teacher"):
        super().__init__(f"{len(teacher.wanted):,} replies of the teacher are not there yet")
        self.teacher = teacher

    def write(self) -> str:
        """Writes the requests that are missing to the file of `--batch_export`; what to do next."""
        written = self.teacher.write_export()
        files = ", ".join(str(path) for path, _ in written)
        return (
            f"{sum(count for _, count in written):,} requests written to {files}; send them as a batch, then run the "
            f"same command with --batch_import REPLIES (and with --batch_export if no other request is to be sent)"
        )


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


class _Trouble(NamedTuple):
    """What may pass: said as what the teacher does, and the seconds that it asks to wait (0: not said)."""

    what: str
    wait: float = 0.0


@dataclass
class Teacher:
    """A teacher and what it was asked so far; numbers count this run, `kept` the replies found on disk.

    `refused` says why there is no reply to a prompt. With `export` no request is ever sent and no key needed.
    `timeout` and `backoff`, the first pause before a retry (doubled each time, up to 16-fold), are seconds.
    """

    store: ResponseCache
    model: str
    at_once: int = 8
    seed: int = 0
    max_retries: int = 8
    export: Path | None = None
    timeout: float = 120.0
    backoff: float = 0.5
    requests: int = 0
    kept: int = 0
    retried: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    batch_replies: int = 0
    batch_tokens_in: int = 0
    batch_tokens_out: int = 0
    refused: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    wanted: dict[str, dict] = field(default_factory=dict, init=False, repr=False)
    answered_by: set[str] = field(default_factory=set, init=False, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._url = os.environ.get("OPENAI_BASE_URL") or OPENAI
        self._client = None
        self._pool: ThreadPoolExecutor | None = None
        self._callers = 0
        self._flying: dict[str, Future] = {}
        self._stopped, self._why = threading.Event(), ""
        self._answered = self._matched = False
        self._doubtful: dict[str, dict] = {}  # refusals before any answer
        self._imported: set[str] = set()
        if self.max_retries < 0:
            raise InputError(f"--retries {self.max_retries}: must be 0 or more")
        try:
            usable = httpx2.URL(self._url).scheme in ("http", "https") and bool(urlsplit(self.address).hostname)
        except (httpx2.InvalidURL, ValueError):
            usable = False
        if not usable:
            raise InputError("OPENAI_BASE_URL is no address of a server: set it like https://api.openai.com/v1")
        if not self.export:
            self._client = _client(self._url, _key(), self.timeout, self.at_once)

    @property
    def address(self) -> str:
        """The server's address without anything secret in it."""
        return address_of(self._url)

    def ask(self, prompts: Sequence[str], temperature: float, draw: int = 0, quiet: bool = False) -> list[str | None]:
        """One reply per prompt, in their order; the same `draw` of the same prompt is asked only once, ever.

        None stands for a prompt that the teacher refuses for good; `refused` says why. Several threads may call at
        once and share `at_once` requests in flight; if one call fails, so do all. `quiet` shows no progress bar.
        InputError if the teacher refuses the key or stays away after the retries: what it said until then is kept.
        NotYet with `export` if a reply is missing.
        """
        replies: list[str | None] = []
        not_yet = None
        if self._imported and not self._matched:
            keys = (self._keys(prompts[window], temperature, draw) for window in windows(len(prompts)))
            if not all(map(self._imported.isdisjoint, keys)):
                self._matched = True  # and never back: another thread may have found a match meanwhile
        hidden = quiet or self.export is not None or not prompts
        with tqdm(total=len(prompts), desc=f"asking {self.model}", unit="prompt", disable=hidden) as bar:
            for window in windows(len(prompts)):
                try:
                    replies += self._ask_some(prompts[window], temperature, draw, bar)
                except BatchPending as error:
                    not_yet = error
        if not_yet:
            raise not_yet
        return replies

    def _keys(self, prompts: Sequence[str], temperature: float, draw: int) -> list[str]:
        settings = {"at": server_of(self.model), "temperature": temperature, "seed": self.seed, "draw": draw}
        return [key_of(teacher=self.model, prompt=prompt, **settings) for prompt in prompts]

    def _ask_some(self, prompts: Sequence[str], temperature: float, draw: int, bar: tqdm) -> list[str | None]:
        keys = self._keys(prompts, temperature, draw)
        prompt_of = dict(zip(keys, prompts))
        entered = False
        try:
            with self.lock:
                replies = self._found(keys, prompt_of)
                missing = [key for key in prompt_of if key not in replies]
                if not missing:
                    bar.update(len(prompts))
                    return [replies[key] for key in keys]
                bodies = {key: self._body(prompt_of[key], temperature, self.seed + draw) for key in missing}
                self._admit(bodies)
                entered = True
                self._callers += 1
                self._pool = self._pool or ThreadPoolExecutor(self.at_once)
                for key in missing:
                    if key not in self._flying:
                        self._flying[key] = self._pool.submit(self._ask_and_keep, key, bodies[key])
                futures = {self._flying[key]: key for key in missing}
            bar.update(len(prompts) - len(missing))
            for future in as_completed(futures):
                replies[futures[future]] = future.result()
                bar.update()
            return [replies[key] for key in keys]
        except BaseException as error:
            if entered:
                self._stop_for(error)
            raise
        finally:
            if entered:
                self._leave()

    def stop(self, why: str = "interrupted") -> None:
        """Ends all calls of `ask`, and every later one that would send a request, with an InputError.

        Replies in flight are still kept. For a caller whose other threads ask.
        """
        with self.lock:
            if not self._stopped.is_set():
                self._why = why
                self._stopped.set()

    def card(self) -> dict[str, object]:
        """Requests, replies found on disk, retries, refused prompts, tokens and cost in US dollars.

        A cost is None where the price is not known. The replies of a batch count apart, and only if they are new.
        """
        card = {
            "requests": self.requests,
            "kept_replies": self.kept,
            "retried": self.retried,
            "refused": len(self.refused),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost_usd": self._cost(self.tokens_in, self.tokens_out),
        }
        if self._imported:
            card |= {
                "batch_replies": self.batch_replies,
                "batch_tokens_in": self.batch_tokens_in,
                "batch_tokens_out": self.batch_tokens_out,
                "batch_cost_usd": self._cost(self.batch_tokens_in, self.batch_tokens_out, BATCH_PRICE),
            }
        if self.answered_by - {self.model}:
            card["answered_by"] = " ".join(sorted(self.answered_by)[:3])
        return card

    def write_export(self) -> list[tuple[Path, int]]:
        """Writes the requests that `ask` missed as JSON lines of OpenAI's Batch API; the files and their requests.

        They are ordered by prompt, so that the same requests give the same bytes. What does not fit into one file goes
        to FILE-2 and so on; such files of an earlier export that are no longer needed are removed.
        """
        written: list[tuple[Path, int]] = []
        lines = self._export_lines()
        line = next(lines, None)
        while line is not None:
            path = _part(self.export, len(written) + 1)
            count = size = 0
            with atomic_write(path) as draft, draft.open("wb") as file:
                while line is not None and count < BATCH_REQUESTS and (not count or size + len(line) <= BATCH_BYTES):
                    file.write(line)
                    count, size = count + 1, size + len(line)
                    line = next(lines, None)
            written.append((path, count))
        number = max(len(written), 1) + 1
        while (stale := _part(self.export, number)).exists():
            stale.unlink()
            number += 1
        return written

    def import_batch(self, path: Path) -> dict[str, int]:
        """Keeps the replies in a batch's result file, or in all *.jsonl of a folder; prints and returns the counts.

        Lines as OpenAI (results and errors) and `vllm run-batch` write them, in any order. A reply that is kept
        already stays. What failed or came back empty is left to be asked again. InputError with the line's number for
        what is no result, and if no line holds a reply.
        """
        counts: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        good: dict[str, Reply] = {}
        refused: dict[str, Reply] = {}
        for where, line in _result_lines(path, counts):
            key = line["custom_id"]
            if not re.fullmatch("[0-9a-f]{64}", key):
                counts["unknown"] += 1
                continue
            self._imported.add(key)
            reply = _result(line, where)
            if isinstance(reply, str):
                failures[reply] += 1
            elif reply.empty:
                counts["empty"] += 1
            else:
                (refused if reply.refused else good).setdefault(key, reply)
            if len(good) >= LINES_AT_ONCE:
                self._take(good, counts)
        self._take(good, counts)
        kept = self.store.get_all(refused)
        refused = {key: reply for key, reply in refused.items() if key not in kept}
        counts["refused"], counts["failed"] = len(refused), failures.total()
        trouble = ", ".join(f"{count:,} {reason}" for reason, count in failures.most_common(3))
        if not (self._answered or refused or kept):
            raise InputError(f"{path}: holds no reply to a request of this program ({trouble or 'no results in it'})")
        with self.lock:
            self._count_batch(refused.values())
            self._doubtful |= {key: {"refused": reply.refused} for key, reply in refused.items()}
            doubtful = self._doubts() if self._answered else {}
        self.store.put(doubtful, replace=False)
        said = f"{counts['taken']:,} replies taken, {counts['kept before']:,} kept before, {len(refused):,} refused"
        again = f"{counts['failed']:,} failed{f' ({trouble})' if trouble else ''} and {counts['empty']:,} empty"
        odd = "".join(f", {counts[name]:,} {name}" for name in ("unknown", "cut off") if counts[name])
        print(f"{path}: {said}; to be asked again: {again}{odd}")
        return {name: counts[name] for name in COUNTS}

    def _take(self, good: dict[str, Reply], counts: Counter) -> None:
        """Keeps replies of a batch in one transaction, in the place of refusals but never of replies."""
        kept = self.store.get_all(good)
        new = {key: reply for key, reply in good.items() if key not in kept}
        mended = {key: good[key].text for key, value in kept.items() if isinstance(value, dict)}
        self.store.put({key: reply.text for key, reply in new.items()}, replace=False)
        self.store.put(mended)
        counts["taken"] += len(new) + len(mended)
        counts["kept before"] += len(good) - len(new) - len(mended)
        with self.lock:
            self._answered |= bool(good)
            self._count_batch([*new.values(), *(good[key] for key in mended)])
        good.clear()

    def _count_batch(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            self.batch_replies += 1
            self.batch_tokens_in += reply.tokens_in
            self.batch_tokens_out += reply.tokens_out
            self.answered_by |= {reply.model} - {""}

    def _export_lines(self) -> Iterator[bytes]:
        for key, body in sorted(self.wanted.items(), key=lambda item: (item[1]["messages"][0]["content"], item[0])):
            line = {"custom_id": key, "method": "POST", "url": BATCH_URL, "body": body}
            yield json.dumps(line).encode() + b"\n"

    def _cost(self, tokens_in: int, tokens_out: int, share: float = 1.0) -> float | None:
        price = (0.0, 0.0) if self.model == STAND_IN else PRICES.get(self.model)
        return price and round((tokens_in * price[0] + tokens_out * price[1]) * share / 1e6, 4)

    def _found(self, keys: list[str], prompt_of: dict[str, str]) -> dict[str, str | None]:
        """What is kept for keys, with the lock held: replies, and None for what is refused or cannot be asked."""
        kept = self.store.get_all(keys)
        replies: dict[str, str | None] = {key: value for key, value in kept.items() if isinstance(value, str)}
        self._answered |= bool(replies)
        self.kept += sum(key in replies for key in keys)
        if doubtful := self._doubts():
            self.store.put(doubtful, replace=False)
            kept = doubtful | kept
        for key, prompt in prompt_of.items():
            value = kept.get(key)
            if isinstance(value, dict):
                self.refused[prompt], replies[key] = value["refused"], None
            elif value is None and not _is_text(prompt):
                self.refused[prompt], replies[key] = HALF_A_CHARACTER, None
        return replies

    def _doubts(self) -> dict[str, dict]:
        """The refusals to keep by now, with the lock held: none while the teacher has answered nothing."""
        if self._answered:
            doubtful, self._doubtful = self._doubtful, {}
            return doubtful
        if len(self._doubtful) >= REFUSED_AT_FIRST:
            reasons = ", ".join(sorted({value["refused"] for value in self._doubtful.values()}))
            raise InputError(
                f"the teacher at {self.address} refused the first {len(self._doubtful)} prompts ({reasons}) and "
                f"answered none: see --teacher_model and the prompts; nothing of this is kept"
            )
        return {}

    def _body(self, prompt: str, temperature: float, seed: int) -> dict:
        messages = [{"role": "user", "content": prompt}]
        return {
            "model": self.model,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": MAX_NEW_TOKENS,
            "seed": seed,
        }

    def _admit(self, bodies: dict[str, dict]) -> None:
        """Lets missing requests pass, or raises what stands against sending them; with the lock held."""
        if self._imported and not self._matched:
            raise InputError(
                "--batch_import: its replies answer none of this step's requests, so none was sent: see "
                "--teacher_model, --seed, --prompts and OPENAI_BASE_URL. If that is meant, run without --batch_import"
            )
        if self.export:
            self.wanted |= bodies
            raise BatchPending(self)

    def _leave(self) -> None:
        with self.lock:
            self._callers -= 1
            pool = self._pool
            if self._callers:
                return
            self._pool = None
        if pool:
            pool.shutdown(cancel_futures=True)

    def _ask_and_keep(self, key: str, body: dict) -> str | None:
        try:
            reply = self._reply(key, body)
            self._keep(key, body["messages"][0]["content"], reply)
            return reply.text or None
        except BaseException as error:
            self._stop_for(error)
            raise
        finally:
            with self.lock:
                del self._flying[key]

    def _stop_for(self, error: BaseException) -> None:
        self.stop(str(error) if isinstance(error, InputError) else f"stopped by {type(error).__name__}")

    def _keep(self, key: str, prompt: str, reply: Reply) -> None:
        with self.lock:
            self._answered |= bool(reply.text)
            if reply.refused:
                self.refused[prompt] = reply.refused
                self._doubtful[key] = {"refused": reply.refused}
            values = self._doubts()
        self.store.put(values | ({key: reply.text} if reply.text else {}))

    def _reply(self, key: str, body: dict) -> Reply:
        """A text or a refusal. InputError, without the key that a server may repeat, where there is neither."""
        content, jitter = json.dumps(body).encode(), random.Random(key)
        empty = retries = 0
        while True:
            if self._stopped.is_set():
                raise InputError(self._why)
            got = self._request(content)
            if isinstance(got, _Trouble):
                if retries == self.max_retries:
                    raise InputError(self._complaint(got.what))
                pause = got.wait or min(2**retries, 16) * self.backoff
                retries += 1
                with self.lock:
                    self.retried += 1
                # Upwards, so that nobody comes back before the time, nor all at the same one.
                self._stopped.wait(pause * (1 + jitter.random() / 4))
                continue
            with self.lock:
                self.requests += 1
                self.tokens_in += got.tokens_in
                self.tokens_out += got.tokens_out
                self.answered_by |= {got.model} - {""}
            if not got.empty:
                return got
            empty += 1
            if empty == EMPTY_REPLIES:
                return got._replace(refused=f"{EMPTY_REPLIES} replies without a text")

    def _request(self, content: bytes) -> Reply | _Trouble:
        """One request: a reply, maybe empty, or trouble that may pass. InputError for trouble that will not."""
        try:
            with self._client.stream("POST", CHAT, content=content) as response:
                status, headers, answer = response.status_code, response.headers, _read(response, self.timeout)
        except httpx2.HTTPError as error:
            return _Trouble(f"cannot be reached ({type(error).__name__})")
        if 200 <= status < 300:
            if len(answer) > REPLY_LIMIT:
                return Reply("", "", 0, 0, "")
            try:
                return read_reply(json.loads(answer))
            except (ValueError, RecursionError):
                return _Trouble("does not answer in OpenAI's form: see whether OPENAI_BASE_URL must end in /v1")
        error = _error_in(answer)
        if reason := _refusal_of(status, error):
            return Reply("", reason, 0, 0, "")
        if status == 401:
            raise InputError(
                f"the teacher at {self.address} refuses the key (401): set OPENAI_API_KEY; replies so far are kept"
            )
        code = _tame(error.get("code")) or _tame(error.get("param"))
        told = f"{status}{f' ({code})' if code else ''} to a request for {self.model!r}"
        if code == "insufficient_quota" or not (status in (408, 409, 429) or status >= 500):
            raise InputError(self._complaint(f"answers {told}"))
        wait = _wait_of(headers)
        if wait > LONGEST_WAIT:
            raise InputError(self._complaint(f"answers {told} and asks to wait {wait:,.0f} s"))
        return _Trouble(f"still answers {told}", wait)

    def _complaint(self, what: str) -> str:
        return f"the teacher at {self.address} {what}; replies so far are kept, run the same command again"


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


def server_of(model: str) -> str:
    """What stands for the server in records and keys: its address, but one name for the stand-in on any port."""
    if model == STAND_IN:
        return STAND_IN
    return address_of(os.environ.get("OPENAI_BASE_URL") or OPENAI)


def key_in(variable: str) -> str:
    """The key in a variable of the environment, empty if there is none; InputError for what no key can be."""
    key = os.environ.get(variable, "")
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"{variable} holds a space, a line break or a letter that no key has: set it again")
    return key


def _key() -> str:
    key = key_in("OPENAI_API_KEY")
    if not key:
        raise InputError("no key for the teacher: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server)")
    return key


def _client(url: str, key: str, timeout: float, at_once: int) -> httpx2.Client:
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


def _read(response: httpx2.Response, timeout: float) -> bytes:
    """The answer's content, or a little more than REPLY_LIMIT of it; ReadTimeout if it trickles in too slowly."""
    content, end = bytearray(), time.monotonic() + timeout
    for part in response.iter_bytes():
        content += part
        if len(content) > REPLY_LIMIT:
            break
        if time.monotonic() > end:
            raise httpx2.ReadTimeout("the answer trickles in")
    return bytes(content)


def _error_in(answer: bytes | object) -> dict:
    """The error that an answer holds: under `error`, under two of them (vLLM's batches), or the answer itself."""
    if isinstance(answer, bytes):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return {}
    while isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        answer = answer["error"]
    return answer if isinstance(answer, dict) else {"message": answer}


def _refusal_of(status: int, error: dict) -> str:
    """Why a prompt is refused; empty if a failed request says nothing about its prompt."""
    if status != 400:
        return ""
    for word in (error.get("code"), error.get("type")):
        if isinstance(word, str) and word in PROMPT_CODES:
            return f"400 {word}"
    # vLLM gives no code of its own.
    return "400 context_length_exceeded" if "maximum context length" in str(error.get("message")) else ""


def _tame(text: object) -> str:
    """A server's word where it can be shown: letters only, so no part of a key."""
    return text if isinstance(text, str) and re.fullmatch("[A-Za-z_]{1,60}", text) else ""


def _wait_of(headers: Mapping[str, str]) -> float:
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


def _is_text(prompt: str) -> bool:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return True


def _part(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _result_lines(path: Path, counts: Counter) -> Iterator[tuple[str, dict]]:
    """The lines of a batch's result files with their places; what is no result is an InputError."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no *.jsonl in this folder; give the file of a batch's results, or their folder")
    for each in files:
        try:
            with each.open("rb") as file:
                for number, text in enumerate(file, 1):
                    where = f"{each}, line {number}"
                    if not text.strip():
                        continue
                    try:
                        line = json.loads(text)
                    except (ValueError, RecursionError):
                        if not text.endswith(b"\n"):  # only the last line, of a file that is not whole
                            counts["cut off"] += 1
                            continue
                        raise InputError(f"{where}: not JSON; fetch the batch's results again") from None
                    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
                        raise InputError(f"{where}: no result of a batch (it has no custom_id)")
                    if "method" in line:
                        raise InputError(f"{where}: a request, not a result; give the file that the service returned")
                    yield where, line
        except FileNotFoundError:
            raise InputError(f"{each}: no such file") from None


def _result(line: dict, where: str) -> Reply | str:
    """What a line of results says: a reply, or in a word why there is none."""
    response, error = line.get("response"), line.get("error")
    if not isinstance(response, dict | None):
        raise InputError(f"{where}: no result of a batch (its response is no object)")
    status, body = (response or {}).get("status_code"), (response or {}).get("body")
    if status == 200 and not error:
        try:
            return read_reply(body)
        except ValueError:
            return "not in OpenAI's form"
    error = _error_in(error or body)
    if reason := _refusal_of(status, error):
        return Reply("", reason, 0, 0, "")
    words = [str(status) if isinstance(status, int) else "", _tame(error.get("code")) or _tame(error.get("type"))]
    return " ".join(filter(None, words)) or "without a word why"
