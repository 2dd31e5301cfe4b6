"""The line in which questions wait: asked together, answered apart, bounded, and left by whoever has gone."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from reason4rec.errors import ServerAway
from reason4rec.front import line as line_module
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
    line.put(Job(["first"]))
    assert slow.begun.wait(SECONDS)
    yield line
    slow.go.set()
    line.close()


def answers(jobs):
    return [answer for job in jobs for answer in job.future.result(SECONDS)]


def test_what_came_in_meanwhile_is_asked_together_and_each_job_gets_its_own_answer(lined, slow):
    jobs = [lined.put(Job([name])) for name in "abcd"]
    assert lined.waiting == 4
    slow.go.set()
    assert answers(jobs) == [f"answer to {name}" for name in "abcd"]
    assert slow.calls == [["first"], ["a", "b", "c"], ["d"]]
    assert lined.waiting == 0


def test_a_question_at_fault_took_those_beside_it_along(lined, slow):
    jobs = [lined.put(Job([name])) for name in ("a", "bad", "c")]
    slow.go.set()
    with pytest.raises(ValueError, match="bad"):
        jobs[1].future.result(SECONDS)
    assert answers([jobs[0], jobs[2]]) == ["answer to a", "answer to c"]
    assert lined.is_open


def test_a_call_that_gave_too_few_answers_left_somebody_waiting(slow):
    line = Line(lambda questions: ["only"], most=9)
    jobs = [line.put(Job([name])) for name in "ab"]
    line.open()
    assert answers(jobs) == ["only", "only"]  # each was asked alone
    line.close()


def echo(calls, happens=lambda questions: None):
    """Answers questions with themselves, after it noted them and something happened."""

    def answer(questions):
        calls.append("".join(questions))
        happens(questions)
        return questions

    return answer


def line_of(answer, *jobs, at_once=3):
    line = Line(answer, most=99, at_once=at_once)
    for job in jobs:
        line.put(job)
    line.open()
    return line


def test_many_questions_of_one_asker_held_up_those_behind_them():
    calls, many, one = [], Job("abcdefg"), Job("h")
    line = line_of(echo(calls), many, one)
    assert many.future.result(SECONDS) == list("abcdefg")
    assert one.future.result(SECONDS) == ["h"]
    assert calls == ["abc", "def", "gh"]
    line.close()


def test_many_questions_of_one_asker_could_not_be_given_up_once_the_first_was_asked():
    calls, many, one = [], Job("abcdefg"), Job("h")
    line = line_of(echo(calls, lambda questions: many.give_up()), many, one)
    assert one.future.result(SECONDS) == ["h"]
    assert calls == ["abc", "h"]
    line.close()


def test_of_many_questions_with_one_at_fault_the_rest_was_asked_for_nobody():
    def happens(questions):
        if "b" in questions:
            raise ValueError("b")

    calls, many, one = [], Job("abcdefg"), Job("h")
    line = line_of(echo(calls, happens), many, one)
    with pytest.raises(ValueError, match="b"):
        many.future.result(SECONDS)
    assert one.future.result(SECONDS) == ["h"]
    assert calls == ["abc", "a", "bc", "b", "h"]
    line.close()


def test_questions_too_many_for_the_memory_were_asked_one_by_one_without_a_word(caplog):
    def happens(questions):
        if len(questions) > 2:
            raise MemoryError("what a visitor wrote")

    calls = []
    line = line_of(echo(calls, happens), jobs := Job("abcdefgh"), at_once=8)
    assert jobs.future.result(SECONDS) == list("abcdefgh")
    assert calls == ["abcdefgh", "abcd", "ab", "cd", "efgh", "ef", "gh"]
    told = [record.getMessage() for record in caplog.records]
    assert [one.partition(" at ")[0] for one in told] == [
        f"{n} questions failed together: MemoryError" for n in (8, 4, 4)
    ]
    assert not [one for one in told if "visitor" in one]
    line.close()


def test_a_server_that_is_away_was_waited_for_once_a_question():
    def happens(questions):
        if "a" in questions:
            raise ServerAway("away")

    calls, jobs, later = [], [Job("a"), Job("b"), Job("c")], Job("d")
    line = line_of(echo(calls, happens), *jobs, later)
    for job in jobs:
        with pytest.raises(ServerAway):
            job.future.result(SECONDS)
    assert later.future.result(SECONDS) == ["d"]
    assert calls == ["abc", "d"]
    line.close()


def test_it_is_told_since_when_a_call_is_under_way(lined, slow):
    assert abs(time.time() - lined.asking_since) < SECONDS
    last = lined.put(Job(["a"]))
    slow.go.set()
    assert answers([last])
    lined.close()
    assert lined.asking_since is None


def test_a_call_under_way_held_its_asker_after_the_end(monkeypatch):
    monkeypatch.setattr(line_module, "SECONDS_FOR_CALL", 0.1)
    line = Line(slow := Slow(), most=4)
    line.open()
    job = line.put(Job(["held"]))
    assert slow.begun.wait(SECONDS)
    line.close()
    with pytest.raises(Closed):
        job.future.result(0)
    slow.go.set()


def test_a_full_line_turns_away_and_says_when_to_come_again(lined):
    lined.put(Job("abc"))
    with pytest.raises(Full) as full:
        lined.put(Job("de"))
    assert full.value.seconds >= 1
    lined.put(Job(["fits"]))
    with pytest.raises(Full):
        lined.put(Job(["too many"]))


def test_more_questions_than_the_line_holds_wait_where_nothing_else_does(lined, slow):
    large = lined.put(Job("w" * 99))
    slow.go.set()
    assert answers([large]) == ["answer to w"] * 99


def test_what_nobody_waits_for_any_more_is_not_computed_and_takes_no_place(lined, slow):
    jobs = [lined.put(Job([name])) for name in "abcd"]
    for job in jobs[:3]:
        job.give_up()
    assert lined.waiting == 1
    jobs.append(lined.put(Job(["e"])))
    slow.go.set()
    assert answers(jobs[3:]) == ["answer to d", "answer to e"]
    assert slow.calls == [["first"], ["d", "e"]]
    with pytest.raises(CancelledError):
        jobs[0].future.result(SECONDS)


def test_one_that_is_given_up_beside_a_question_at_fault_is_not_asked_again(lined, slow):
    jobs = [lined.put(Job([name])) for name in ("bad", "a", "b")]
    slow.begun.clear()
    slow.go.set()
    jobs[1].give_up()
    assert answers([jobs[2]]) == ["answer to b"]
    assert ["a"] not in slow.calls


def test_at_the_end_whoever_waits_is_told_and_what_was_begun_is_finished(lined, slow):
    waits = lined.put(Job(["a"]))
    threading.Timer(0.2, slow.go.set).start()
    lined.close()
    with pytest.raises(Closed):
        waits.future.result(SECONDS)
    with pytest.raises(Closed):
        lined.put(Job(["b"]))
    assert slow.calls == [["first"]]
    assert not lined.is_open


def test_of_two_hundred_askers_at_once_none_is_lost_or_mistaken():
    line = Line(lambda questions: [one * 2 for one in questions], most=500)
    line.open()
    found = {}

    def ask(number):
        (found[number],) = line.put(Job([number])).future.result(SECONDS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    line.close()
    assert found == {number: 2 * number for number in range(200)}
