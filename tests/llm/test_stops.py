"""Replies that run on: where they are cut, and that a batch, a single prompt and a server cut them alike."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.llm.stops import LEAST, REPEATED, WROTE_ON, Reply, kept
from reason4rec.systems.reason4rec.prompts import end_of_summary

SUMMARY = "Positive Aspects: tone, price\nNegative Aspects: None\nUser Preference Elements: warm sound"


def cut(text, finish=None):
    stopped = Counter()
    (found,) = kept([text], finish, stopped)
    return found, list(stopped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Positive Aspects: " + "Fun, " * 40, "Positive Aspects: Fun"),
        (
            "It is loud: " + "The user likes the warm sound of it. " * 4,
            "It is loud: The user likes the warm sound of it.",
        ),
        ("Good" + "!" * 200, "Good!"),
        ("声音很好。" * 30, "声音很好。"),
        (
            "a\n" + "Positive Aspects: tone\nNegative Aspects: None\n" * 5,
            "a\nPositive Aspects: tone\nNegative Aspects: None",
        ),
    ],
)
def test_a_text_that_repeats_itself_is_cut_after_the_first_time(text, expected):
    assert cut(text) == (expected, [REPEATED])


@pytest.mark.parametrize(
    "text",
    [
        "",
        SUMMARY,
        "Fun, fun, fun, and more fun.",
        "-" * 20,
        "The sound is good. The sound is good. But the price is not.",
        ", ".join(f"Symphony No. {k}" for k in range(50)),
    ],
)
def test_a_text_that_ends_is_not_cut(text):
    assert cut(text, end_of_summary) == (text, [])


def test_a_summary_that_goes_on_is_cut_after_its_last_line():
    for more in ("\n\nExplanation: the user says so.", "\nPositive Aspects: tone\nNegative Aspects: None"):
        assert cut(SUMMARY + more, end_of_summary) == (SUMMARY, [WROTE_ON])
    assert cut(SUMMARY + "\n \n", end_of_summary)[1] == []
    assert cut("<think>" + SUMMARY + "\nwait</think>" + SUMMARY, end_of_summary)[1] == []


@given(
    st.lists(st.sampled_from(["Fun, ", "tone ", "a", "\n", SUMMARY, "\nsee", "声", "."]), max_size=60).map("".join),
    st.lists(st.integers(1, 40), min_size=1),
    st.sampled_from([None, end_of_summary]),
)
def test_a_text_that_is_looked_at_while_it_grows_is_cut_where_the_whole_text_is(text, steps, finish):
    reply, end, at = Reply(finish), None, 0
    while end is None and at < len(text):
        at = min(len(text), at + steps[at % len(steps)])
        end = reply.end(text[:at])
    assert end == Reply(finish).end(text)
    assert kept([text[:at]], finish, Counter()) == kept([text], finish, Counter())


def test_a_text_of_which_the_same_part_comes_three_times_but_is_short_is_left():
    assert cut("ha " * (LEAST // 3 - 1))[1] == []
    assert cut("ha " * (LEAST // 3 + 2))[1] == [REPEATED]
