"""Questions that wait for the experts: one thread takes what has come in and asks it together.

The experts answer one call at a time, and many questions in one call are answered sooner than one after the other. So
whoever asks puts a job into the line and waits for its future.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from reason4rec.errors import ServerAway
from reason4rec.front.log import logger, without_message

Question = TypeVar("Question")
Said = TypeVar("Said")

AT_ONCE = 32  # questions that the experts are asked together
LONGEST_WAIT = 120  # seconds that somebody who is turned away is told to wait at most
SECONDS_FOR_CALL = 5  # that a call under way has when the line is closed


class Full(Exception):  # noqa: N818
    """Too many questions wait; `seconds` says when it may be worth asking again."""

    def __init__(self, seconds: int):
        super().__init__(f"{seconds} s")
        self.seconds = seconds


class Closed(Exception):  # noqa: N818
    """The line takes and answers no more questions."""


@dataclass(eq=False)
class Job(Generic[Question, Said]):
    """Questions of one asker; `future` gives all their answers, in the same order, or the first error."""

    questions: Sequence[Question]
    future: "Future[list[Said]]" = field(default_factory=Future)
    unwanted: bool = False
    begun: int = 0  # questions that have been taken
    answers: list[Said] = field(default_factory=list)

    def give_up(self) -> None:
        """Nobody waits for the answers any more: what has not begun is not computed."""
        self.unwanted = True
        self.future.cancel()

    def take(self, answer: Said) -> None:
        """The answer to the first question that has none."""
        self.answers.append(answer)
        if len(self.answers) == len(self.questions):
            with suppress(InvalidStateError):  # given up, or closed
                self.future.set_result(self.answers)

    def fail(self, error: Exception) -> None:
        """There will be no answers."""
        self.unwanted = True
        with suppress(InvalidStateError):
            self.future.set_exception(error)


Parts = list[tuple[Job[Question, Said], Question]]


class Line(Generic[Question, Said]):
    """A bounded line of jobs before `answer`, which takes questions and gives their answers in the same order.

    At most `most` questions wait. A job for which nobody waits any more has no place in it, and one of many questions
    is asked in parts of `at_once`. Questions that fail together are asked in halves, until the one at fault is alone;
    but after ServerAway not one of them is asked again.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Sequence[Said]], most: int, at_once: int = AT_ONCE):
        self._answer, self._most, self._at_once = answer, most, at_once
        self._jobs: deque[Job] = deque()
        self._under_way: Parts = []
        self._changed = threading.Condition()
        self._closed = False
        self._pace = 0.0  # seconds a question, of late
        self._asking_since: float | None = None
        self._thread = threading.Thread(target=self._serve, name="experts", daemon=True)

    def open(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def close(self) -> None:
        """Takes and begins nothing more. Whoever waits gets Closed, and so do those whose call takes too long."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            left, self._jobs = self._jobs, deque()
            self._changed.notify()
        for job in left:
            job.fail(Closed())
        if self._thread.ident:
            self._thread.join(SECONDS_FOR_CALL)
        for job, _ in self._under_way:
            job.fail(Closed())

    @property
    def is_open(self) -> bool:
        """Whether questions are answered."""
        return not self._closed and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        with self._changed:
            return self._waiting()

    @property
    def asking_since(self) -> float | None:
        """When the call that is under way began, in unix seconds; None where none is."""
        return self._asking_since

    def put(self, job: Job) -> Job:
        """Lets a job wait; Full if there is no room for it, Closed after the end.

        One that is larger than the whole line waits alone.
        """
        with self._changed:
            if self._closed:
                raise Closed
            waiting = self._waiting()
            if waiting and waiting + len(job.questions) > self._most:
                raise Full(min(max(1, math.ceil(waiting * self._pace)), LONGEST_WAIT))
            self._jobs.append(job)
            self._changed.notify()
        return job

    def _waiting(self) -> int:
        self._jobs = deque(job for job in self._jobs if not job.unwanted)
        return sum(len(job.questions) - job.begun for job in self._jobs)

    def _serve(self) -> None:
        while parts := self._next():
            began = time.monotonic()
            self._under_way = parts
            self._answer_all(parts)
            self._under_way = []
            pace = (time.monotonic() - began) / len(parts)
            self._pace = (self._pace + pace) / 2 if self._pace else pace

    def _next(self) -> Parts:
        """The questions to ask next with the jobs that they are of, once there are any; none at the end."""
        parts: Parts = []
        with self._changed:
            while not parts:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return []
                while self._jobs and len(parts) < self._at_once:
                    job = self._jobs[0]
                    taken = [] if job.unwanted else job.questions[job.begun :][: self._at_once - len(parts)]
                    parts += [(job, question) for question in taken]
                    job.begun += len(taken)
                    if job.unwanted or job.begun == len(job.questions):
                        self._jobs.popleft()
        return parts

    def _answer_all(self, parts: Parts) -> None:
        parts = [part for part in parts if not part[0].unwanted]
        if parts and not self._are_done(parts):
            middle = len(parts) // 2
            self._answer_all(parts[:middle])
            self._answer_all(parts[middle:])

    def _are_done(self, parts: Parts) -> bool:
        """Asks questions together; whether that is all, or they are to be asked in halves.

        A function of its own, so that what an error holds, such as the memory of a model, is free for the halves.
        """
        self._asking_since = time.time()
        try:
            pairs = list(zip(parts, self._answer([question for _, question in parts]), strict=True))
        except Exception as error:
            if len(parts) > 1 and not isinstance(error, ServerAway):
                logger.warning("%d questions failed together: %s", len(parts), without_message(error))
                return False
            for job, _ in parts:
                job.fail(error)
        else:
            for (job, _), answer in pairs:
                job.take(answer)
        finally:
            self._asking_since = None
        return True
