"""The catalogue: items by id, ids by title where titles repeat, and titles that are written otherwise."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_shop import catalogue

from reason4rec.errors import InputError
from reason4rec.systems.twice_rec.catalogue import Catalogue, clean_title
from reason4rec.systems.twice_rec.replies import ANY_TAG

GROCERY = Path(__file__).parents[4] / "shared" / "data" / "amazon_grocery_2023_sequences"


def test_an_item_is_found_by_its_id_and_ids_by_a_title_that_repeats():
    items = catalogue(("B1", "Green Tea", "leaves"), ("B2", "Salt"), ("B3", "green  tea…"))
    assert items["B1"].description == "leaves"
    assert items.ids("GREEN TEA") == ("B1", "B3")
    assert items.ids("pepper") == ()
    assert [item.item_id for item in items] == ["B1", "B2", "B3"]
    assert "B2" in items and "B4" not in items
    assert items.is_title_of("green tea ...", "B1") and not items.is_title_of("salt", "B1")
    assert not items.is_title_of("salt", "B4")


def test_titles_that_must_be_exact_are_those_of_the_last_item():
    items = catalogue(("B1", "tea"), ("B2", "tea"))
    assert items.id_of_exact("tea") == "B2"
    assert items.id_of_exact("Tea") is None


def test_missing_texts_are_empty_and_an_item_without_a_title_is_called_by_its_id():
    items = Catalogue(
        pd.DataFrame({"item_id": ["B1"], "title": [None], "description": [float("nan")], "details": [pd.NA]})
    )
    assert items["B1"].title == "B1" and items["B1"].description == items["B1"].details == ""


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("B1", "a"), ("B1", "b")], "row 1: item_id B1"),
        ([("", "a")], "row 0"),
        ([("B 1", "a")], "row 0"),
        ([("B<think>", "a")], "row 0"),
    ],
)
def test_ids_that_are_none_are_refused(rows, said):
    with pytest.raises(InputError, match=said):
        catalogue(*rows)


def test_a_missing_column_or_item_is_named():
    with pytest.raises(InputError, match="no column description"):
        Catalogue(pd.DataFrame({"item_id": ["B1"], "title": ["a"]}))
    with pytest.raises(InputError, match="'B2'"):
        catalogue(("B1", "a"))["B2"]


@given(st.text())
def test_a_cleaned_title_stays_as_it_is(title):
    once = clean_title(title)
    assert clean_title(f"  {title}\n…") == clean_title(once)


@given(st.text(alphabet="<>/abthink_ "))
def test_no_tag_is_left_in_a_title(title):
    assert not ANY_TAG.search(catalogue(("B1", title))["B1"].title)


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the shared data are not here")
def test_titles_of_grocery_that_repeat():
    table = pd.read_json(GROCERY / "items.jsonl.gz", lines=True, dtype=False)
    items = Catalogue(table.rename(columns={"item_id": "number", "asin": "item_id"}))
    assert len(items) == 6_149
    assert len({item.title for item in items}) == 6_134
    assert sum(len(items.ids(item.title)) > 1 for item in items) >= 30
