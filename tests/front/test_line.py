"""The line in which questions wait: asked together, answered apart, bounded, and left by whoever has gone."""

import threading
from concurrent.futures import CancelledError

import pytest

from reason4rec.front.line import Closed, Full, Job, Line

SECONDS = 30


class Slow:
    """Answers a question with itself, once `go` is set; `calls` are what was asked together."""

    def __init__(self):
        self.calls, self.go, self.begun = [], threading.Event(), threading.Event()

    def __call__(self, questions):
        self.calls.append(list(questions))
        self.begun.set()
        assert self.go.wait(SECONDS)
        if "bad" in questions:
            raise ValueError("bad")
        return [f"answer to {one}" for one in questions]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def lined(slow):
    """A line of four questions, the first of which is being asked."""
    line = Line(slow, most=4, at_once=3)
    line.open()
    line.put(Job("first"))
    assert slow.begun.wait(SECONDS)
    yield line
    slow.go.set()
    line.close()


def answers(jobs):
    return [job.future.result(SECONDS) for job in jobs]


def test_what_came_in_meanwhile_is_asked_together_and_each_job_gets_its_own_answer(lined, slow):
    jobs = [lined.put(Job(name)) for name in "abcd"]
    assert lined.waiting == 4
    slow.go.set()
    assert answers(jobs) == [f"answer to {name}" for name in "abcd"]
    assert slow.calls == [["first"], ["a", "b", "c"], ["d"]]
    assert lined.waiting == 0


def test_a_question_at_fault_took_those_beside_it_along(lined, slow):
    jobs = [lined.put(Job(name)) for name in ("a", "bad", "c")]
    slow.go.set()
    with pytest.raises(ValueError, match="bad"):
        jobs[1].future.result(SECONDS)
    assert answers([jobs[0], jobs[2]]) == ["answer to a", "answer to c"]
    assert lined.is_open


def test_a_call_that_gave_too_few_answers_left_somebody_waiting(slow):
    line = Line(lambda questions: ["only"], most=9)
    jobs = [line.put(Job(name)) for name in "ab"]
    line.open()
    assert answers(jobs) == ["only", "only"]  # each was asked alone
    line.close()


def test_work_of_its_own_is_done_in_its_turn_and_alone(lined, slow):
    done = []
    jobs = [lined.put(Job("a")), lined.put(Job(work=lambda: done.append(len(slow.calls)) or "ranked", size=2))]
    jobs.append(lined.put(Job("b")))
    slow.go.set()
    assert answers(jobs) == ["answer to a", "ranked", "answer to b"]
    assert slow.calls == [["first"], ["a"], ["b"]]
    assert done == [2]


def test_a_full_line_turns_away_and_says_when_to_come_again(lined):
    lined.put(Job(work=lambda: None, size=3))
    with pytest.raises(Full) as full:
        lined.put(Job(work=lambda: None, size=2))
    assert full.value.seconds >= 1
    lined.put(Job("fits"))
    with pytest.raises(Full):
        lined.put(Job("too many"))


def test_work_larger_than_the_line_waits_where_nothing_else_does(lined, slow):
    large = lined.put(Job(work=lambda: "done", size=99))
    slow.go.set()
    assert answers([large]) == ["done"]


def test_what_nobody_waits_for_any_more_is_not_computed_and_takes_no_place(lined, slow):
    jobs = [lined.put(Job(name)) for name in "abcd"]
    for job in jobs[:3]:
        job.give_up()
    assert lined.waiting == 1
    jobs.append(lined.put(Job("e")))
    slow.go.set()
    assert answers(jobs[3:]) == ["answer to d", "answer to e"]
    assert slow.calls == [["first"], ["d", "e"]]
    with pytest.raises(CancelledError):
        jobs[0].future.result(SECONDS)


def test_one_that_is_given_up_beside_a_question_at_fault_is_not_asked_again(lined, slow):
    jobs = [lined.put(Job(name)) for name in ("bad", "a", "b")]
    slow.begun.clear()
    slow.go.set()
    jobs[1].unwanted = True  # after it was taken: its future cannot be cancelled then
    assert answers([jobs[2]]) == ["answer to b"]
    assert ["a"] not in slow.calls


def test_at_the_end_whoever_waits_is_told_and_what_was_begun_is_finished(lined, slow):
    waits = lined.put(Job("a"))
    threading.Timer(0.2, slow.go.set).start()
    lined.close()
    with pytest.raises(Closed):
        waits.future.result(SECONDS)
    with pytest.raises(Closed):
        lined.put(Job("b"))
    assert slow.calls == [["first"]]
    assert not lined.is_open


def test_of_two_hundred_askers_at_once_none_is_lost_or_mistaken():
    line = Line(lambda questions: [one * 2 for one in questions], most=500)
    line.open()
    found = {}

    def ask(number):
        found[number] = line.put(Job(number)).future.result(SECONDS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    line.close()
    assert found == {number: 2 * number for number in range(200)}
