"""The log-probabilities of given replies: those of reading each reply alone, whatever is shared and however batched."""

import numpy as np
import pytest
import torch

from reason4rec.llm import local
from reason4rec.llm.cache import ResponseCache
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.tokens import chat_ids, plain_ids

PROMPTS = [Prompt("Which album will the user buy next?"), Prompt("The guitar is gorgeous. What comes next, and why?")]
REPLIES = [["Amber Arrows", "Blue Bells", "Amber Avenue of the long title"], ["Blue Bells", "Quiet Rain"]]
BEGUN = ["The user looks for guitar. ", ""]


@pytest.fixture(scope="module")
def model(base):
    return local.load(base, None, "cpu")


def alone(model, prompt, begun, reply):
    """The sum over the reply's tokens, each read with all before it."""
    head = plain_ids(model.tokenizer, begun)
    tail = plain_ids(model.tokenizer, begun + reply)
    start = next((k for k, (a, b) in enumerate(zip(head, tail)) if a != b), min(len(head), len(tail)))
    ids = chat_ids(model.tokenizer, prompt.text)
    with torch.no_grad():
        logits = model.model(torch.tensor([ids + tail])).logits[0].log_softmax(-1)
    at = range(len(ids) + start, len(ids) + len(tail))
    return sum(float(logits[k - 1, (ids + tail)[k]]) for k in at), len(at)


def test_they_are_those_of_each_reply_read_alone(model):
    found = model.log_likelihood(PROMPTS, REPLIES, BEGUN)
    for prompt, begun, replies, rows in zip(PROMPTS, BEGUN, REPLIES, found):
        expected = np.array([alone(model, prompt, begun, reply) for reply in replies])
        np.testing.assert_allclose(rows, expected, atol=1e-3)


def test_a_reply_is_found_as_probable_beside_others_as_by_itself(model):
    together = model.log_likelihood(PROMPTS, REPLIES, BEGUN)
    for k, replies in enumerate(REPLIES):
        for place, reply in enumerate(replies):
            (by_itself,) = model.log_likelihood([PROMPTS[k]], [[reply]], [BEGUN[k]])
            np.testing.assert_allclose(by_itself[0], together[k][place], atol=1e-3)


def test_the_tokens_of_what_the_replies_begin_with_are_not_counted(model):
    (after,) = model.log_likelihood(PROMPTS[:1], [["Blue Bells"]], BEGUN[:1])
    (whole,) = model.log_likelihood(PROMPTS[:1], [[BEGUN[0] + "Blue Bells"]])
    assert after[0, 1] < whole[0, 1]


def test_an_interrupted_weighing_goes_on_from_what_it_kept(base, model, tmp_path):
    cached = local.load(base, None, "cpu", cache=ResponseCache(tmp_path / "replies.sqlite"))
    first = cached.log_likelihood(PROMPTS[:1], REPLIES[:1], BEGUN[:1])
    again = cached.log_likelihood(PROMPTS, REPLIES, BEGUN)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_allclose(again[1], model.log_likelihood(PROMPTS, REPLIES, BEGUN)[1], atol=1e-3)


def test_the_same_text_weighed_from_another_place_is_another_answer(base, tmp_path):
    cached = local.load(base, None, "cpu", cache=ResponseCache(tmp_path / "replies.sqlite"))
    whole = cached.log_likelihood(PROMPTS[:1], [["The user looks for guitar. Blue Bells"]])
    part = cached.log_likelihood(PROMPTS[:1], [["Blue Bells"]], ["The user looks for guitar. "])
    assert whole[0][0, 1] > part[0][0, 1]
