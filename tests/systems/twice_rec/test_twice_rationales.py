"""Checks of written rationales, and a judge's grade."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_shop import CASE, shop

from reason4rec.data.sequences import Case, Event
from reason4rec.systems.twice_rec.rationale_checks import as_table, checks, grade

OTHER = Case("U2", (Event("B5", 4.0, "Fresh leaves."),), Event("B2", None, ""))
GROUNDED = "Dark chocolate from Peru was rich, and the coarse sea salt was not. Chocolate cookies hold dark chocolate."


def checked(*rationales, cases=None, recommended="B4"):
    cases = cases or [CASE, OTHER] * len(rationales)
    rows = len(rationales)
    return checks(rationales, cases[:rows], [["B4", "B2"]] * rows, [recommended] * rows, shop(), 0).to_dict("list")


def test_a_rationale_on_the_history_is_told_from_one_on_nothing():
    found = checked(GROUNDED, "Good things come.", "", "Sneakers, laptops and umbrellas.", cases=[CASE] * 4)
    assert found["words"] == [18, 3, 0, 4]
    assert found["empty"] == [0, 0, 1, 0]
    assert found["names_history"] == [1, 0, 0, 0]
    assert found["shared_with_history"] == [7, 0, 0, 0]
    assert found["faithfulness"][0] > 0.7 and np.isnan(found["faithfulness"][2]) and found["faithfulness"][3] == 0
    assert found["hindsight"] == found["weak_link"] == found["duplicate"] == [0, 0, 0, 0]


def test_what_holds_of_any_history_holds_by_chance_too():
    found = checked(GROUNDED, "Green tea bags with fresh leaves go with green tea.")
    assert found["names_history"] == [1, 1] and found["names_history_by_chance"] == [0, 1]
    assert found["faithfulness"][0] > found["faithfulness_by_chance"][0]


def test_the_recommended_items_own_words_name_no_item_of_the_history():
    tea = Case("U3", (Event("B5", None, ""),), Event("B2", None, ""))
    assert checked("Green tea bags.", cases=[tea], recommended="B2")["names_history"] == [0]
    assert checked("Green tea bags.", cases=[tea], recommended=None)["names_history"] == [1]


def test_hindsight_weak_links_and_duplicates_are_counted():
    found = checked("The next purchased item is unrelated.", "The NEXT purchased item is unrelated!", "Something else.")
    assert found["hindsight"] == found["weak_link"] == [1, 1, 0]
    assert found["duplicate"] == [0, 1, 0]


def test_the_table_has_a_column_for_each_writer():
    made = checks([GROUNDED], [CASE], [["B4"]], ["B4"], shop(), 0)
    lines = as_table({"rules": made, "a model": made}).split("\n")
    assert lines[0].split() == ["check", "rules", "a", "model"]
    assert lines[1].split() == ["rationales", "1", "1"]
    assert len(lines) == 2 + made.shape[1]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Why: It is true to the history.\nScore: 3", 3),
        ("Score: 0", 0),
        ("**Score:** 2/3", 2),
        ("score 1 out of 3.", 1),
        ("Score: 2\nScore: 2", 2),
        ("", None),
        ("It is good.", None),
        ("Score: 4", None),
        ("Score: 1.5", None),
        ("Score: 2/5", None),
        ("Score: 30", None),
        ("Score: 0 to 3", None),
        ("Score: 0, 1, 2 or 3", None),
        ("Score: 2\nScore: 3", None),
        ("Score: -1", None),
    ],
)
def test_a_grade_is_read_where_it_is_one(reply, expected):
    found = grade(reply)
    assert np.isnan(found) if expected is None else found == expected


@given(st.text() | st.text(alphabet="score: 0123./-").map(lambda text: f"Score: {text}"))
def test_no_reply_breaks_the_reader_of_grades(reply):
    found = grade(reply)
    assert np.isnan(found) or found in (0, 1, 2, 3)
