"""Errors and baselines against numbers worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import run_script
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec import artifacts, metrics

KEYS = {"model", "rows", "n", "unusable", "mae", "rmse"}
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


def test_errors_of_a_worked_example():
    assert metrics.errors([5, 3, 1, 4], [4, 3, 3, 4]) == {
        "n": 4,
        "unusable": 0,
        "mae": pytest.approx(3 / 4),
        "rmse": pytest.approx((5 / 4) ** 0.5),
    }


def test_perfect_predictions_have_no_error():
    assert metrics.errors([1, 5], [1, 5]) == {"n": 2, "unusable": 0, "mae": 0.0, "rmse": 0.0}


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
    assert metrics.errors([rating], [unusable]) == {"n": 1, "unusable": 1, "mae": largest, "rmse": largest}


def test_an_unusable_prediction_stays_in_n():
    """Evaluations elsewhere in the field count an answer that cannot be read as no error."""
    found = metrics.errors([5.0, 4.0, 3.0], [5.0, NAN, 3.0])
    assert (found["n"], found["unusable"]) == (3, 1)
    assert found["mae"] == pytest.approx(1.0)
    assert found["rmse"] == pytest.approx(3**0.5)


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
        "user mean": [4.0, 4.0, 4.0, 4.0, 4.0],
        "item mean": [4.5, 3.0, 4.5, 4.0, 4.0],
        "user + item bias": [4 + a + u1, 4 + b + u2, 4 + a, 4 + u1, 4.0],
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
    found = metrics.baselines(train, rows_of(("high", "a0", 5.0), ("low", "b0", 1.0)))["user + item bias"]
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


def test_a_table_has_every_model_on_all_and_on_warm_rows():
    ratings, warm = np.array([5.0, 1.0, 3.0]), [True, False, True]
    table = metrics.table({"ours": np.array([5.0, NAN, 2.0]), "three": np.full(3, 3.0)}, ratings, warm)
    assert all(set(row) == KEYS for row in table)
    assert [(row["model"], row["rows"], row["n"], row["unusable"]) for row in table] == [
        ("ours", "all", 3, 1),
        ("three", "all", 3, 0),
        ("ours", "warm", 2, 0),
        ("three", "warm", 2, 0),
    ]
    assert [row["mae"] for row in table] == pytest.approx([5 / 3, 4 / 3, 1 / 2, 1.0])
    assert table[2]["rmse"] == pytest.approx(0.5**0.5)


def test_a_table_as_text_shows_every_row_and_number():
    table = metrics.table({"ours": np.array([4.0, NAN])}, np.array([5.0, 1.0]), [True, False])
    lines = metrics.as_text(table).splitlines()
    assert lines[0].split() == ["model", "rows", "n", "unusable", "MAE", "RMSE"]
    assert [line.split() for line in lines[1:]] == [
        ["ours", "all", "2", "1", "2.5000", "2.9155"],
        ["ours", "warm", "1", "0", "1.0000", "1.0000"],
    ]


def test_the_last_script_reports_mae_and_rmse_which_the_released_code_never_computes(tmp_path):
    def split(times, ratings):
        n = len(times)
        return pd.DataFrame(
            {
                "user_id": [f"u{k % 2}" for k in range(n)],
                "item_id": [f"i{k}" for k in range(n)],
                "title": "A title",
                "ratings": ratings,
                "reviews": "A review.",
                "unixReviewTime": times,
            }
        )

    folder = tmp_path / "Demo_data"
    train, test = split(range(6), [5.0, 3.0, 5.0, 3.0, 5.0, 3.0]), split([10, 11, 12], [5.0, 4.0, 1.0])
    rated = test.assign(reasoner_reply="A reason.", pred=[4.0, 4.0, NAN])
    for artifact, frame in ((artifacts.TRAIN, train), (artifacts.TEST, test), (artifacts.TEST_RATINGS, rated)):
        artifacts.write_pickle(folder / artifact.path, frame)
    roots = ["--data_root", tmp_path, "--checkpoint_root", tmp_path / "checkpoints"]
    done = run_script("3_Predictor/4_evaluate.py", "--dataset", "Demo_data", *roots)
    assert done.returncode == 0, done.stderr
    table = json.loads((folder / artifacts.METRICS.path).read_text(encoding="utf-8"))
    assert all(set(row) == KEYS for row in table)
    ours = next(row for row in table if row["rows"] == "all" and row["model"].startswith("Reason4Rec"))
    assert (ours["n"], ours["unusable"]) == (3, 1)
    assert ours["mae"] == pytest.approx(5 / 3) and ours["rmse"] == pytest.approx((17 / 3) ** 0.5)
    mean = next(row for row in table if row["rows"] == "all" and row["model"] == "global mean")
    assert mean["mae"] == pytest.approx((1 + 0 + 3) / 3)
    assert metrics.as_text(table) in done.stdout
