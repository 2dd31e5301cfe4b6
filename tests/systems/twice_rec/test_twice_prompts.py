"""The prompts: what they show of an item, what may be cut from them, and answers that are read back."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_shop import CASE, HISTORY, catalogue, shop

from reason4rec.data.sequences import Event
from reason4rec.errors import InputError
from reason4rec.llm.prompt import TooLong, fields_of, read_back, shorten
from reason4rec.systems.twice_rec import prompts
from reason4rec.systems.twice_rec.prompts import FIELDS, FOLDER, ITEM_ONLY, RATIONALE_FIRST, answer, items_in, recommend
from reason4rec.systems.twice_rec.replies import inner, read

CANDIDATES = ("B4", "B5", "B1")


def section(text, name, task=RATIONALE_FIRST):
    return read_back(task, text, FOLDER)[name]


@pytest.mark.parametrize("task", [ITEM_ONLY, RATIONALE_FIRST])
def test_an_item_shows_what_it_has_and_only_the_history_has_reviews_and_ratings(task):
    text = recommend(shop(), HISTORY, CANDIDATES, task).text
    assert items_in(section(text, "history", task)) == [
        {
            "title": "sea salt | coarse",
            "item_id": "B3",
            "description": "Salt.",
            "review": "Too coarse. Never again.",
            "rating": "Bad",
        },
        {"title": "green tea bags", "item_id": "B2"},
        {
            "title": "dark chocolate bar, 3 oz",
            "item_id": "B1",
            "description": "Dark chocolate from Peru.",
            "details": '"Brand": "Andes"',
            "review": "So rich!",
            "rating": "Excellent",
        },
    ]
    listed = items_in(section(text, "candidates", task))
    assert [item["item_id"] for item in listed] == list(CANDIDATES)
    assert listed[1] == {"title": "green tea bags", "item_id": "B5", "description": "Another one."}
    assert not {"review", "rating"} & set().union(*listed)


def test_the_compact_form_has_a_line_for_an_item():
    text = recommend(shop(), HISTORY, CANDIDATES, fields=("rating",)).text
    assert section(text, "history") == (
        "sea salt | coarse | B3 | Bad\ngreen tea bags | B2\ndark chocolate bar, 3 oz | B1 | Excellent"
    )
    assert section(text, "candidates").split("\n")[1] == "green tea bags | B5"
    assert recommend(shop(), (), CANDIDATES).text.count(prompts.NO_HISTORY) == 1


def test_texts_are_cut_and_titles_are_not():
    items = catalogue(("B1", "long title " * 60, "description " * 60, "details " * 60))
    text = recommend(items, [Event("B1", 1.0, "review " * 60)], ["B1"], cut=50).text
    for shown in (*items_in(section(text, "history")), *items_in(section(text, "candidates"))):
        assert len(shown["title"]) == 659
        assert all(40 < len(shown[name]) <= 50 for name in ("description", "details", "review") if name in shown)


def test_what_is_cut_first_is_the_oldest_history_and_never_a_candidate():
    prompt = recommend(shop(), HISTORY, CANDIDATES)
    seen = []
    for n in range(len(prompt.optional) + 1):
        text = prompt.without(n)
        assert text.startswith(prompt.text[:200])
        listed, past = items_in(section(text, "candidates")), items_in(section(text, "history"))
        assert [(item["title"], item["item_id"]) for item in listed] == [
            ("chocolate cookies", "B4"),
            ("green tea bags", "B5"),
            ("dark chocolate bar, 3 oz", "B1"),
        ]
        assert past[-1]["item_id"] == "B1" and past[-1]["rating"] == "Excellent"
        seen.append((len(past), *(sum(name in item for item in listed) for name in ("details", "description"))))
    assert seen[:8] == [(3, 2, 3), (2, 2, 3), (1, 2, 3), (1, 1, 3), (1, 0, 3), (1, 0, 2), (1, 0, 1), (1, 0, 0)]
    assert items_in(section(prompt.without(99), "history")) == [
        {"title": "dark chocolate bar, 3 oz", "item_id": "B1", "rating": "Excellent"}
    ]
    with pytest.raises(TooLong):
        shorten(prompt, lambda text: len(text) < 300)


@given(st.lists(st.tuples(st.sampled_from(["B1", "B2", "B3", "B4", "B5"]), st.booleans()), max_size=6), st.booleans())
def test_spans_never_overlap(events, compact):
    history = [Event(item_id, 3.0 if said else None, "said" if said else "") for item_id, said in events]
    prompt = recommend(shop(), history, CANDIDATES, fields=("rating",) if compact else FIELDS)
    spans = sorted(prompt.optional)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))
    assert len(section(prompt.without(99), "candidates").split("\n" if compact else "\n\n")) == len(CANDIDATES)


def test_the_teacher_and_the_judge_see_no_ids():
    asked = prompts.teacher(shop(), HISTORY, CASE.target.item_id)
    graded = prompts.judge(shop(), HISTORY, "B4", "It\nfits.")
    for prompt in (asked, graded):
        assert "B4" not in prompt.text and "B1" not in prompt.text
        assert "sea salt" not in prompt.without(1) and "Cookies with dark chocolate." in prompt.without(99)
    fields = read_back("teacher", asked.text, FOLDER)
    assert [one.get("rating") for one in items_in(fields["history"])] == ["Bad", None, "Excellent"]
    assert items_in(fields["item"])[0]["title"] == "chocolate cookies"
    compact = prompts.teacher(shop(), HISTORY, "B3", fields=("rating",)).text
    assert items_in(read_back("teacher", compact, FOLDER)["history"])[0] == {
        "title": "sea salt | coarse",
        "rating": "Bad",
    }


@pytest.mark.parametrize(
    ("rating", "word"), [(1, "Terrible"), (2.4, "Bad"), (2.5, "Okay"), (4, "Good"), (4.5, "Excellent")]
)
def test_a_rating_has_a_word(rating, word):
    assert prompts.rating_word(rating) == word


@pytest.mark.parametrize("rating", [0, 5.5, 10, float("nan")])
def test_a_rating_of_another_scale_is_refused(rating):
    with pytest.raises(InputError, match="1 to 5"):
        prompts.rating_word(rating)


def test_an_item_that_the_catalogue_lacks_is_named():
    with pytest.raises(InputError, match="B9"):
        recommend(shop(), HISTORY, ["B9"])


def test_task_1_is_answered_with_what_the_catalogue_has():
    assert "green tea bags" in prompts.describe("green tea bags").text
    assert inner(prompts.description(shop()["B2"]), "item_info") == "item_id: B2"
    assert prompts.description(shop()["B4"], cut=12).count("\n") == 2


texts = st.text().filter(lambda text: text.split())


@given(texts, texts.map(lambda text: "".join(text.split())), st.none() | texts)
def test_an_answer_is_read_back(title, item_id, rationale):
    if any("<" in text for text in (item_id, rationale or "")):
        return
    item = catalogue((item_id, title))[item_id]
    found = read(answer(item, rationale), rationale is not None)
    assert (found.title, found.item_id) == (item.title, item_id)
    assert found.think == (None if rationale is None else " ".join(rationale.split()))
    assert found.well_formed
    assert len(answer(item, rationale).split("\n")) == 1


def test_templates_of_ones_own_may_lack_a_field(tmp_path):
    for path in FOLDER.glob("*.txt"):
        shutil.copy(path, tmp_path)
    (tmp_path / "item_only.txt").write_text("Pick: {candidates}", encoding="utf-8")
    prompt = recommend(shop(), HISTORY, ["B2"], ITEM_ONLY, folder=tmp_path)
    assert prompt.text == "Pick: title: green tea bags\nitem_id: B2" and prompt.optional == ()
    assert fields_of("judge", FOLDER) == {"history", "item", "rationale"}
    (tmp_path / "judge.txt").unlink()
    with pytest.raises(InputError, match=r"no judge\.txt"):
        prompts.judge(shop(), HISTORY, "B4", "x", folder=tmp_path)
