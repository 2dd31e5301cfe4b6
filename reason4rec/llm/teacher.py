"""The teacher, ChatGPT or any server that speaks its protocol: ask, keep, count; or let a batch service answer.

The key and the address come from OPENAI_API_KEY and OPENAI_BASE_URL. Every reply is on disk before the step goes on;
draws of one prompt at temperature 1 are told apart by their number, so they stay different draws and are asked once.
`client` says what is asked again and what is not.
"""

import os
import random
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from reason4rec.errors import InputError, Pending
from reason4rec.llm import batch_api
from reason4rec.llm.answers import Reply, answer_of, outgrown
from reason4rec.llm.base import windows
from reason4rec.llm.cache import ResponseCache, key_of
from reason4rec.llm.client import LIMIT, OPENAI, ChatClient, address_of, as_sent, check_url
from reason4rec.llm.usage import REPLY_TOKENS, STAND_IN, Usage
from reason4rec.run.progress import Bar, progress

REFUSED_AT_FIRST = 20  # so many refusals before any answer are the teacher's fault and not the prompts'
REASONS_ITSELF = re.compile(r"(?:^|/)(?:o\d|gpt-5)")  # names of OpenAI's models that take no temperature and no seed
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


@dataclass
class Teacher(Usage):
    """A teacher and what it was asked so far.

    With `export` no request is ever sent and no key needed. `timeout` and `backoff`, the first pause before a retry
    (doubled each time, up to 16-fold), are seconds.
    """

    store: ResponseCache
    model: str
    at_once: int = 8
    seed: int = 0
    max_retries: int = 8
    export: Path | None = None
    timeout: float = 120.0
    backoff: float = 0.5
    reply_tokens: int = REPLY_TOKENS
    wanted: dict[str, dict] = field(default_factory=dict, init=False, repr=False)
    imported: set[str] = field(default_factory=set, init=False, repr=False)
    doubtful: dict[str, dict] = field(default_factory=dict, init=False, repr=False)  # refusals before any answer
    lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        url = os.environ.get("OPENAI_BASE_URL") or OPENAI
        self.client = None
        self._pool: ThreadPoolExecutor | None = None
        self._callers = 0
        self._flying: dict[str, Future] = {}
        self._stopped, self._why = threading.Event(), ""
        self.answered = self._matched = False
        if self.max_retries < 0:
            raise InputError(f"--retries {self.max_retries}: must be 0 or more")
        check_url(url)
        self.address = address_of(url)
        if not self.export:
            self.client = ChatClient(
                url, self.model, self.at_once, self.max_retries, self.timeout, self.backoff, self.reply_tokens
            )

    def ask(
        self,
        prompts: Sequence[str],
        temperature: float,
        draw: int = 0,
        quiet: bool = False,
        is_usable: Callable[[str], bool] = bool,
    ) -> list[str | None]:
        """One answer per prompt, in their order; the same `draw` of the same prompt is asked only once, ever.

        The whole reply is kept; its answer is what follows its thoughts. None stands for a prompt that the teacher
        refuses for good; `refused` says why. Several threads may call at once and share `at_once` requests in flight;
        if one call fails, so do all. `quiet` shows no progress bar. InputError if the teacher refuses the key, stays
        away after the retries, or begins with answers of which none `is_usable`: what it said until then is kept.
        BatchPending with `export` if a reply is missing.
        """
        replies: list[str | None] = []
        pending = None
        if self.imported and not self._matched:
            keys = (self._keys(prompts[window], temperature, draw) for window in windows(len(prompts)))
            if not all(map(self.imported.isdisjoint, keys)):
                self._matched = True  # and never back: another thread may have found a match meanwhile
        hidden = quiet or self.export is not None or not prompts
        with progress(f"asking {self.model}", len(prompts), "prompt", hidden) as bar:
            for window in windows(len(prompts)):
                try:
                    replies += self._ask_some(prompts[window], temperature, draw, bar, is_usable)
                except BatchPending as error:
                    pending = error
        if pending:
            raise pending
        return replies

    def _keys(self, prompts: Sequence[str], temperature: float, draw: int) -> list[str]:
        settings = {"at": server_of(self.model), "temperature": temperature, "seed": self.seed, "draw": draw}
        return [key_of(teacher=self.model, prompt=prompt, **settings) for prompt in prompts]

    def _ask_some(
        self, prompts: Sequence[str], temperature: float, draw: int, bar: Bar, is_usable: Callable[[str], bool]
    ) -> list[str | None]:
        keys = self._keys(prompts, temperature, draw)
        prompt_of = dict(zip(keys, prompts))
        entered = False
        try:
            with self.lock:
                replies = self._found(keys, prompt_of)
                self.judge(replies.values(), is_usable, self.address, self.store.path)
                missing = [key for key in prompt_of if key not in replies]
                if not missing:
                    bar.update(len(prompts))
                    return [replies[key] for key in keys]
                bodies = {key: body_of(self, prompt_of[key], temperature, self.seed + draw) for key in missing}
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
                answer = replies[futures[future]] = future.result()
                bar.update()
                with self.lock:
                    self.judge([answer], is_usable, self.address, self.store.path)
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

    def usage(self) -> dict[str, object]:
        """Requests, replies found on disk, retries, refusals, tokens and cost, by the names that a step shows."""
        sent = self.client.sent_otherwise() if self.client else ""
        return self.summary(self.model, bool(self.imported)) | ({"sent otherwise": sent} if sent else {})

    def write_export(self) -> list[tuple[Path, int]]:
        """Writes the requests that `ask` missed; the files and their requests. As `batch_api.write_export`."""
        return batch_api.write_export(self)

    def import_batch(self, path: Path) -> dict[str, int]:
        """Keeps the replies in a batch's result files; prints and returns the counts. As `batch_api.import_batch`."""
        return batch_api.import_batch(self, path)

    def _found(self, keys: list[str], prompt_of: dict[str, str]) -> dict[str, str | None]:
        """What is kept for keys, with the lock held: replies, and None for what is refused or cannot be asked."""
        kept = {key: one for key, one in self.store.get_all(keys).items() if not outgrown(one, self.reply_tokens)}
        kept = {key: answer_of(one) if isinstance(one, str) else one for key, one in kept.items()}
        replies: dict[str, str | None] = {key: value for key, value in kept.items() if value and isinstance(value, str)}
        self.answered |= bool(replies)
        self.kept += sum(key in replies for key in keys)
        if doubtful := self.doubts():
            self.store.put(doubtful, replace=False)
            kept = doubtful | kept
        for key, prompt in prompt_of.items():
            value = kept.get(key)
            if isinstance(value, dict):
                self.refused[prompt], replies[key] = value["refused"], None
            elif not value and not _is_text(prompt):
                self.refused[prompt], replies[key] = HALF_A_CHARACTER, None
        return replies

    def doubts(self) -> dict[str, dict]:
        """The refusals to keep by now, with the lock held: none while the teacher has answered nothing."""
        if self.answered:
            doubtful, self.doubtful = self.doubtful, {}
            return doubtful
        if len(self.doubtful) >= REFUSED_AT_FIRST:
            reasons = ", ".join(sorted({value["refused"] for value in self.doubtful.values()}))
            raise InputError(
                f"the teacher at {self.address} refused the first {len(self.doubtful)} prompts ({reasons}) and "
                f"answered none: see --teacher_model and the prompts; nothing of this is kept"
            )
        return {}

    def _admit(self, bodies: dict[str, dict]) -> None:
        """Lets missing requests pass, or raises what stands against sending them; with the lock held."""
        if self.imported and not self._matched:
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
            reply = self.client.reply(body, random.Random(key), self._stopped, lambda: self._why, self._noted)
            self._keep(key, body["messages"][0]["content"], reply)
            return answer_of(reply.text) or None
        except BaseException as error:
            self._stop_for(error)
            raise
        finally:
            with self.lock:
                del self._flying[key]

    def _noted(self, reply: Reply | None) -> None:
        with self.lock:
            self.count(reply)

    def _stop_for(self, error: BaseException) -> None:
        self.stop(str(error) if isinstance(error, InputError) else f"stopped by {type(error).__name__}")

    def _keep(self, key: str, prompt: str, reply: Reply) -> None:
        with self.lock:
            self.answered |= bool(reply.text)
            if reply.refused:
                self.refused[prompt] = reply.refused
                self.doubtful[key] = {"refused": reply.refused}
            values = self.doubts()
        self.store.put(values | ({key: reply.text} if reply.text else {}))


def body_of(teacher: Teacher, prompt: str, temperature: float, seed: int) -> dict:
    """A request for a reply to a prompt."""
    body = {
        "model": teacher.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": temperature,
        "max_tokens": teacher.reply_tokens,
        "seed": seed,
    }
    # Nobody answers an export, so that what such models take is known by their names alone.
    known = teacher.export is not None and REASONS_ITSELF.search(teacher.model)
    return as_sent(body, {"max_tokens": LIMIT, "temperature": None, "seed": None}) if known else body


def server_of(model: str) -> str:
    """What stands for the server in records and keys: its address, but one name for the stand-in on any port."""
    if model == STAND_IN:
        return STAND_IN
    return address_of(os.environ.get("OPENAI_BASE_URL") or OPENAI)


def _is_text(prompt: str) -> bool:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return True
