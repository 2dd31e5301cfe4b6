"""Replies that run on: where they are cut, and that a batch, a single prompt and a server cut them alike."""

import re
from collections import Counter

import pytest
import served
from helpers import serving
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from test_local import some_prompts

from reason4rec.llm import server as server_module
from reason4rec.llm import stops
from reason4rec.llm.answers import answer_of
from reason4rec.llm.local import load
from reason4rec.llm.stops import LEAST, REPEATED, WROTE_ON, Reply, kept
from reason4rec.systems.reason4rec.prompts import end_of_summary

SUMMARY = "Positive Aspects: tone, price\nNegative Aspects: None\nUser Preference Elements: warm sound"

PIECES = ["Fun, ", "tone ", "a", "\n", "`", "```\n", SUMMARY, "\nsee", "声", "."]


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
        ("He enjoys the sound. " + "The user's preference is to enjoy it, and to " * 4, "He enjoys the sound."),
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


def test_a_summary_in_a_code_fence_is_finished_behind_the_fence():
    fenced = f"```\n{SUMMARY}\n```"
    assert cut(fenced, end_of_summary) == (fenced, [])
    text, why = cut(f"{fenced}\n\nExplanation: the user says so.", end_of_summary)
    assert answer_of(text) == SUMMARY and why == [WROTE_ON]


@given(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
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


def end_of_b(text):
    place = text.find("</b>")
    return place + 4 if place >= 0 else None


def test_thoughts_that_belong_to_the_answer_do_not_keep_it_from_being_finished():
    """A reply in the form that was asked for, which begins with its thoughts, ran on to its limit."""
    stopped = Counter()
    whole = "<think> A </think> <b> C </b>"
    assert Reply(end_of_b).end(whole) is None
    assert Reply(end_of_b, thoughts=True).end(whole) == (len(whole), WROTE_ON)
    assert kept([f"{whole} and on", whole], end_of_b, stopped, thoughts=True) == [whole, whole]
    assert stopped == {WROTE_ON: 1}  # the second wrote nothing more


def test_a_text_of_which_the_same_part_comes_three_times_but_is_short_is_left():
    assert cut("ha " * (LEAST // 3 - 1))[1] == []
    assert cut("ha " * (LEAST // 3 + 2))[1] == [REPEATED]


class Loops:
    """Makes a model say the same words for ever, whatever it is asked; counts its steps."""

    def __init__(self, model, said):
        ids = model.tokenizer(said, add_special_tokens=False)["input_ids"]
        assert len(set(ids)) == len(ids)
        self.after, self.first, self.steps = dict(zip(ids, ids[1:])), ids[0], 0
        # An adapter's own forward is not what generate calls.
        base = model.model.get_base_model() if isinstance(model.model, PeftModel) else model.model
        base.register_forward_hook(self, with_kwargs=True)

    def __call__(self, module, args, inputs, output):
        output.logits[:] = 0
        for row, last in enumerate(inputs["input_ids"][:, -1].tolist()):
            output.logits[row, -1, self.after.get(last, self.first)] = 9.0
        self.steps += 1


SAID = " The user likes mood voice words"


def test_a_reply_that_repeats_itself_is_stopped_in_process_and_cut_from_a_server(base, store, tmp_path, monkeypatch):
    adapter = served.put_adapter(tmp_path / "Summarizer", base, lm_head=False)
    model, asked = load(base, adapter, "cpu", max_length=1024, cache=store), some_prompts(3)
    loops = Loops(model, SAID)
    texts = model.generate(asked, max_new_tokens=300)
    assert 0 < loops.steps < 60
    assert dict(model.stopped) == {REPEATED: 3}
    assert set(texts) == {"The user likes mood voice words"}
    assert [model.generate([prompt], max_new_tokens=300) for prompt in asked] == [[text] for text in texts]
    assert dict(model.stopped) == {REPEATED: 6}  # from the disk, cut and counted again
    monkeypatch.setenv("REASON4REC_API_KEY", served.KEY)
    with serving(served.Server(model, names=("Summarizer",))) as server:
        there = server_module.connect(server.address, "Summarizer", adapter, 1024)
        assert there.generate(asked, max_new_tokens=300) == texts
    assert there.stopped == {REPEATED: 3}


def end_at_mood(text):
    place = text.find(" mood")
    return place if text[place:].strip() and place >= 0 else None


def test_a_reply_with_thoughts_is_stopped_where_it_is_finished(base, store, monkeypatch):
    model, asked = load(base, None, "cpu", cache=store), some_prompts(2)
    loops = Loops(model, SAID)
    monkeypatch.setattr(stops, "OPENED", re.compile("The user"))  # as if that opened thoughts
    assert set(model.generate(asked, max_new_tokens=40, finish=end_at_mood, thoughts=True)) == {"The user likes"}
    steps = loops.steps
    assert steps < 20
    assert set(model.generate(asked, max_new_tokens=40, finish=end_at_mood)) != {"The user likes"}
    assert loops.steps > steps


def test_a_reply_that_is_finished_is_stopped_where_it_goes_on(base, store):
    model, asked = load(base, None, "cpu", cache=store), some_prompts(2)
    loops = Loops(model, SAID)
    assert set(model.generate(asked, max_new_tokens=300, finish=end_at_mood)) == {"The user likes"}
    assert dict(model.stopped) == {WROTE_ON: 2}
    steps = loops.steps
    assert steps < 20
    # What was stopped for one call is no reply to another.
    assert set(model.generate(asked, max_new_tokens=300)) == {"The user likes mood voice words"}
    assert loops.steps > steps
