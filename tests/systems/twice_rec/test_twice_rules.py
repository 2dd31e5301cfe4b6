"""Rationales by rule: true to the texts that are shown, the same every time, and in the form of any teacher's."""

import random
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_shop import CASE, HISTORY, catalogue, shop

from reason4rec.data.sequences import Event
from reason4rec.demo import world
from reason4rec.errors import InputError
from reason4rec.systems.twice_rec import prompts
from reason4rec.systems.twice_rec.content import content_stems, content_words, stem
from reason4rec.systems.twice_rec.prompts import FOLDER
from reason4rec.systems.twice_rec.replies import rationale_of
from reason4rec.systems.twice_rec.rule_rationales import RuleRationales, rationale


def asked(history=HISTORY, item_id="B4", items=None):
    return prompts.teacher(items or shop(), history, item_id).text


def written(history=HISTORY, item_id="B4", items=None, seed=0):
    (reply,) = RuleRationales(seed).ask([asked(history, item_id, items)], quiet=True)
    return rationale_of(reply)


def test_what_two_items_have_in_common_is_named():
    found = written()
    assert found.relevant and not found.refused
    assert "dark chocolate" in found.text
    assert "rated Excellent" in found.text and "rated Bad" in found.text
    assert "chocolate cookies" in found.text.lower()


def test_where_nothing_is_in_common_there_is_no_connection():
    assert not written(HISTORY[:2]).relevant
    assert not written(()).relevant


def test_what_the_user_rated_low_speaks_for_nothing():
    bar = Event("B1", 5.0, "")
    assert written((bar,)).relevant
    assert not written((Event("B1", 1.0, ""),)).relevant
    assert written((Event("B1", None, ""),)).relevant


def test_what_a_review_praises_or_asks_for_is_found_in_a_description():
    items = catalogue(("B1", "Amber Forest"), ("B2", "Neon Sky", "Known for its melody and bass."))
    for review, relevant in (
        ("The melody is superb.", True),
        ("I always listen for the bass first.", True),
        ("The melody is awful.", False),
        ("The piano is superb.", False),
    ):
        found = written((Event("B1", 4.0, review),), "B2", items)
        assert found.relevant == relevant, review
        assert not relevant or "In the reviews" in found.text or "reviews dwell" in found.text or "words" in found.text


def test_a_property_of_many_items_makes_no_connection():
    items = catalogue(("B1", "organic oats"), ("B2", "organic honey"), ("B3", "organic tea"))
    assert not written((Event("B1", 5.0, ""), Event("B2", 5.0, "")), "B3", items).relevant


def test_the_same_request_gets_the_same_answer_and_another_seed_only_other_words():
    assert written() == written()
    texts = {written(seed=seed).text for seed in range(20)}
    assert len(texts) > 5
    assert all("dark chocolate" in text for text in texts)
    teacher = RuleRationales()
    assert len({teacher.ask([asked()], draw=draw, quiet=True)[0] for draw in range(20)}) > 5
    assert teacher.usage() == {"teacher": "rules for rationales", "replies": 20}


def test_a_compact_request_is_read_too():
    items = catalogue(("B1", "green tea"), ("B2", "black tea"))
    text = prompts.teacher(items, [Event("B1", 5.0, "")], "B2", fields=("rating",)).text
    (reply,) = RuleRationales().ask([text], quiet=True)
    assert "tea" in rationale_of(reply).text and "(rated Excellent)" in reply


def test_another_request_is_refused(tmp_path):
    with pytest.raises(InputError, match="writes rationales"):
        RuleRationales().ask([prompts.judge(shop(), HISTORY, "B4", "It fits.").text], quiet=True)
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "teacher.txt").write_text("Why {item}?", encoding="utf-8")
    with pytest.raises(InputError, match="history"):
        RuleRationales(0, tmp_path)


texts = st.text(max_size=40)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.none() | st.sampled_from([1.0, 3.0, 5.0])), max_size=3), texts, texts)
def test_no_item_breaks_the_rules(events, title, description):
    rows = [(f"B{k}", title, review) for k, (title, review, _) in enumerate(events)]
    items = catalogue(*rows, ("B9", title, description))
    history = [Event(f"B{k}", rating, review) for k, (_, review, rating) in enumerate(events)]
    found = written(history, "B9", items)
    assert found.refused != "not in the form"


def test_a_users_wishes_are_found_in_the_demos_world():
    rng = np.random.default_rng(0)
    made = world.make_world(30, 40, rng)
    names = [[world.ASPECTS[a] for a in row] for row in made.strong]
    shown = [
        {"title": title, "description": f"Known for its {', '.join(strong)}."}
        for title, strong in zip(made.titles, names)
    ]
    yes = {"best": 0, "worst": 0}
    for user in range(30):
        items = rng.choice(40, 6, replace=False)
        history = []
        for item in items:
            rating = world.rate(made, user, item, rng)
            said = {"review": world.write_review(made, user, item, rating, rng), "rating": prompts.rating_word(rating)}
            history.append(shown[item] | said)
        met = [len(set(made.wanted[user]) & set(strong)) for strong in made.strong]
        for which, item in (("best", int(np.argmax(met))), ("worst", int(np.argmin(met)))):
            yes[which] += rationale(history, shown[item], random.Random(0))[1]
    assert yes["best"] >= 25 > yes["worst"] + 3


def test_words_of_content_leave_out_what_any_description_says():
    assert content_words("Gluten-free dark-chocolate bars, 12 pack (3oz): great taste!") == [
        "gluten",
        "dark",
        "chocolate",
        "bars",
    ]
    assert stem("noodles") == stem("noodle's") == stem("noodle")
    assert content_stems("") == set()


def test_the_case_that_is_asked_for_has_its_item_last():
    assert asked(CASE.history, CASE.target.item_id).rstrip().endswith('details: "Brand": "Oven"')
