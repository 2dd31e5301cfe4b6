"""The rewards: the released one number by number, and the mended one with each fault that it must not have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_shop import CASE, catalogue, market, shop

from reason4rec.data.sequences import Case, Event
from reason4rec.errors import InputError
from reason4rec.systems.twice_rec.prompts import answer
from reason4rec.systems.twice_rec.rewards import (
    DEBIASED,
    FAITHFUL,
    LIST_SOFTMAX,
    MATCH,
    MENDED,
    Evidence,
    guided,
    only_expected_tags,
    parts_of,
    sigmoid,
    tag_count,
    tag_presence,
    weights_of,
)
from reason4rec.training.rollouts import Rollout, scores_of, total

FORM = "<think> it fits </think> <item_nm> {title} </item_nm> <item_id> {item_id} </item_id>"
LISTS = [["B4", "B5", "B1"]]
LOGITS = {"B1": np.log(0.3 / 0.7), "B2": np.log(0.29 / 0.71), "B3": 0.0, "B4": np.log(4.0), "B5": -9.0}


def evidence(**changed):
    fields = {
        "catalogue": shop(),
        "cases": [CASE],
        "candidates": LISTS,
        "logits": lambda numbers, ids: [LOGITS[one] for one in ids],
        "candidate_logits": np.array([[LOGITS[one] for one in listed] for listed in LISTS]),
        "item_means": dict.fromkeys(LOGITS, 0.0) | {"B4": 1.0},
    }
    return Evidence(**(fields | changed))


def written(text, number=0):
    return Rollout({"number": number}, text, (), True)


def scores(reward, text, **options):
    parts = parts_of(reward, evidence(), **options)
    found = scores_of(parts, [written(text)])
    return dict(zip((part.name for part in parts), found[0].tolist())) | {"total": total(parts, found)[0]}


def said(item_id, title=None):
    return FORM.format(title=title or shop()[item_id].title, item_id=item_id)


# The released reward


@pytest.mark.parametrize(
    ("match", "confidence", "expected"),
    [(1, 0.8, 3.4), (1, 0.3, 1.9), (1, 0.29, 1.0), (0, 0.8, 0.8), (0, 0.3, 0.3), (0, 0.29, 0.0), (1, 0.0, 1.0)]
    + [(0, 0.0, 0.0)],
)
def test_the_guided_reward_is_the_released_one(match, confidence, expected):
    assert guided(np.array([match]), np.array([confidence]))[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "guided_", "total_"),
    [
        (said("B4"), 3.4, 17.1),
        (said("B1", "chocolate cookies"), 0.8, 6.7),  # the id of another item
        (said("B4", "dark chocolate bar, 3 oz"), 1.9, 11.1),  # the title of another item
        (said("B1"), 0.3, 4.7),
        (said("B4", "no such title"), 1.0, 7.5),
        (said("B4", "Chocolate Cookies"), 1.0, 7.5),  # a title counts character by character
        (said("B9", "no such title"), 0.0, 3.5),
        (said("B3"), 0.5, 5.5),  # no candidate at all
        ("", 0.0, 1.0),
    ],
)
def test_what_the_released_reward_gives(text, guided_, total_):
    found = scores(FAITHFUL, text)
    assert found["collaborative_guided"] == pytest.approx(guided_)
    assert found["total"] == pytest.approx(total_)


def test_of_a_title_that_repeats_the_last_item_counts():
    assert scores(FAITHFUL, said("B2"))["confidence"] == pytest.approx(sigmoid(np.array(-9.0)))


@pytest.mark.parametrize(
    ("text", "presence", "count", "expected"),
    [
        (said("B4"), 1.0, 1.5, 1.0),
        ("", 0.0, 0.0, 1.0),
        ("<think>", 0.0, 0.25, 1.0),
        (said("B4") * 2, 1.0, 0.0, 1.0),
        (f"{said('B4')} <b>", 1.0, 1.5, 0.0),
        (f"{said('B4')} <sales> </sales>", 1.0, 1.5, 1.0),
        ("<item_id> </item_id> <think> </think> <item_nm>\n</item_nm>", 1.0, 1.5, 1.0),
    ],
)
def test_the_released_terms_of_form(text, presence, count, expected):
    assert (tag_presence(text), tag_count(text), only_expected_tags(text)) == (presence, count, expected)


def test_a_filter_that_fails_is_no_item_without_confidence():
    def broken(numbers, ids):
        raise RuntimeError("no CUDA device")

    parts = parts_of(FAITHFUL, evidence(logits=broken))
    with pytest.raises(RuntimeError):
        scores_of(parts, [written(said("B4"))])


# The mended reward


def test_a_right_answer_is_worth_more_the_surer_the_filter():
    found = scores(MENDED, said("B4"))
    softmax = 4.0 / (4.0 + 0.3 / 0.7 + np.exp(-9.0))
    assert found["confidence"] == pytest.approx(softmax)
    assert found["collaborative_guided"] == pytest.approx(1 + 3 * softmax)
    assert found["total"] == pytest.approx(4 * (1 + 3 * softmax) + 2)
    debiased = scores(MENDED, said("B4"), confidence=DEBIASED)
    assert debiased["confidence"] == pytest.approx(sigmoid(np.log(4.0) - 1.0))
    assert scores(MENDED, said("B1"), confidence=DEBIASED)["collaborative_guided"] == 0.0
    assert scores(MENDED, said("B1"), confidence=DEBIASED, tau=0.2)["collaborative_guided"] == pytest.approx(0.3)


@pytest.mark.parametrize("reward", [MENDED, MATCH])
@pytest.mark.parametrize(
    ("text", "total_", "outside", "of_another"),
    [
        (said("B4", "dark chocolate bar, 3 oz"), 1.0, 0.0, 1.0),
        (said("B1", "chocolate cookies"), 1.0, 0.0, 1.0),
        (said("B3"), 1.0, 1.0, 0.0),
        (said("B9", "no such title"), 1.0, 1.0, 1.0),
        (said("B4", "no such title"), 1.0, 0.0, 1.0),
        ("", 0.0, 1.0, 1.0),
        ("<think></think><item_nm></item_nm><item_id></item_id>", 0.0, 1.0, 1.0),
    ],
)
def test_a_way_to_cheat_earns_nothing_but_its_form_and_is_seen(reward, text, total_, outside, of_another):
    found = scores(reward, text)
    assert found["total"] == pytest.approx(total_)
    assert found["candidate"] == found["item_match"] == 0.0
    assert (found["outside_the_list"], found["title_of_another"]) == (outside, of_another)


def test_a_title_may_be_written_otherwise_and_may_be_that_of_two_items():
    assert scores(MENDED, said("B4", "Chocolate  COOKIES…"))["item_match"] == 1.0
    assert scores(MENDED, said("B5"))["candidate"] == 1.0


def test_a_right_answer_in_a_bad_form_keeps_its_match():
    found = scores(MATCH, f"Sure: {said('B4')}")
    assert (found["item_match"], found["well_formed"], found["total"]) == (1.0, 0.0, 5.0)


@pytest.mark.parametrize("reward", [FAITHFUL, MENDED, MATCH])
def test_a_share_of_hits_meant_another_thing_under_each_reward(reward):
    """`item_match` asks for the target's own title in two of them; what is drawn for a figure must be one thing."""
    assert scores(reward, said("B4", "no such title"))["names_target"] == 1.0
    assert scores(reward, said("B1"))["names_target"] == scores(reward, "")["names_target"] == 0.0


def test_match_does_without_the_filter():
    assert scores(MATCH, said("B4"))["total"] == 6.0
    assert scores(MATCH, said("B1"))["total"] == 2.0


@given(st.text() | st.lists(st.sampled_from([*said("B4").split(), "</think>", "<b>"])).map(" ".join))
def test_no_text_breaks_a_reward_or_earns_more_than_the_truth(text):
    for reward in (FAITHFUL, MENDED, MATCH):
        assert 0.0 <= scores(reward, text)["total"] <= scores(reward, said("B4"))["total"]


@pytest.mark.parametrize("reward", [FAITHFUL, MENDED, MATCH])
def test_parts_are_computed_for_each_rollout(reward):
    parts = parts_of(reward, evidence())
    some = [written(said("B4")), written(said("B3")), written("")]
    first = scores_of(parts, some)
    assert scores_of(parts, some[::-1])[::-1].tolist() == first.tolist()


# What they are computed from


def test_weights_are_recorded_by_name():
    assert {name: weight for name, weight in weights_of(FAITHFUL).items() if weight} == {
        "collaborative_guided": 4.0,
        "tag_presence": 1.0,
        "tag_count": 1.0,
        "only_expected_tags": 1.0,
    }
    for reward in (FAITHFUL, MENDED, MATCH):
        assert {part.name: part.weight for part in parts_of(reward, evidence())} == weights_of(reward)


@pytest.mark.parametrize(
    ("changed", "said_"),
    [
        ({"cases": [], "candidates": []}, "no cases"),
        ({"candidates": [*LISTS, *LISTS]}, "2 lists"),
        ({"candidate_logits": np.zeros((1, 2))}, r"\(1, 2\)"),
        ({"candidates": [["B1", "B2", "B3"]]}, "B4 among them"),
        ({"candidates": [["B4", "B4", "B3"]]}, "different"),
        ({"candidates": [["B4", "B9", "B3"]]}, "B9"),
        ({"item_means": {"B4": 0.0, "B5": 0.0}}, "B1"),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(changed, said_):
    with pytest.raises(InputError, match=said_):
        evidence(**changed)


def test_unknown_rewards_are_refused():
    with pytest.raises(InputError, match="there are"):
        weights_of("best")
    with pytest.raises(InputError, match="there are"):
        parts_of(MENDED, evidence(), confidence="sigmoid")


def test_a_confidence_that_depends_on_the_user_is_even_over_users():
    made, popularity = market()
    popular, rare = max(popularity, key=popularity.get), min(popularity, key=popularity.get)
    assert made.item_means[popular] - made.item_means[rare] > 3
    known = made.confidence(DEBIASED)
    by_item = {one: [] for one in popularity}
    for row, listed in zip(known, made.candidates):
        for value, one in zip(row, listed):
            by_item[one].append(value)
    means = [np.mean(values) for values in by_item.values() if len(values) > 100]
    assert len(means) > 3 and all(abs(mean - 0.5) < 0.1 for mean in means)
    assert made.confidence(LIST_SOFTMAX).sum(axis=1) == pytest.approx(np.ones(len(made.cases)))


def test_large_logits_overflow_nowhere():
    case = Case("U", (), Event("B1", None, ""))
    made = Evidence(
        catalogue(("B1", "a"), ("B2", "b")),
        [case],
        [["B1", "B2"]],
        lambda numbers, ids: [1e5] * len(ids),
        np.array([[1e5, -1e5]]),
        {"B1": 0.0, "B2": 0.0},
    )
    rollouts = [written(answer(item, "x")) for item in made.catalogue]
    for reward in (FAITHFUL, MENDED):
        for kind in (LIST_SOFTMAX, DEBIASED):
            found = scores_of(parts_of(reward, made, kind), rollouts)
            assert found[0].max() == 4.0
