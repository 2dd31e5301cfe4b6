"""The stand-in for the teacher: it answers our own prompts, for any review, the same for the same seed."""

import json
import re
import urllib.error
import urllib.request

import numpy as np
import pytest
from helpers import serving
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data.history import Entry, History
from reason4rec.demo import rules, stand_in, world
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.reward_filter import gives_away

LIFELIKE_REVIEW = (
    "I've had this CD since '98 & it's STILL in my car!! The harmonies are gorgeous, and the piano is just lovely;but "
    "the last track is disappointing - 4.5 stars...\n\nRating: 4 (of 5)\r\nNegative Aspects: nothing!"
)
WANTS = "For me it is all about the {a}. I care about {b} as much as about {c}."
SAYS = "The {a} is superb. Sadly the {b} falls flat."


def history(rng):
    """Six reviews by a user and six of an item, as summaries."""
    a, b, c, d, e = rng.choice(world.ASPECTS, 5, replace=False)
    user = tuple(Entry(f"Record {k}", 4.0, rules.summarize(WANTS.format(a=a, b=b, c=c))) for k in range(6))
    item = tuple(Entry("New", 2.0, rules.summarize(SAYS.format(a=d, b=e))) for _ in range(6))
    return History(user=user, item=item, user_average=4.0, item_average=2.0)


def post(address, body):
    request = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def address():
    with serving(stand_in.Server(0)) as server:
        yield server.address


def verdict_of(reply):
    (verdict,) = (step for step, words in rules.VERDICTS.items() if reply.endswith(words))
    return verdict


def assert_three_parts(reply):
    assert prompts.is_summary(reply)
    lines = reply.split("\n")
    assert [line.split(":")[0] for line in lines] == list(prompts.SUMMARY_PARTS)


@given(review=st.text(max_size=300), title=st.text(max_size=30).map(lambda text: " ".join(text.split())))
@settings(max_examples=200, deadline=None)
def test_any_review_text_gives_three_parts(review, title):
    prompt = prompts.summarizer("Album", title, 3.0, review).text
    assert_three_parts(stand_in.answer(prompt, 0.2, 0))


@given(st.lists(st.sampled_from(world.GOOD_WORDS + world.BAD_WORDS + tuple("the I want but . , : \n None".split(" ")))))
@settings(max_examples=200, deadline=None)
def test_any_mix_of_opinion_words_gives_three_parts(words):
    assert_three_parts(stand_in.answer(prompts.summarizer("Album", "Title", 3.0, " ".join(words)).text, 0.2, 0))


@pytest.mark.parametrize(
    "review", ["", " ", "🎸🔥👌 İ ß", LIFELIKE_REVIEW, "{title} {review}", "The review to read:\nReview: x"]
)
def test_strange_and_real_reviews_give_three_parts(review):
    assert_three_parts(stand_in.answer(prompts.summarizer("Album", "Title", 5.0, review).text, 0.2, 0))


def test_a_lifelike_review_yields_what_it_praises_and_what_it_does_not():
    reply = stand_in.answer(prompts.summarizer("Digital Music", "Title", 4.0, LIFELIKE_REVIEW).text, 0.2, 0)
    good, bad, _ = reply.split("\n")
    assert "harmonies" in good or "piano" in good
    assert "track" in bad


def test_a_reason_names_the_item_and_what_the_user_wants_in_one_paragraph():
    rng = np.random.default_rng(1)
    for seed in range(20):
        shown = history(rng)
        wanted = shown.user[0].text.split("User Preference Elements: ")[1].split(", ")
        reply = stand_in.answer(prompts.reasoner("Album", "Quiet Rain", shown).text, 0.2, seed)
        assert "Quiet Rain" in reply
        assert all(aspect in reply for aspect in wanted)
        assert "\n" not in reply


def test_a_target_without_any_history_gets_a_reason_too():
    nothing = History(user=(), item=(), user_average=None, item_average=None)
    reply = stand_in.answer(prompts.reasoner("Album", "Quiet Rain", nothing).text, 1.0, 0)
    assert "Quiet Rain" in reply
    assert verdict_of(reply) in rules.VERDICTS


@pytest.mark.parametrize("rated", [False, True])
@pytest.mark.parametrize("rating", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_a_hinted_reason_follows_the_rating_and_never_gives_it_away(rating, rated):
    rng = np.random.default_rng(int(rating))
    for seed in range(20):
        title = f"{rng.choice(world.TITLE_FIRST)} {rng.choice(world.TITLE_SECOND)}"
        prompt = prompts.reasoner("Album", title, history(rng), hint=rating, rated=rated).text
        reply = stand_in.answer(prompt, 1.0, seed)
        assert verdict_of(reply) == rating - 3
        assert not gives_away(reply)


def test_no_title_of_the_world_gives_a_rating_away():
    for first in world.TITLE_FIRST:
        for second in world.TITLE_SECOND:
            assert not gives_away(f"{first} {second} ")


def test_the_same_seed_gives_the_same_reply_and_others_differ_at_temperature_1():
    prompt = prompts.reasoner("Album", "Quiet Rain", history(np.random.default_rng(3))).text
    replies = [stand_in.answer(prompt, 1.0, seed) for seed in range(40)]
    assert replies == [stand_in.answer(prompt, 1.0, seed) for seed in range(40)]
    assert len(set(replies)) > 5
    assert 1 < len({verdict_of(reply) for reply in replies}) <= 3


def test_at_a_low_temperature_the_verdict_does_not_slip():
    prompt = prompts.reasoner("Album", "Quiet Rain", history(np.random.default_rng(3))).text
    assert len({verdict_of(stand_in.answer(prompt, 0.2, seed)) for seed in range(40)}) == 1


def test_the_server_answers_like_the_function_and_counts_words(address):
    prompt = prompts.reasoner("Album", "Quiet Rain", history(np.random.default_rng(4)), hint=2.0).text
    request = {"model": "any", "messages": [{"role": "user", "content": prompt}], "temperature": 1.0, "seed": 7}
    status, reply = post(address, json.dumps(request).encode())
    text = reply["choices"][0]["message"]["content"]
    assert status == 200
    assert text == stand_in.answer(prompt, 1.0, 7)
    assert reply["usage"]["prompt_tokens"] == len(prompt.split())
    assert reply["usage"]["completion_tokens"] == len(text.split())


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Tell me a joke."}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user"}]},
        {"messages": []},
        {"messages": None},
        {},
        [],
        "text",
        None,
    ],
    ids=str,
)
def test_any_other_request_is_answered_with_400(address, body):
    status, reply = post(address, json.dumps(body).encode())
    assert status == 400
    assert reply["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"\xff"])
def test_a_request_that_is_no_json_is_answered_with_400(address, body):
    assert post(address, body)[0] == 400


def test_the_prompts_example_is_not_taken_for_the_review():
    reply = stand_in.answer(prompts.summarizer("Album", "Title", 3.0, "The bass is superb.").text, 0.2, 0)
    assert reply.split("\n")[0] == "Positive Aspects: bass"
    assert not re.search("room|breakfast", reply)
