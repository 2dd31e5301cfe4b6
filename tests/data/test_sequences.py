"""Sequences and their cases: no case sees what comes later, and a wrong file or table is refused by line or row."""

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import sequences
from reason4rec.data.schema import REVIEW_COLUMNS
from reason4rec.data.sequences import ITEM_COLUMNS, SEQUENCE_COLUMNS, SPLITS, Case, Event
from reason4rec.errors import InputError

GROCERY = Path(__file__).parents[3] / "shared" / "data" / "amazon_grocery_2023_sequences"
ITEMS = [
    {"item_id": k, "asin": f"B{k}", "title": "tea" if k < 3 else f"item {k}", "description": "", "details": "x"}
    for k in range(1, 9)
]
LINES = [{"user": 7, "items": [1, 2, 3, 4]}, {"user": "b", "items": [8, 4, 2, 6, "5"]}]


def frame_of(chosen, **columns):
    """A table of sequences from the items of users."""
    rows = [(user, item, k) for user, items in chosen.items() for k, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=list(SEQUENCE_COLUMNS[:3]))
    return frame.assign(**({"ratings": np.nan, "reviews": ""} | columns))


def reviews_of(rows):
    """Reviews from (user, item, rating, time); the text tells them apart."""
    full = [(user, item, f"title {item}", float(stars), f"review {k}", t) for k, (user, item, stars, t) in rows]
    return pd.DataFrame(full, columns=list(REVIEW_COLUMNS))


def put(path, records):
    text = "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(folder, lines=LINES, items=ITEMS, suffix=".jsonl"):
    return sequences.read_ready(put(folder / f"s{suffix}", lines), put(folder / f"i{suffix}", items))


# Cases.


item_lists = st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=12, unique=True), min_size=1, max_size=8).map(
    lambda lists: {f"user {k}": [f"i{item}" for item in items] for k, items in enumerate(lists)}
)


@settings(max_examples=50, deadline=None)
@given(item_lists)
def test_the_history_of_a_case_is_all_that_comes_before_its_target_and_nothing_later(chosen):
    frame = frame_of(chosen)
    sequences.check_sequences(frame, "table", {f"i{k}" for k in range(31)})
    of_splits = [sequences.cases(frame, split) for split in SPLITS]
    for from_end, found in zip((3, 2, 1), of_splits):
        assert [case.user_id for case in found] == list(chosen)
        for case in found:
            items = chosen[case.user_id]
            place = items.index(case.target.item_id)
            assert place == len(items) - from_end
            assert [event.item_id for event in case.history] == items[:place] != []


def test_a_case_has_the_ratings_and_reviews_of_its_events_and_none_where_they_are_unknown():
    frame = frame_of({"u": list("abcde")}, ratings=[4.0, np.nan, 5.0, 4.5, 4.0], reviews=["", "b", "", "", "last"])
    (case,) = sequences.cases(frame, "valid")
    assert case == Case("u", (Event("a", 4.0, ""), Event("b", None, "b"), Event("c", 5.0, "")), Event("d", 4.5, ""))
    assert sequences.cases(frame, "test")[0].target == Event("e", 4.0, "last")


def test_numbers_are_places_in_the_catalogue_from_1():
    frame = frame_of({"u": list("bdac"), "v": list("acbd")})
    assert [found.tolist() for found in sequences.numbered(frame, list("abcd"))] == [[2, 4, 1, 3], [1, 3, 2, 4]]
    with pytest.raises(InputError, match="item d in row 1"):
        sequences.numbered(frame, list("abc"))


# From reviews.


review_rows = st.lists(
    st.tuples(
        st.sampled_from("uvw"), st.integers(0, 9).map(str), st.sampled_from([1.0, 3.0, 4.0, 5.0]), st.integers(0, 6)
    ),
    max_size=80,
)


@settings(max_examples=50, deadline=None)
@given(review_rows, st.integers(4, 6), st.integers(6, 9))
def test_sequences_of_reviews_are_what_a_plain_loop_finds(rows, shortest, longest):
    expected = {}
    for user, item, stars, _ in sorted(rows, key=lambda row: row[3]):
        if stars >= 4 and item not in expected.setdefault(user, []):
            expected[user].append(item)
    expected = {user: items[-longest:] for user, items in expected.items() if len(items) >= shortest}
    reviews = reviews_of(enumerate(rows))
    if not expected:
        with pytest.raises(InputError, match="--"):
            sequences.from_reviews(reviews, 4.0, shortest, longest)
        return
    found = sequences.from_reviews(reviews, 4.0, shortest, longest)
    sequences.check_sequences(found, "table")
    assert found.groupby("user_id")["item_id"].agg(list).to_dict() == expected
    for row in found.itertuples():
        user, item, stars, _ = rows[int(row.reviews.removeprefix("review "))]
        assert (user, item, stars) == (row.user_id, row.item_id, row.ratings)


def test_of_an_item_reviewed_twice_the_first_liking_counts_and_ties_keep_the_order_of_the_table():
    rows = [("u", "a", 2, 1), ("u", "b", 5, 3), ("u", "c", 4, 3), ("u", "d", 4, 2), ("u", "b", 4, 2), ("u", "a", 5, 9)]
    found = sequences.from_reviews(reviews_of(enumerate(rows)))
    assert found["item_id"].tolist() == ["d", "b", "c", "a"]
    assert found["reviews"].tolist() == ["review 3", "review 4", "review 2", "review 5"]


def test_where_no_user_is_left_the_option_to_change_is_named():
    rows = [("u", str(k), 4, k) for k in range(5)]
    with pytest.raises(InputError, match="--shortest 5"):
        sequences.from_reviews(reviews_of(enumerate(rows)), shortest=6)
    with pytest.raises(InputError, match="--least_rating"):
        sequences.from_reviews(reviews_of(enumerate(rows)), least_rating=4.5)
    for lengths in ({"shortest": 3}, {"shortest": 9, "longest": 8}):
        with pytest.raises(InputError, match="--shortest"):
            sequences.from_reviews(reviews_of(enumerate(rows)), **lengths)


# Ready files.


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_ready_files_become_tables_whose_ids_are_the_asins(tmp_path, suffix):
    frame, items = read(tmp_path, suffix=suffix)
    sequences.check_items(items, "items")
    sequences.check_sequences(frame, "sequences", set(items["item_id"]))
    assert frame.groupby("user_id", sort=False)["item_id"].agg(list).to_dict() == {
        "7": ["B1", "B2", "B3", "B4"],
        "b": ["B8", "B4", "B2", "B6", "B5"],
    }
    assert frame["ratings"].isna().all() and set(frame["reviews"]) == {""}
    assert list(items.columns) == list(ITEM_COLUMNS) and items["title"].tolist()[:3] == ["tea", "tea", "item 3"]


BAD_LINES = {
    '{"user": 1, "items": [1, 2': "no JSON object",
    "[1, 2, 3, 4]": "no JSON object",
    '{"items": [1, 2, 3, 4]}': "no user",
    '{"user": null, "items": [1, 2, 3, 4]}': "no user",
    '{"user": true, "items": [1, 2, 3, 4]}': "no user",
    '{"user": 1}': "no items",
    '{"user": 1, "items": "1,2,3,4"}': "no items",
    '{"user": 1, "items": [1, 2, 3]}': "3 items",
    '{"user": 1, "items": [1, 2, 99, 4]}': "item 99 is not in",
    '{"user": 1, "items": [1, 2, [3], 4]}': "a list is not in",
    '{"user": 1, "items": [1, 2, 3, "1"]}': "item 1 is there twice",
    '{"user": "7", "items": [1, 2, 3, 4]}': "user 7 has an earlier line",
    "[" * 100_000: "no JSON object",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:50])
def test_a_bad_line_of_sequences_is_named_by_file_and_number(tmp_path, line):
    with pytest.raises(InputError, match=r"s\.jsonl: line 4\b.*" + BAD_LINES[line]) as error:
        read(tmp_path, [*LINES, "", line])
    assert "\n" not in str(error.value) and len(str(error.value)) - 2 * len(str(tmp_path)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": 3}, "item_id 3 has an earlier line"),
        ({"asin": "B3"}, "asin B3 has an earlier line"),
        ({"asin": ""}, "no asin"),
        ({"item_id": 1.5}, "no item_id"),
        ({"title": ["tea"]}, "no title"),
        ({"details": {}}, "no details"),
    ],
)
def test_a_bad_line_of_items_is_named_by_file_and_number(tmp_path, change, message):
    with pytest.raises(InputError, match=r"i\.jsonl: line 9: " + message):
        read(tmp_path, items=[*ITEMS, ITEMS[0] | {"item_id": 9, "asin": "B9"} | change])


@pytest.mark.parametrize("name", ["item_id", "asin", "title", "description", "details"])
def test_a_key_that_is_missing_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"i\.jsonl: line 2: no {name}"):
        read(tmp_path, items=[ITEMS[0], {key: value for key, value in ITEMS[1].items() if key != name}])


def test_an_empty_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="nothing in it"):
        read(tmp_path, lines=["", " "])
    whole = gzip.compress("\n".join(map(json.dumps, ITEMS)).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "latin").write_bytes(b'{"item_id": 1, "asin": "\xe9"}')
    for name, message in (("cut.gz", "damaged"), ("latin", "line 1"), ("none", "no such file")):
        with pytest.raises(InputError, match=message):
            sequences.read_ready(tmp_path / "none", tmp_path / name)


# Tables.


GOOD = {"u": list("abcd"), "v": list("dcbae")}
BAD_TABLES = {
    "no column reviews": lambda f: f.drop(columns="reviews"),
    "the table is empty": lambda f: f[:0],
    "column item_id is empty": lambda f: f.assign(item_id=f["item_id"].where(f.index != 5)),
    "column user_id does not hold text": lambda f: f.assign(user_id=1),
    "column position does not hold whole": lambda f: f.assign(position=f["position"].astype(float)),
    "column ratings does not hold numbers": lambda f: f.assign(ratings="five"),
    "rating 0.5 in row 2": lambda f: f.assign(ratings=[4.0, 5.0, 0.5] + [4.0] * 6),
    "item a in row 8 stands": lambda f: f.assign(item_id=list("abcddcbaa")),
    "position 5 in row 8": lambda f: f.assign(position=[0, 1, 2, 3, 0, 1, 2, 3, 5]),
    "position 1 in row 0": lambda f: f.assign(position=[1, 2, 3, 4, 0, 1, 2, 3, 4]),
    "user u comes again in row 8": lambda f: f.assign(user_id=list("uuuuvvvvu")),
    "user u in row 0 has 3 items": lambda f: f.drop(index=3),
    "item e in row 8 is not in the catalogue": lambda f: f.assign(reviews="x"),
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_a_wrong_table_of_sequences_is_refused_by_file_column_and_row(message):
    with pytest.raises(InputError, match=f"^file: {message}"):
        sequences.check_sequences(BAD_TABLES[message](frame_of(GOOD)), "file", set("abcd"))
    sequences.check_sequences(frame_of(GOOD), "file", set("abcde"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item_id", ["a", "b", "a"], "item a in row 2 has an earlier row"),
        ("item_id", ["a", "", "c"], "column item_id is blank in row 1"),
        ("title", ["x", "y", None], "column title is empty"),
        ("details", ["x", None, ""], "column details is empty"),
        ("description", [1, 2, 3], "column description does not hold text"),
    ],
)
def test_a_wrong_catalogue_is_refused(column, values, message):
    good = pd.DataFrame({name: list("abc") for name in ITEM_COLUMNS})
    sequences.check_items(good.assign(title=["the same", "the same", ""], description=""), "file")
    with pytest.raises(InputError, match=f"^file: {message}"):
        sequences.check_items(good.assign(**{column: values}), "file")


@pytest.mark.skipif(not GROCERY.exists(), reason="needs the real sequences")
def test_the_real_sequences_are_read_and_their_cases_made_in_seconds():
    frame, items = sequences.read_ready(GROCERY / "sequences.jsonl.gz", GROCERY / "items.jsonl.gz")
    sequences.check_items(items, "items")
    sequences.check_sequences(frame, "sequences", set(items["item_id"]))
    assert len(items) == 6_149 and frame["user_id"].nunique() == 11_334
    begun = time.process_time()
    found = {split: sequences.cases(frame, split) for split in SPLITS}
    assert time.process_time() - begun < 10
    assert np.mean([len(case.history) for case in found["train"]]) == pytest.approx(6.67, abs=0.01)
    assert np.mean([len(case.history) for case in found["test"]]) == pytest.approx(8.67, abs=0.01)
