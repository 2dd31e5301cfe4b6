"""From raw dumps to splits: every format is read, every broken line named; filter, window and split are the paper's."""

import gzip
import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec import artifacts, raw
from reason4rec.artifacts import REVIEW_COLUMNS
from reason4rec.errors import InputError
from reason4rec.history import HistoryIndex

REAL = Path(__file__).parents[2] / "shared" / "data"
INSTRUMENTS = REAL / "amazon_musical_instruments_2014" / "reviews_Musical_Instruments_5.json.gz"
MUSIC = REAL / "amazon_digital_music_2014_cut"

OLD = {"reviewerID": "u1", "asin": "i1", "overall": 4.0, "reviewText": "Fine.", "unixReviewTime": 1_400_000_000}
NEW = {
    "user_id": "u1",
    "asin": "variant",
    "parent_asin": "i1",
    "rating": 4.0,
    "title": "the review's own title",
    "text": "Fine.",
    "timestamp": 1_400_000_000_123,
}
YELP = {"user_id": "u1", "business_id": "i1", "stars": 4.0, "text": "Fine.", "date": "2014-05-13 16:53:20"}
EXPECTED = {"user_id": "u1", "item_id": "i1", "ratings": 4.0, "reviews": "Fine.", "unixReviewTime": 1_400_000_000}


def as_json(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_literals(records):
    return "".join(f"{record!r}\n" for record in records).encode()


def put(path, content):
    path.write_bytes(content)
    return path


def frame_of(rows):
    """Reviews (user, item, time) in file order; `reviews` tells them apart."""
    return pd.DataFrame(
        [(f"u{u}", f"i{i}", 4.0, f"review {k}", t) for k, (u, i, t) in enumerate(rows)],
        columns=["user_id", "item_id", "ratings", "reviews", "unixReviewTime"],
    )


@pytest.mark.parametrize("record", [OLD, NEW, YELP], ids=["2014", "2023", "yelp"])
@pytest.mark.parametrize("write", [as_json, as_literals])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["reviews.json", "reviews.json.gz"])
def test_a_review_is_read_from_every_format_whatever_the_file_is_called(tmp_path, record, write, pack, name):
    frame = raw.read_reviews(put(tmp_path / name, pack(write([record]))))
    assert frame.to_dict("records") == [EXPECTED]
    assert (frame["ratings"].dtype, frame["unixReviewTime"].dtype) == ("float64", "int64")


def test_reviews_of_2023_were_named_after_variants_that_have_no_title(tmp_path):
    """Each variant of an item has an `asin`; metadata is only by `parent_asin`."""
    reviews = raw.read_reviews(put(tmp_path / "reviews", as_json([NEW, {**NEW, "user_id": "u2", "asin": "other"}])))
    titles = raw.read_titles(put(tmp_path / "meta", as_json([{"parent_asin": "i1", "title": "Blue Hour"}])))
    assert raw.with_titles(reviews, titles)["title"].tolist() == ["Blue Hour", "Blue Hour"]


def test_a_review_without_text_is_kept_as_an_empty_one(tmp_path):
    bare = {name: value for name, value in OLD.items() if name != "reviewText"}
    frame = raw.read_reviews(put(tmp_path / "reviews", as_json([bare, {**OLD, "reviewText": None}])))
    assert frame["reviews"].tolist() == ["", ""]


def test_blank_lines_are_passed_over_and_a_limit_is_a_number_of_lines(tmp_path):
    path = put(tmp_path / "reviews", b"\n".join([as_json([{**OLD, "asin": f"i{k}"}]) for k in range(4)]))
    assert raw.read_reviews(path)["item_id"].tolist() == ["i0", "i1", "i2", "i3"]
    assert raw.read_reviews(path, limit=3)["item_id"].tolist() == ["i0", "i1"]


def message_of(read, path):
    with pytest.raises(InputError) as error:
        read(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "line", ["{half", "no record at all", "[1, 2]", '"text"', "{'a': __import__('os')}", "{{}: 1}", "[" * 100_000]
)
def test_a_broken_line_is_named_by_its_number(tmp_path, line):
    path = put(tmp_path / "reviews", as_json([OLD]) + b"\n" + f"{line}\n".encode() + as_json([OLD]))
    assert "line 3 is n" in message_of(raw.read_reviews, path)


@pytest.mark.parametrize("name", ["reviewerID", "asin", "overall", "unixReviewTime"])
@pytest.mark.parametrize("value", ["absent", None])
def test_a_review_without_a_needed_field_is_named_by_its_line(tmp_path, name, value):
    record = {**OLD, name: value}
    if value == "absent":
        del record[name]
    message = message_of(raw.read_reviews, put(tmp_path / "reviews", as_json([OLD, record])))
    assert "line 2" in message and name in message


@pytest.mark.parametrize("name, column", [("overall", "ratings"), ("unixReviewTime", "unixReviewTime")])
@pytest.mark.parametrize("value", ["many", "", float("nan"), float("inf"), 10**40, -(10**16), [1]])
def test_a_field_that_is_no_number_is_named(tmp_path, name, column, value):
    path = put(tmp_path / "reviews", as_json([OLD, {**OLD, name: value}]))
    message = message_of(raw.read_reviews, path)
    assert "review 2" in message and column in message


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(OLD.keys() | NEW.keys() | YELP.keys())), anything), st.booleans())
def test_whatever_a_record_holds_it_is_read_or_refused(tmp_path_factory, fields, complete):
    path = put(tmp_path_factory.mktemp("raw") / "reviews", as_json([{**OLD, **fields} if complete else fields]))
    try:
        frame = raw.read_reviews(path)
    except InputError:
        return
    assert list(frame.columns) == list(EXPECTED) and len(frame) == 1
    assert not frame.isna().any(axis=None)
    assert (frame["ratings"].dtype, frame["unixReviewTime"].dtype) == ("float64", "int64")


def test_a_gzipped_file_cut_off_at_any_byte_is_bad_input(tmp_path):
    whole = gzip.compress(as_json([OLD, {**OLD, "asin": "i2"}]), mtime=0)
    for length in range(len(whole)):
        message_of(raw.read_reviews, put(tmp_path / "reviews.gz", whole[:length]))


def test_a_gzipped_file_damaged_at_any_byte_is_bad_input_or_reads_as_before(tmp_path):
    whole = gzip.compress(as_json([OLD, {**OLD, "asin": "i2"}]), mtime=0)
    path = put(tmp_path / "reviews.gz", whole)
    before = raw.read_reviews(path)
    refused = 0
    for k in range(len(whole)):
        put(path, whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
        try:
            pd.testing.assert_frame_equal(raw.read_reviews(path), before)
        except InputError:
            refused += 1
    assert refused > len(whole) // 2


def test_a_missing_or_empty_dump_is_named(tmp_path):
    assert "0_Data/1_download.py" in message_of(raw.read_reviews, tmp_path / "absent.json.gz")
    assert "no reviews" in message_of(raw.read_reviews, put(tmp_path / "empty", b""))
    assert "no reviews" in message_of(raw.read_reviews, put(tmp_path / "packed", gzip.compress(b"\n")))


@pytest.mark.parametrize("write", [as_json, as_literals])
def test_titles_are_read_on_one_line_and_items_without_one_left_out(tmp_path, write):
    records = [
        {"asin": "i1", "title": "Blue\n  Hour "},
        {"asin": "i2"},
        {"asin": "i3", "title": "  "},
        {"asin": "i4", "title": None},
        {"parent_asin": "i5", "title": 'Don\'t "Go"'},
        {"business_id": "i6", "name": "Café"},
        {"title": "of nothing"},
    ]
    titles = raw.read_titles(put(tmp_path / "meta", gzip.compress(write(records))))
    assert titles == {"i1": "Blue Hour", "i5": 'Don\'t "Go"', "i6": "Café"}


def test_an_item_without_a_title_is_called_by_its_id():
    named = raw.with_titles(frame_of([(0, 1, 5), (0, 2, 6)]), {"i2": "Blue Hour"})
    assert list(named.columns) == list(REVIEW_COLUMNS)
    assert named["title"].tolist() == ["i1", "Blue Hour"]


def test_of_a_users_reviews_of_one_item_the_latest_stays_and_the_order_of_the_file():
    frame = frame_of([(0, 0, 9), (1, 0, 3), (0, 0, 4), (1, 1, 2), (1, 0, 3), (0, 0, 9)])
    assert raw.without_repeats(frame)["reviews"].tolist() == ["review 3", "review 4", "review 5"]


reviews = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(reviews)
def test_no_user_reviews_an_item_twice_after_repeats_are_resolved(rows):
    frame = frame_of(rows)
    kept = raw.without_repeats(frame)
    latest = {}
    for k, (u, i, t) in enumerate(rows):
        if t >= latest.get((u, i), (-1, 0))[0]:
            latest[u, i] = t, k
    assert kept["reviews"].tolist() == [f"review {k}" for k in sorted(k for _, k in latest.values())]


def core_one_at_a_time(frame, k):
    """The core, found by taking away a single review at a time."""
    while True:
        users, items = Counter(frame["user_id"]), Counter(frame["item_id"])
        poor = [n for n, (u, i) in enumerate(zip(frame["user_id"], frame["item_id"])) if min(users[u], items[i]) < k]
        if not poor:
            return frame
        frame = frame.drop(frame.index[poor[-1]])


@settings(max_examples=80, deadline=None)
@given(reviews, st.integers(1, 5))
def test_the_core_is_the_largest_fixed_point_in_which_all_have_k_reviews(rows, k):
    frame = frame_of(rows)
    core = raw.k_core(frame, k)
    assert core["reviews"].tolist() == core_one_at_a_time(frame, k)["reviews"].tolist()
    assert all(n >= k for column in ("user_id", "item_id") for n in core[column].value_counts())
    assert raw.k_core(core, k).equals(core)


def test_a_core_of_one_keeps_all():
    frame = frame_of([(0, 0, 1), (1, 1, 2)])
    assert raw.k_core(frame, 1).equals(frame)


def seconds(*date):
    return int(datetime(*date, tzinfo=UTC).timestamp())


def test_a_window_of_months_includes_its_first_second_and_the_last_review():
    times = [
        seconds(2014, 4, 30, 11, 59, 59),
        seconds(2014, 4, 30, 12),
        seconds(2014, 5, 1),
        seconds(2014, 6, 30, 12),
    ]
    frame = frame_of([(k, k, t) for k, t in enumerate(times)])
    assert raw.last_months(frame, 2)["unixReviewTime"].tolist() == times[1:]
    assert raw.last_months(frame, None).equals(frame)
    assert raw.last_months(frame.head(0), 2).empty


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=60))
def test_the_split_is_by_time_complete_disjoint_and_never_divides_a_second(rows):
    frame = frame_of(rows).assign(title="A title")
    times = sorted(frame["unixReviewTime"])
    # The first n * 8 // 10 reviews are train, and so is every review of the same second as the last of them.
    ends = [sum(t <= times[max(0, len(times) * share // 10 - 1)] for t in times) for share in (8, 9)]
    sizes = [ends[0], ends[1] - ends[0], len(times) - ends[1]]
    if not all(sizes):
        with pytest.raises(InputError, match="split would be empty"):
            raw.split(frame)
        return
    train, valid, test = parts = raw.split(frame)
    assert [len(part) for part in parts] == sizes
    assert sorted(pd.concat(parts)["reviews"]) == sorted(frame["reviews"])
    assert train["unixReviewTime"].max() < valid["unixReviewTime"].min()
    assert valid["unixReviewTime"].max() < test["unixReviewTime"].min()
    assert all(part["unixReviewTime"].is_monotonic_increasing and part.index[0] == 0 for part in parts)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 200), st.randoms(use_true_random=False))
def test_reviews_at_different_times_are_split_eight_to_one_to_one(n, random):
    times = random.sample(range(10_000), n)
    train, valid, test = raw.split(frame_of([(k, k, t) for k, t in enumerate(times)]))
    assert [len(train), len(valid), len(test)] == [n * 8 // 10, n * 9 // 10 - n * 8 // 10, n - n * 9 // 10]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=12, max_size=40), st.randoms())
def test_the_split_does_not_depend_on_the_order_of_the_file(rows, random):
    frame = frame_of([(k, i, t) for k, (i, t) in enumerate(rows)])
    shuffled = frame.sample(frac=1, random_state=random.randrange(2**32))
    try:
        expected = raw.split(frame)
    except InputError:
        with pytest.raises(InputError):
            raw.split(shuffled)
        return
    for one, other in zip(expected, raw.split(shuffled)):
        pd.testing.assert_frame_equal(one, other)


def test_the_core_filter_comes_before_the_window_unless_asked_otherwise():
    """The window alone leaves nobody with two reviews, so a filter after it leaves nothing."""
    years = 10 * 365 * 86_400
    frame = frame_of([(u, i, u + years * (i == u % 3)) for u in range(12) for i in range(3)])
    windowed = raw.last_months(frame, 2)
    assert windowed["user_id"].value_counts().max() == 1
    assert raw.k_core(windowed, 3).empty
    train, valid, test = raw.preprocess(frame, {}, core=3, months=2, where="toy")
    assert sorted(pd.concat([train, valid, test])["reviews"]) == sorted(windowed["reviews"])
    with pytest.raises(InputError, match="no review is left"):
        raw.preprocess(frame, {}, core=3, months=2, where="toy", window_first=True)


def test_too_strict_a_core_and_a_rating_outside_the_scale_are_named_with_their_source():
    frame = frame_of([(k, k, k) for k in range(20)])
    with pytest.raises(InputError, match=r"dump\.json: no review is left after the 5-core filter"):
        raw.preprocess(frame, {}, core=5, months=None, where="dump.json")
    with pytest.raises(InputError, match=r"dump\.json: rating 9\.0"):
        raw.preprocess(frame.assign(ratings=9.0), {}, core=1, months=None, where="dump.json")


@pytest.mark.skipif(not INSTRUMENTS.is_file(), reason="real reviews are not at hand")
def test_a_real_five_core_dump_passes_the_filter_unchanged_and_is_split(tmp_path):
    reviews = raw.read_reviews(INSTRUMENTS)
    assert (len(reviews), reviews["user_id"].nunique(), reviews["item_id"].nunique()) == (10_261, 1_429, 900)
    assert raw.k_core(raw.without_repeats(reviews), 5).equals(reviews)
    train, valid, test = raw.preprocess(reviews, {}, core=5, months=None, where=INSTRUMENTS.name)
    for part in (train, valid, test):
        artifacts.check_frame(part, REVIEW_COLUMNS, "part")
    assert len(train) + len(valid) + len(test) == 10_261
    assert 0 <= len(train) - 10_261 * 8 // 10 < 50 and 0 <= 10_261 - 10_261 * 9 // 10 - len(test) < 50
    assert train["unixReviewTime"].max() < valid["unixReviewTime"].min() < test["unixReviewTime"].min()
    warm = [history.warm for history in HistoryIndex(train, None).of_rows(test)]
    assert 0 < sum(warm) < len(test)
    with gzip.open(INSTRUMENTS) as packed, (tmp_path / "plain.json.gz").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    assert raw.read_reviews(tmp_path / "plain.json.gz").equals(reviews)


@pytest.mark.skipif(not MUSIC.is_dir(), reason="real reviews are not at hand")
def test_real_metadata_in_python_literals_has_a_title_for_every_item():
    reviews = raw.read_reviews(MUSIC / "reviews_Digital_Music_5.json.gz")
    titles = raw.read_titles(MUSIC / "meta_Digital_Music.json.gz")
    assert (len(reviews), reviews["user_id"].nunique(), reviews["item_id"].nunique()) == (6_908, 2_490, 382)
    named = raw.with_titles(reviews, titles)
    assert (named["title"] != named["item_id"]).all()
    assert titles["5555991584"] == "Memory of Trees"
