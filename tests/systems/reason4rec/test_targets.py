"""The targets of a trial: the few whose histories have been summarised, with the averages of all reviews."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.data import schema
from reason4rec.data.history import HistoryIndex
from reason4rec.errors import InputError
from reason4rec.systems.reason4rec import targets
from reason4rec.systems.reason4rec.artifacts import NOT_SUMMARISED, SUMMARY

reviews = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 40), st.sampled_from([1.0, 2.0, 4.0, 5.0]))


def frame_of(rows):
    return pd.DataFrame(
        [(f"u{u}", f"i{i}", f"title {i}", r, f"review {k}", t) for k, (u, i, t, r) in enumerate(rows)],
        columns=list(schema.REVIEW_COLUMNS),
    )


def summarised(frame, test, length, limit):
    """The reviews as step 1/4 leaves them with a limit."""
    shown = targets.shown_in_trial(frame, test, length, limit)
    return frame.assign(**{SUMMARY: NOT_SUMMARISED}).assign(
        **{SUMMARY: lambda f: f[SUMMARY].where(~f.index.isin(shown), "summary of " + f["reviews"])}
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(reviews, min_size=20, max_size=60), st.integers(1, 8), st.integers(0, 4), st.integers(0, 3), st.booleans()
)
def test_targets_and_test_rows_of_a_trial_had_shorter_histories_and_other_averages(rows, limit, length, seed, released):
    frame = frame_of(rows)
    train, test = frame.iloc[:-5], frame.iloc[-5:]
    table = summarised(train, test, length, limit)
    sampling = "released" if released else "one-draw"
    first, second, eligible = targets.draw(table, (20, 30), 5, limit, seed, sampling)
    assert eligible <= limit
    assert len(first) + len(second) == eligible
    asked = pd.concat([first, second, test])
    whole = HistoryIndex(train, "reviews", length).of_rows(asked)
    for trial, full in zip(targets.index_of(table, length).of_rows(asked), whole):
        assert [entry.text for entry in trial.user] == [f"summary of {entry.text}" for entry in full.user]
        assert [entry.text for entry in trial.item] == [f"summary of {entry.text}" for entry in full.item]
        assert (trial.user_average, trial.item_average) == (full.user_average, full.item_average)
    targets.check_summaries(table, pd.concat([first, second]), Path("summaries.pkl"))


def test_a_review_that_no_target_needs_is_in_no_history():
    frame = frame_of([(0, k % 3, k, 4.0) for k in range(12)] + [(1, k % 3, k, 2.0) for k in range(12)])
    table = frame.assign(**{SUMMARY: NOT_SUMMARISED})
    history = targets.index_of(table, 10).of("u0", "i0", 12)
    assert (history.user, history.item) == ((), ())
    assert (history.user_count, history.user_average) == (12, 4.0)


@pytest.mark.parametrize("limit", [None, 40])
def test_targets_beyond_the_trial_are_told_in_one_line(limit):
    frame = frame_of([(k % 7, k % 5, k, 4.0) for k in range(120)])
    table = summarised(frame, frame.iloc[:0], 2, 3)
    drawn = pd.concat(targets.draw(table, (20, 30), 5, limit, 0)[:2])
    with pytest.raises(InputError, match="summaries.pkl: .* targets have earlier reviews without a summary"):
        targets.check_summaries(table, drawn, Path("summaries.pkl"))


def test_only_targets_with_all_their_summaries_are_trained_on_further():
    frame = frame_of([(k % 7, k % 5, k, 4.0) for k in range(120)])
    table = summarised(frame, frame.iloc[:0], 3, 4)
    enough = targets.draw(table, (120, 0), 5, None, 0)[0]
    kept = targets.with_summaries(table, enough, 3)
    assert 4 <= len(kept) < len(enough)
    full = HistoryIndex(frame, "reviews", 3).of_rows(kept)
    for trial, whole in zip(targets.index_of(table, 3).of_rows(kept), full):
        assert (len(trial.user), len(trial.item)) == (len(whole.user), len(whole.item))
    assert targets.with_summaries(frame.assign(**{SUMMARY: "s"}), enough, 3) is enough


def test_a_trial_without_eligible_targets_lost_the_columns_of_its_rows():
    frame = frame_of([(k % 7, k % 5, k, 4.0) for k in range(20)]).assign(**{SUMMARY: NOT_SUMMARISED})
    kept = targets.with_summaries(frame, frame.head(0), 3)
    assert kept.empty and list(kept) == list(frame)
