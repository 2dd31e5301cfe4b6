"""Questions that wait for the experts: one thread takes what has come in and asks it together.

The experts answer one call at a time, and many questions in one call are answered sooner than one after the other. So
whoever asks puts a job into the line and waits for its future.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Question = TypeVar("Question")
Said = TypeVar("Said")

AT_ONCE = 32  # questions that the experts are asked together
LONGEST_WAIT = 120  # seconds that somebody who is turned away is told to wait at most
SECONDS_TO_END = 10  # for a call that is under way when the line is closed


class Full(Exception):  # noqa: N818
    """Too many questions wait; `seconds` says when it may be worth asking again."""

    def __init__(self, seconds: int):
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class Closed(Exception):  # noqa: N818
    """The line takes and answers no more questions."""


@dataclass(eq=False)
class Job(Generic[Question, Said]):
    """Something to ask: a single `question`, asked together with others, or `work` of `size` questions of its own."""

    question: Question | None = None
    work: Callable[[], object] | None = None
    size: int = 1
    future: "Future[Said]" = field(default_factory=Future)
    unwanted: bool = False

    def give_up(self) -> None:
        """Nobody waits for the answer any more: what has not begun is not computed."""
        self.unwanted = True
        self.future.cancel()


class Line(Generic[Question, Said]):
    """A bounded line of jobs before `answer`, which takes questions and gives their answers in the same order.

    At most `most` questions wait. A job for which nobody waits any more has no place in it.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Said]], most: int, at_once: int = AT_ONCE):
        self._answer, self._most, self._at_once = answer, most, at_once
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._pace = 0.0  # seconds a question, of late
        self._thread = threading.Thread(target=self._serve, name="experts", daemon=True)

    def open(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def close(self) -> None:
        """Takes and begins nothing more; whoever waits gets Closed."""
        with self._changed:
            self._closed = True
            left, self._jobs = self._jobs, deque()
            self._changed.notify()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(Closed())
        if self._thread.ident:
            self._thread.join(SECONDS_TO_END)

    @property
    def is_open(self) -> bool:
        """Whether questions are answered."""
        return not self._closed and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        with self._changed:
            return self._waiting()

    def put(self, job: Job) -> Job:
        """Lets a job wait; Full if there is no room for it, Closed after the end.

        One that is larger than the whole line waits alone.
        """
        with self._changed:
            if self._closed:
                raise Closed
            waiting = self._waiting()
            if waiting and waiting + job.size > self._most:
                raise Full(min(max(1, math.ceil(waiting * self._pace)), LONGEST_WAIT))
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _waiting(self) -> int:
        self._jobs = deque(job for job in self._jobs if not job.unwanted)
        return sum(job.size for job in self._jobs)

    def _serve(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            self._answer_all(batch)
            pace = (time.monotonic() - began) / sum(job.size for job in batch)
            self._pace = (self._pace + pace) / 2 if self._pace else pace

    def _next(self) -> list[Job]:
        """The jobs to answer next, once there are any; none at the end."""
        batch: list[Job] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return []
                while self._jobs and len(batch) < self._at_once and (not batch or self._may_join(batch[0])):
                    job = self._jobs.popleft()
                    if job.future.set_running_or_notify_cancel():
                        batch.append(job)
        return batch

    def _may_join(self, first: Job) -> bool:
        return first.work is None and self._jobs[0].work is None

    def _answer_all(self, batch: Sequence[Job]) -> None:
        if len(batch) > 1:
            try:
                answers = self._answer([job.question for job in batch])
                pairs = list(zip(batch, answers, strict=True))
            except Exception:
                # One of them may be at fault, so each is asked alone, and told what went wrong with it.
                pairs = []
            for job, answer in pairs:
                job.future.set_result(answer)
            if pairs:
                return
        for job in batch:
            if job.unwanted:
                job.future.set_exception(Closed())
                continue
            try:
                answer = job.work() if job.work else self._answer([job.question])[0]
            except Exception as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(answer)
