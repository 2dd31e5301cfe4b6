"""Errors and baselines against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.evaluation import metrics

NAN, INF = float("nan"), float("inf")

rated = st.lists(st.tuples(st.integers(1, 5).map(float), st.floats(1, 5)), min_size=1, max_size=20)


def rows_of(*rows):
    return pd.DataFrame(rows, columns=["user_id", "item_id", "ratings"])


@pytest.mark.parametrize(
    "probabilities, rating",
    [([1, 0, 0, 0, 0], 1.0), ([0, 0, 0, 0, 1], 5.0), ([0.2] * 5, 3.0), ([0, 0, 0.5, 0.25, 0.25], 3.75)],
)
def test_the_expected_rating_weights_the_ratings_by_their_probabilities(probabilities, rating):
    assert metrics.expected_rating(np.array([probabilities])) == pytest.approx([rating])


@pytest.mark.parametrize(
    "probabilities, rating",
    [
        ([1, 0, 0, 0, 0], 1.0),
        ([0, 0, 0, 0, 1], 5.0),
        ([0.2] * 5, 3.0),
        ([0, 0, 0, 0.5, 0.5], 4.0),  # just reached
        ([0, 0, 0, 0.499, 0.501], 5.0),
        ([0.3, 0, 0, 0, 0.7], 5.0),
        ([0.2, 0.2, 0.0999, 0, 0.4999], 3.0),  # they sum to a little less than 1, as written files may
    ],
)
def test_the_median_is_the_least_rating_whose_cumulative_probability_reaches_a_half(probabilities, rating):
    assert metrics.median_rating(np.array([probabilities])).tolist() == [rating]


def test_a_row_without_probabilities_has_no_median():
    rows = np.array([[NAN] * 5, [0.1, NAN, 0.5, 0.2, 0.2], [0.2] * 5])
    assert np.isnan(metrics.median_rating(rows)).tolist() == [True, True, False]


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5).map(np.array).map(lambda drawn: drawn / drawn.sum()))
def test_no_rating_has_a_lower_expected_absolute_error_than_the_median_nor_squared_than_the_expectation(probabilities):
    (median,), (mean,) = (rule(probabilities[None]) for rule in (metrics.median_rating, metrics.expected_rating))
    off = metrics.RATING_VALUES - np.array([median, mean, *metrics.RATING_VALUES])[:, None]
    absolute, squared = np.abs(off) @ probabilities, off**2 @ probabilities
    assert absolute[0] <= absolute.min() + 1e-9
    assert squared[1] <= squared.min() + 1e-9


def test_errors_of_a_worked_example():
    assert metrics.errors([5, 3, 1, 4], [4, 3, 3, 4]) == {
        "n": 4,
        "unusable": 0,
        "mae": pytest.approx(3 / 4),
        "rmse": pytest.approx((5 / 4) ** 0.5),
        "mae_usable": pytest.approx(3 / 4),
        "rmse_usable": pytest.approx((5 / 4) ** 0.5),
    }


def test_perfect_predictions_have_no_error():
    found = metrics.errors([1, 5], [1, 5])
    assert (found["mae"], found["rmse"]) == (0.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(rated)
def test_mae_and_rmse_follow_their_definitions(pairs):
    differences = [abs(rating - predicted) for rating, predicted in pairs]
    found = metrics.errors(*zip(*pairs))
    assert found["n"] == len(pairs)
    assert found["mae"] == pytest.approx(sum(differences) / len(pairs))
    assert found["rmse"] == pytest.approx((sum(d * d for d in differences) / len(pairs)) ** 0.5)
    assert found["mae"] <= found["rmse"] + 1e-12


@pytest.mark.parametrize("rating, largest", [(1, 4.0), (2, 3.0), (3, 2.0), (4, 3.0), (5, 4.0)])
@pytest.mark.parametrize("unusable", [NAN, INF, -INF])
def test_an_unusable_prediction_counts_with_the_largest_error_that_its_rating_allows(rating, largest, unusable):
    counted = {"n": 1, "unusable": 1, "mae": largest, "rmse": largest}
    assert metrics.errors([rating], [unusable]) == counted | {"mae_usable": None, "rmse_usable": None}
    assert metrics.row_errors(np.array([rating]), np.array([unusable])) == [largest]


def test_an_unusable_prediction_stays_in_n():
    """Evaluations elsewhere in the field count an answer that cannot be read as no error."""
    found = metrics.errors([5.0, 4.0, 3.0], [5.0, NAN, 3.0])
    assert (found["n"], found["unusable"]) == (3, 1)
    assert found["mae"] == pytest.approx(1.0)
    assert found["rmse"] == pytest.approx(3**0.5)


def test_the_other_reading_leaves_unusable_predictions_out():
    found = metrics.errors([5.0, 4.0, 3.0], [4.0, NAN, 3.0])
    assert found["mae_usable"] == pytest.approx(1 / 2)
    assert found["rmse_usable"] == pytest.approx(0.5**0.5)


@settings(max_examples=100, deadline=None)
@given(rated, st.data())
def test_giving_no_answer_never_improves_a_result(pairs, data):
    ratings, predictions = map(list, zip(*pairs))
    silent = data.draw(st.lists(st.integers(0, len(pairs) - 1), unique=True))
    before = metrics.errors(ratings, predictions)
    for k in silent:
        predictions[k] = NAN
    after = metrics.errors(ratings, predictions)
    assert (after["n"], after["unusable"]) == (len(pairs), len(silent))
    assert after["mae"] >= before["mae"] - 1e-12 and after["rmse"] >= before["rmse"] - 1e-12


def test_no_rows_have_no_errors():
    found = metrics.errors([], [])
    assert (found["n"], found["unusable"]) == (0, 0)
    assert found["mae"] is None and found["rmse"] is None


def test_baselines_of_a_worked_example_with_cold_users_and_items():
    # Global mean 4. Item biases, damped by 5: a (1 + 0) / 7, b -1 / 6. What is left of u1: 6 / 7 - 5 / 6 = 1 / 42,
    # over 2 + 5; of u2: -1 / 7, over 1 + 5.
    train = rows_of(("u1", "a", 5.0), ("u1", "b", 3.0), ("u2", "a", 4.0))
    targets = rows_of(("u1", "a", 1.0), ("u2", "b", 1.0), ("new", "a", 1.0), ("u1", "new", 1.0), ("new", "new", 1.0))
    a, b, u1, u2 = 1 / 7, -1 / 6, 1 / 42 / 7, -1 / 7 / 6
    expected = {
        "global mean": [4.0] * 5,
        "global median": [4.0] * 5,
        "user mean": [4.0, 4.0, 4.0, 4.0, 4.0],
        "item mean": [4.5, 3.0, 4.5, 4.0, 4.0],
        metrics.DAMPED_BIAS: [4 + a + u1, 4 + b + u2, 4 + a, 4 + u1, 4.0],
    }
    found = metrics.baselines(train, targets)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values), name


def test_the_user_mean_is_the_users_own_and_the_global_one_for_a_cold_user():
    train = rows_of(("u1", "a", 5.0), ("u1", "b", 4.0), ("u2", "a", 1.0), ("u2", "b", 2.0))
    found = metrics.baselines(train, rows_of(("u1", "z", 1.0), ("u2", "z", 1.0), ("new", "a", 1.0)))
    assert found["user mean"] == pytest.approx([4.5, 1.5, 3.0])
    assert found["item mean"] == pytest.approx([3.0, 3.0, 3.0])


def test_biases_do_not_leave_the_scale():
    train = rows_of(*[("high", f"a{k}", 5.0) for k in range(40)], *[("low", f"b{k}", 1.0) for k in range(40)])
    train = pd.concat([train, rows_of(*[(f"u{k}", "a0", 5.0) for k in range(40)])])
    found = metrics.baselines(train, rows_of(("high", "a0", 5.0), ("low", "b0", 1.0)))[metrics.DAMPED_BIAS]
    assert found[0] == 5.0 and found[1] >= 1.0


review = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5).map(float))


@settings(max_examples=60, deadline=None)
@given(st.lists(review, min_size=1, max_size=20), st.lists(review, min_size=1, max_size=8))
def test_baselines_never_read_the_ratings_of_the_targets_and_stay_on_the_scale(train, targets):
    train, targets = rows_of(*train), rows_of(*targets)
    found = metrics.baselines(train, targets)
    blind = metrics.baselines(train, targets.assign(ratings=NAN))
    for name, values in found.items():
        assert len(values) == len(targets)
        assert ((values >= 1) & (values <= 5)).all(), name
        assert values == pytest.approx(blind[name])
