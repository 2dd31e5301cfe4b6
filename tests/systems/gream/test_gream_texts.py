"""Texts on items and users, by any teacher and by rule: what is asked, what is kept, and that they are true."""

import random
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_histories import ITEMS, SAID, item_table, items, sequences, some_users, title, traces
from transformers import PreTrainedTokenizerFast

from reason4rec.demo import pretrain, stand_in, world
from reason4rec.errors import InputError
from reason4rec.systems.gream import pasts, prompts, reasoning, texts
from reason4rec.systems.gream.prompts import FOLDER
from reason4rec.systems.gream.rule_texts import RuleTexts
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.content import content_stems
from reason4rec.systems.twice_rec.hindsight import hindsight

USER_COLUMNS = ["user_id", *texts.KINDS]


def past(*chosen):
    return pasts.training_parts(sequences(chosen))


def answers(asked, seed=0, brief=False):
    return RuleTexts(seed, brief=brief).ask([prompt.text for prompt in asked], quiet=True)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('<p>A "fine" tea &amp;\n cup</p>', "A fine tea & cup."),
        ("Tea...", "Tea."),
        ("Tea.", "Tea."),
        (" . ", ""),
        ("", ""),
    ],
)
def test_a_description_is_cleaned(text, cleaned):
    assert texts.clean(text) == cleaned


@given(st.text(st.sampled_from('ab .<>&;"\n'), max_size=4000))
def test_a_clean_description_is_one_line_of_bounded_length(text):
    found = texts.clean(text)
    assert len(found) <= texts.LONGEST + 1 and "\n" not in found and '"' not in found
    assert not found or (found.endswith(".") and not found.endswith(".."))
    assert texts.clean(found) == found or "<" in text or "&" in text


def test_a_description_that_is_too_long_loses_its_last_sentences():
    assert texts.clean("A long tea. " * 300) == ("A long tea. " * 166).strip()


def test_a_long_description_without_spaces_or_with_an_early_stop_is_not_emptied():
    assert texts.clean("茶葉" * 1_500) == "茶葉" * 1_000 + "."
    assert texts.clean("No. 5 " + "tea " * 600) == ("No. 5 " + "tea " * 600)[:2_000].rpartition(" ")[0] + "."
    assert len(texts.clean("No. " + "茶" * 3_000)) == 2_001


def test_the_name_that_a_long_title_begins_with_gives_an_item_away():
    title = "Kirkland Organic Chicken Broth, 32 Ounce, Pack of 6 - Gluten Free"
    assert texts.tells("I need Kirkland organic chicken broth.", title)
    assert not texts.tells("I need chicken broth.", title)
    assert not texts.tells("I need green tea.", "Green Tea, 100 Bags")  # two words are a kind of item
    assert not texts.tells("Kirkland organic chicken broth.", title, ["Kirkland Organic Chicken Broth, 1 Can"])


def test_only_items_with_a_review_in_a_training_part_are_described():
    found = texts.to_describe(items(), past(ITEMS[:4], ITEMS[1:6]))
    assert list(found) == ITEMS[:4]
    assert [len(reviews) for reviews in found.values()] == [1, 2, 1, 1]
    unsaid = sequences([ITEMS]).assign(reviews="")
    assert texts.to_describe(items(), pasts.training_parts(unsaid)) == {}


def test_eight_reviews_that_say_something_are_shown():
    reviews = {"B00": [f"This review has the number {k}." for k in range(20)] + ["Too short."] * 20}
    asked = texts.item_prompts(items(), reviews, seed=0)[0].text
    assert len(re.findall(r"^\d\. This review", asked, re.MULTILINE)) == 8 and "Too short" not in asked
    assert asked == texts.item_prompts(items(), reviews, seed=0)[0].text
    assert asked != texts.item_prompts(items(), reviews, seed=1)[0].text
    assert "(none)" in texts.item_prompts(items(), {"B00": ["Short."]}, seed=0)[0].text


def test_a_reply_takes_the_place_of_a_description_and_a_refused_one_does_not():
    replies = ["A fine tea", None, "See <b>here</b>", "<think>thoughts</think> Good <|a_1|>."]
    rows, counts = texts.item_texts(items(["B04"]), ITEMS[:4], replies)
    assert rows[0] == ("B00", "A fine tea.") and rows[4] == ("B04", "") and len(rows) == len(ITEMS)
    assert rows[1][1] == "chorus and chorus, aboutB01."
    assert rows[2][1] == "See here."
    assert counts == {"written": 2, "refused, no answer": 1, "refused, has tags": 1}
    catalogue = texts.described(item_table(), pd.DataFrame(rows, columns=["item_id", "description"]))
    assert catalogue["B00"].description == "A fine tea." and catalogue["B04"].description == ""


@pytest.mark.parametrize(
    ("kind", "reply", "text", "why"),
    [
        ("general", "Likes tea.", "Likes tea.", ""),
        ("long_term", "**Long-term preference:** tea: green", "tea: green", ""),
        ("short_term", "Likes tea.", "", "not in the form"),
        ("short_term", "Short-term preference:", "", "not in the form"),
        ("general", None, "", "no answer"),
        ("general", "tea " * 121, "", "too long"),
        ("general", "<answer>tea</answer>", "", "has tags"),
        ("wish_of_user", "I want titleb03  ofb03 now", "", "tells the title"),
        ("wish_of_item", "I want tea", "I want tea", ""),
        ("general", "Likes TitleB03 OfB03", "Likes TitleB03 OfB03", ""),
    ],
)
def test_a_text_on_a_user_is_kept_or_refused(kind, reply, text, why):
    assert texts.user_text(kind, reply, items()["B03"]) == (text, why)
    assert texts.is_usable(kind)(reply or "") == (why in ("", "tells the title"))


def test_texts_on_users_are_read_back_by_user():
    pool = past(ITEMS[:6], ITEMS[6:])
    replies = {kind: [f"p: {getattr(SAID, kind)}", None] for kind in texts.KINDS}
    rows, counts = texts.user_texts(items(), pool, replies)
    found = texts.by_user(pd.DataFrame(rows, columns=USER_COLUMNS))
    assert found["U0"].long_term == SAID.long_term and found["U0"].general == f"p: {SAID.general}"
    assert found["U1"] == texts.UserTexts() and not found["U1"].preferences()
    assert counts["general written"] == 1 and counts["general refused, no answer"] == 1


def test_one_preference_and_one_wish_are_drawn():
    drawn = [SAID.drawn(np.random.default_rng(seed)) for seed in range(40)]
    assert {one["preference"] for one in drawn} == set(SAID.preferences())
    assert {one["wish"] for one in drawn} == {SAID.wish_of_user, SAID.wish_of_item}
    assert texts.UserTexts().drawn(np.random.default_rng(0)) == {}


@settings(max_examples=25, deadline=None)
@given(some_users)
def test_nothing_of_the_validation_and_the_test_is_asked_about_a_user(chosen):
    pool = past(*chosen)
    described = [prompt.text for prompt in texts.item_prompts(items(), texts.to_describe(items(), pool), 0)]
    for user, one in enumerate(chosen):
        for held_out in one[-2:]:
            assert all(f"mark{user}of{held_out} " not in text for text in described)
        for kind in texts.KINDS:
            asked = texts.user_prompts(kind, items(), [pool[user]])[0].text
            said = answers(texts.user_prompts(kind, items(), [pool[user]]))[0]
            for trace in traces(user, one[-2:]):
                assert trace not in asked + said
            # What a preference is asked from ends before the item that a search leads to.
            assert (title(one[-3]) in asked) == (kind in prompts.WISHES)


def demo(users=60, seed=7):
    """The training parts and the catalogue of a small world of the demo."""
    made, listed = world.chosen_records(users, 80, seed)
    table = pd.DataFrame(listed).astype(str)
    asin = dict(zip(table["item_id"], table["asin"]))
    rows = [
        (one["user"], asin[str(item)], place, float(rating), text)
        for one in made
        for place, (item, rating, text) in enumerate(zip(one["items"], one["ratings"], one["reviews"]))
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "position", "ratings", "reviews"])
    return pasts.training_parts(frame), Catalogue(table.drop(columns="item_id").rename(columns={"asin": "item_id"}))


@pytest.fixture(scope="module")
def shop():
    return demo()


@pytest.mark.parametrize("brief", [False, True])
def test_a_reasoning_by_rule_is_true_to_the_history_and_does_not_betray_the_target(shop, brief):
    pool, catalogue = shop
    found = reasoning.targets(pool, 80)
    replies = answers(reasoning.prompts_of(found, catalogue), brief=brief)
    rows, counts = reasoning.reasonings(found, replies, catalogue)
    assert counts["kept"] > 0.7 * len(found)
    assert set(counts) <= {"kept", "no connection"}
    by_place = {(one.user_id, one.position): one for one in found}
    for user, item_id, position, text in rows:
        history = by_place[user, position].history
        titles = {catalogue[event.item_id].title for event in history}
        assert catalogue[item_id].title not in text or catalogue[item_id].title in titles
        assert not hindsight(text)
        held = {
            catalogue[event.item_id].title: content_stems(f"{catalogue[event.item_id].description} {event.review}")
            for event in history
        }
        evidence = re.findall(r"([a-z]+(?:(?:, | and )[a-z]+)*) in ([A-Z]\w+ [A-Z]\w+)", text.split("\n")[0])
        assert bool(evidence) == (not brief)  # ids, of which the tiny base reads histories, tell no titles
        assert all(title_of in held for _, title_of in evidence)
        named = [aspect for aspect in world.ASPECTS if re.search(rf"\b{aspect}\b", text)]
        assert named and content_stems(" ".join(named)) <= set().union(*held.values())
        looked_for = [aspect for aspect in named if aspect in text.split("\n")[2]]
        assert set(looked_for) & set(re.findall(r"\w+", catalogue[item_id].description)) or not brief


def test_a_history_that_shares_nothing_gets_none():
    table = item_table().assign(
        title=[f"name{letter} of{letter}" for letter in "abcdefghijkl"],
        description=[f"thing{letter}" for letter in "abcdefghijkl"],
    )
    frame = sequences([ITEMS]).assign(reviews="")
    found = reasoning.targets(pasts.training_parts(frame))
    replies = answers(reasoning.prompts_of(found, Catalogue(table)))
    assert reasoning.reasonings(found, replies, Catalogue(table))[1] == Counter({"no connection": len(found)})


def test_users_and_items_of_the_demo_get_all_texts(shop):
    pool, catalogue = shop
    reviews = texts.to_describe(catalogue, pool)
    rows, counts = texts.item_texts(catalogue, reviews, answers(texts.item_prompts(catalogue, reviews, 0), brief=True))
    assert counts == {"written": len(reviews)}
    for item_id, text in rows:
        assert content_stems(text) & content_stems(catalogue[item_id].description), text
    replies = {kind: answers(texts.user_prompts(kind, catalogue, pool), brief=True) for kind in texts.KINDS}
    written = texts.by_user(pd.DataFrame(texts.user_texts(catalogue, pool, replies)[0], columns=USER_COLUMNS))
    known = [one for one in written.values() if len(one.preferences()) == 3 and len(one.wishes()) == 2]
    assert len(known) > 0.9 * len(pool)
    assert len({one.general for one in known}) > len(known) / 3


def test_the_stand_in_answers_the_demos_requests_in_brief(shop):
    pool, catalogue = shop
    (target, *_) = reasoning.targets(pool)
    asked = reasoning.prompts_of([target], catalogue)[0].text
    assert stand_in.answer(asked, 0.0, 1) == stand_in.answer(asked, 0.0, 1)
    assert reasoning.is_in_form(stand_in.answer(asked, 0.0, 1))
    for kind in texts.KINDS:
        asked = texts.user_prompts(kind, catalogue, pool[:3])
        assert all(texts.is_usable(kind)(stand_in.answer(one.text, 0.0, 1)) for one in asked), kind
    reviews = texts.to_describe(catalogue, pool)
    assert texts.is_item_text(stand_in.answer(texts.item_prompts(catalogue, reviews, 0)[0].text, 0.0, 1))


def test_the_tiny_base_reads_a_reasoning_in_few_tokens(shop):
    pool, catalogue = shop
    tokenizer = PreTrainedTokenizerFast.from_pretrained(Path(pretrain.__file__).with_name("base"))
    found = reasoning.targets(pool, 60)
    rows, _ = reasoning.reasonings(found, answers(reasoning.prompts_of(found, catalogue), brief=True), catalogue)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for *_, text in rows]
    assert min(lengths) >= 40 and max(lengths) <= 70


def test_the_seed_chooses_among_wordings_and_nothing_else(shop):
    pool, catalogue = shop
    asked = reasoning.prompts_of(reasoning.targets(pool)[:1], catalogue)
    assert answers(asked) == answers(asked)
    written = {answers(asked, seed)[0] for seed in range(20)}
    assert len(written) > 3
    said = {frozenset(aspect for aspect in world.ASPECTS if aspect in one) for one in written}
    assert len(said) == 1
    assert len({answers(asked, seed, brief=True)[0] for seed in range(20)}) == 1


def test_another_request_is_refused(tmp_path):
    with pytest.raises(InputError, match="for another teacher"):
        RuleTexts().ask(["What is the weather?"], quiet=True)
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "teacher_reasoning.txt").write_text("Why {item}?", encoding="utf-8")
    with pytest.raises(InputError, match="history"):
        RuleTexts(0, tmp_path)


line = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(line, line, line), min_size=5, max_size=7), st.booleans(), st.randoms())
def test_no_item_breaks_the_rules(rows, brief, rng: random.Random):
    ids = [f"B{k}" for k in range(len(rows))]
    table = pd.DataFrame([(one, name, about, "") for one, (name, about, _) in zip(ids, rows)])
    catalogue = Catalogue(table.set_axis(["item_id", "title", "description", "details"], axis=1))
    frame = pd.DataFrame(
        [("U", one, place, None, rows[place][2]) for place, one in enumerate(ids)],
        columns=["user_id", "item_id", "position", "ratings", "reviews"],
    )
    pool = pasts.training_parts(frame)
    found = reasoning.targets(pool)
    replies = answers(reasoning.prompts_of(found, catalogue), brief=brief)
    counts = reasoning.reasonings(found, replies, catalogue)[1]
    assert "refused, no answer" not in counts and "refused, not in the form" not in counts
    for kind in texts.KINDS:
        for reply in answers(texts.user_prompts(kind, catalogue, pool), rng.randrange(9), brief):
            assert texts.user_text(kind, reply, catalogue[ids[-3]])[1] in ("", "no answer", "tells the title")
    reviews = texts.to_describe(catalogue, pool)
    answers(texts.item_prompts(catalogue, reviews, 0), brief=brief)
