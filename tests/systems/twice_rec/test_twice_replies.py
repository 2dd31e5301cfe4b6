"""Completions, read strictly: no text may break the reader, and what is not asked for is no answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.systems.twice_rec.replies import inner, read

GOOD = "<think> it fits </think> <item_nm> green tea </item_nm> <item_id> B1 </item_id>"
MARKS = [f"<{slash}{tag}>" for tag in ("think", "item_nm", "item_id", "item_info", "b") for slash in ("", "/")]


def test_an_answer_in_the_form_asked_for():
    found = read(GOOD)
    assert (found.think, found.title, found.item_id, found.problems) == ("it fits", "green tea", "B1", ())
    assert found.well_formed
    assert read(GOOD.removeprefix("<think> it fits </think> "), rationale=False).well_formed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B1",
        GOOD.replace(" it fits ", " "),
        GOOD.replace(" B1 ", " \n "),
        GOOD.replace("</item_id>", ""),
        f"{GOOD} {GOOD}",
        f"Sure! {GOOD}",
        f"{GOOD} Enjoy.",
        GOOD.replace(" <item_nm>", ", <item_nm>"),
        GOOD.replace("it fits", "it <b>fits</b>"),
        GOOD.replace("it fits", "it </think> fits"),
        "<item_nm> green tea </item_nm> <item_id> B1 </item_id>",
        "<item_nm> green tea </item_nm> <think> it fits </think> <item_id> B1 </item_id>",
        "<think> it <item_nm> green tea </item_nm> fits </think> <item_id> B1 </item_id>",
    ],
)
def test_any_other_form_is_none(text):
    found = read(text)
    assert not found.well_formed and found.problems


def test_a_rationale_that_is_not_asked_for_is_one_too_many():
    assert read(GOOD, rationale=False).problems


def test_the_first_of_several_tags_counts():
    assert inner("</item_id> <item_id> B1\n</item_id><item_id>B2</item_id>", "item_id") == "B1"
    assert inner("</item_id> <item_id> B1", "item_id") is None


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=8), max_size=12).map("".join), st.booleans())
def test_no_text_breaks_the_reader(text, rationale):
    found = read(text, rationale)
    assert found.well_formed == (not found.problems)
    if found.well_formed:
        assert found.title and found.item_id and bool(found.think) == rationale


def test_many_openings_are_read_in_no_time():
    assert read("<think>" * 100_000).problems
