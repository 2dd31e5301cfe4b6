"""Histories: never the future, the right entries in the right order, and what a cold target reads."""

import numpy as np
import pandas as pd
import pytest
from helpers import run_script
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import schema
from reason4rec.data.history import History, HistoryIndex
from reason4rec.run import files
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, REWARD_TARGETS, SUMMARIES, SUMMARY

NO_ONE = History(user=(), item=(), user_average=None, item_average=None)

reviews = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.sampled_from([1.0, 2.5, 4.0, 5.0]))
targets = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-1, 8))


def frame_of(rows):
    """Reviews in the given order under labels that are not their positions; `reviews` tells them apart."""
    return pd.DataFrame(
        [(f"u{u}", f"i{i}", f"title {i}", r, f"review {k}", t) for k, (u, i, t, r) in enumerate(rows)],
        columns=list(schema.REVIEW_COLUMNS),
        index=[100 + 3 * k for k in range(len(rows))],
    )


def scan(frame, user_id, item_id, before, length):
    """What the history must be, from a scan of all rows: entries as texts, averages, counts."""
    earlier = sorted((r for r in frame.to_dict("records") if r["unixReviewTime"] < before), key=time_of)
    by_user = [r for r in earlier if r["user_id"] == user_id]
    of_item = [r for r in earlier if r["item_id"] == item_id]
    by_others = [r for r in of_item if r["user_id"] != user_id]

    def last(rows):
        return [(r["title"], r["ratings"], r["reviews"]) for r in rows][max(0, len(rows) - length) :]

    def average(rows):
        return sum(r["ratings"] for r in rows) / len(rows) if rows else None

    return last(by_user), last(by_others), average(by_user), average(of_item), len(by_user), len(of_item)


def time_of(row):
    return row["unixReviewTime"]


def entries(side):
    return [(e.title, e.rating, e.text) for e in side]


@settings(max_examples=150, deadline=None)
@given(st.lists(reviews, min_size=1, max_size=30), targets, st.integers(0, 4))
def test_a_history_equals_a_scan_of_all_rows(rows, target, length):
    frame = frame_of(rows)
    user_id, item_id, before = f"u{target[0]}", f"i{target[1]}", target[2]
    history = HistoryIndex(frame, "reviews", length).of(user_id, item_id, before)
    user, item, user_average, item_average, user_count, item_count = scan(frame, user_id, item_id, before, length)
    assert entries(history.user) == user
    assert entries(history.item) == item
    assert history.user_average == pytest.approx(user_average)
    assert history.item_average == pytest.approx(item_average)
    assert (history.user_count, history.item_count) == (user_count, item_count)


@settings(max_examples=100, deadline=None)
@given(st.lists(reviews, min_size=1, max_size=30))
def test_no_entry_is_at_or_after_the_time_of_its_target(rows):
    frame = frame_of(rows)
    times = frame.set_index("reviews")["unixReviewTime"]
    for history, before in zip(HistoryIndex(frame, "reviews").of_rows(frame), frame["unixReviewTime"]):
        assert all(times[e.text] < before for e in (*history.user, *history.item))


@settings(max_examples=100, deadline=None)
@given(st.lists(reviews, min_size=1, max_size=30))
def test_the_entries_of_an_item_are_never_by_the_user_himself(rows):
    frame = frame_of(rows)
    author = frame.set_index("reviews")["user_id"]
    for history, user_id in zip(HistoryIndex(frame, "reviews").of_rows(frame), frame["user_id"]):
        assert all(author[e.text] != user_id for e in history.item)
        assert all(author[e.text] == user_id for e in history.user)


@settings(max_examples=60, deadline=None)
@given(st.lists(reviews, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_matters_to_nothing_but_ties(rows, random):
    distinct = [(u, i, k, r) for k, (u, i, _, r) in enumerate(rows)]
    frame = frame_of(distinct)
    shuffled = frame.sample(frac=1, random_state=random.randrange(2**32))
    assert HistoryIndex(shuffled, "reviews").of_rows(frame) == HistoryIndex(frame, "reviews").of_rows(frame)


def test_reviews_of_one_second_keep_the_order_of_the_frame():
    frame = frame_of([(0, 2, 5, 1.0), (0, 1, 5, 2.5), (0, 0, 4, 4.0)])
    history = HistoryIndex(frame, "reviews").of("u0", "i9", 6)
    assert [e.text for e in history.user] == ["review 2", "review 0", "review 1"]


def test_a_review_of_the_same_second_is_not_earlier():
    frame = frame_of([(0, 0, 5, 1.0), (1, 0, 5, 1.0)])
    assert HistoryIndex(frame, "reviews").of("u0", "i0", 5) == NO_ONE


def test_averages_are_over_all_earlier_ratings_and_not_only_over_those_shown():
    frame = frame_of([(0, k % 4, k, 5.0 if k < 6 else 1.0) for k in range(8)])
    history = HistoryIndex(frame, "reviews", length=2).of("u0", "i0", 8)
    assert [e.rating for e in history.user] == [1.0, 1.0]
    assert history.user_average == 4.0


def test_the_average_of_an_item_counts_the_users_own_earlier_rating_that_its_entries_leave_out():
    frame = frame_of([(0, 0, 1, 1.0), (1, 0, 2, 4.0)])
    history = HistoryIndex(frame, "reviews").of("u0", "i0", 3)
    assert [e.text for e in history.item] == ["review 1"]
    assert (history.item_average, history.item_count) == (2.5, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]), min_size=1, max_size=300))
def test_averages_of_stars_and_half_stars_are_numpys_mean_to_the_last_bit(ratings):
    frame = frame_of([(0, 0, k, rating) for k, rating in enumerate(ratings)])
    for n, history in enumerate(HistoryIndex(frame, "reviews").of_rows(frame.iloc[1:]), start=1):
        assert history.user_average == history.item_average == np.mean(ratings[:n])


def test_a_history_without_a_text_column_still_has_averages_and_counts():
    history = HistoryIndex(frame_of([(0, 0, 1, 4.0)]), None).of("u0", "i0", 2)
    assert (history.user_average, history.user_count, history.item_average, history.item_count) == (4.0, 1, 4.0, 1)


@pytest.mark.parametrize("target", [("u9", "i0"), ("u0", "i9"), ("u9", "i9")])
def test_a_cold_user_or_item_reads_unknown_and_never_nan(target):
    index = HistoryIndex(frame_of([(0, 0, 1, 4.0), (1, 1, 2, 5.0)]), "reviews")
    history = index.of(*target, 9)
    assert (history.user_average is None) == (target[0] == "u9")
    assert (history.item_average is None) == (target[1] == "i9")
    text = prompts.predictor("Album", "A title", history).text
    assert "nan" not in text.lower()
    assert ("Average rating given by the user: unknown" in text) == (target[0] == "u9")
    assert ("Average rating received by the item: unknown" in text) == (target[1] == "i9")


@pytest.mark.parametrize(
    "user_count, item_count, warm",
    [(0, 0, False), (0, 9, False), (9, 0, False), (1, 1, False), (2, 2, False), (1, 4, True), (4, 1, True)],
)
def test_a_target_is_warm_with_a_review_on_either_side_and_five_in_all(user_count, item_count, warm):
    history = History((), (), None, None, user_count, item_count)
    assert history.warm is warm
    assert history.is_at_least(2) is (min(user_count, item_count) >= 1)


def test_targets_with_fewer_than_five_earlier_reviews_are_not_drawn(tmp_path):
    """The released code computes this filter and overwrites its result on the next line."""
    rows = [(k % 6, k % 5, k, 4.0) for k in range(60)]
    frame = frame_of(rows).assign(**{SUMMARY: "Positive Aspects: x"}).reset_index(drop=True)
    files.write_pickle(tmp_path / "data" / "Demo_data" / SUMMARIES.path, frame)
    done = run_script("2_Reasoner/1_sample_train_data.py", "--dataset", "Demo_data", "--data_root", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    drawn = [schema.read(tmp_path / "data" / "Demo_data", one) for one in (REWARD_TARGETS, REASON_TARGETS)]
    index, both = HistoryIndex(frame, None), pd.concat(drawn)
    few = [h for h in index.of_rows(frame) if h.is_at_least(2) and not h.is_at_least(5)]
    assert few
    assert all(h.is_at_least(5) for h in index.of_rows(both))
    assert len(both) == both["reviews"].nunique() == sum(h.is_at_least(5) for h in index.of_rows(frame))


@settings(max_examples=100, deadline=None)
@given(st.lists(reviews, min_size=1, max_size=30), st.lists(targets, max_size=3), st.integers(0, 4))
def test_rows_shown_are_exactly_those_whose_texts_the_histories_show(rows, asked, length):
    frame = frame_of(rows)
    wanted = pd.DataFrame(
        [(f"u{u}", f"i{i}", t) for u, i, t in asked], columns=["user_id", "item_id", "unixReviewTime"]
    )
    index = HistoryIndex(frame, "reviews", length)
    texts = {e.text for history in index.of_rows(wanted) for e in (*history.user, *history.item)}
    assert index.rows_shown(wanted) == [label for label in frame.index if frame.at[label, "reviews"] in texts]


def test_rows_shown_missed_a_review_where_the_user_had_reviewed_the_item_before():
    frame = frame_of([(1, 0, 1, 4.0), (0, 0, 2, 5.0)])
    index = HistoryIndex(frame, "reviews", length=1)
    assert [e.text for e in index.of("u0", "i0", 3).item] == ["review 0"]
    assert index.rows_shown(pd.DataFrame({"user_id": ["u0"], "item_id": ["i0"], "unixReviewTime": [3]})) == [100, 103]


def test_a_history_length_of_zero_shows_nothing_where_it_showed_everything():
    history = HistoryIndex(frame_of([(0, 0, 1, 4.0), (1, 0, 2, 5.0)]), "reviews", length=0).of("u0", "i0", 3)
    assert (history.user, history.item) == ((), ())
    assert (history.user_average, history.item_average) == (4.0, 4.5)


def test_a_lookup_went_through_all_reviews_of_a_popular_item():
    class Counted(list):
        looked_at = 0

        def __getitem__(self, key):
            self.looked_at += 1
            return super().__getitem__(key)

    index = HistoryIndex(frame_of([(t % 2_000, 0, t, 4.0) for t in range(4_000)]), "reviews")
    index.users = Counted(index.users)
    history = index.of("u1999", "i0", 4_000)
    assert (len(history.item), history.item_count) == (10, 4_000)
    assert index.users.looked_at <= 12
