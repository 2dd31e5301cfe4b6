"""Intervals, paired tests and comparisons against known answers and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from reason4rec.evaluation.statistics import compare, holm, intervals, paired_p

# Intervals.


def by_users(rng, rows=60, users=30, share=0.5):
    """Users and (1, rows) absolute errors of which a share is the user's own; their expectation."""
    of_user = rng.gamma(2.0, 0.3, users)
    drawn = rng.choice(users, rows, p=np.arange(1, users + 1) / np.arange(1, users + 1).sum())
    errors = (1 - share) * np.abs(rng.normal(size=rows)) + share * of_user[drawn]
    expected = (1 - share) * (2 / np.pi) ** 0.5 + share * 0.6
    return np.unique(drawn, return_inverse=True)[1], errors[None], expected


def test_the_interval_covers_the_true_error_in_95_of_100_data_sets_only_if_users_are_drawn_whole():
    rng, n = np.random.default_rng(1), 300
    covered = {"users": 0, "rows": 0}
    for k in range(n):
        users, errors, expected = by_users(rng)
        for name, drawn in (("users", users), ("rows", np.arange(60))):
            low, high = intervals([errors], drawn, k, resamples=299)[0, :, 0]
            covered[name] += low <= expected <= high
    assert 0.90 <= covered["users"] / n <= 0.99
    assert covered["rows"] / n < 0.90


def test_the_interval_of_a_difference_covers_it():
    rng, n, covered = np.random.default_rng(2), 300, 0
    for k in range(n):
        users, errors, _ = by_users(rng)
        worse = errors + 0.2 + rng.normal(0, 0.4, users.max() + 1)[users] + rng.normal(0, 0.3, 60)
        low, high = intervals([errors, worse], users, k, resamples=299)[1, :, 1]
        covered += low <= 0.2 <= high
    assert 0.90 <= covered / n <= 0.99


def test_with_one_row_a_user_the_interval_is_the_plain_bootstraps():
    errors = np.random.default_rng(3).gamma(2.0, 0.3, 200)
    plain = bootstrap((errors,), np.mean, n_resamples=9_999, method="percentile", rng=5).confidence_interval
    found = intervals([errors[None]], np.arange(200), 4)
    assert found[0, :, 0].astype(float) == pytest.approx([plain.low, plain.high], abs=0.01)
    squares = bootstrap((errors**2,), np.mean, n_resamples=9_999, method="percentile", rng=5).confidence_interval
    found = intervals([errors[None] ** 2], np.arange(200), 4, aggregate=np.sqrt)
    assert found[0, :, 0].astype(float) == pytest.approx(np.sqrt([squares.low, squares.high]), abs=0.01)


def test_the_interval_of_two_users_is_between_their_errors():
    # Drawn are one of them twice, with probability 1/4 each, or both: 1 + 1 + 1 over 3 rows, or 1 and 0.
    found = intervals([np.array([[1.0, 1.0, 0.0]])], np.array([0, 0, 1]), 1, resamples=999)
    assert found[0, :, 0].tolist() == [0.0, 1.0]


def test_the_interval_is_the_same_for_the_same_seed_and_none_for_a_single_user():
    errors = [np.random.default_rng(4).random((2, 40)), np.random.default_rng(5).random((1, 40))]
    users = np.arange(40) % 17
    first, again, other = (intervals(errors, users, seed, resamples=199) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert first[1, :, 0].tolist() == [0.0, 0.0]
    assert intervals(errors, np.zeros(40, dtype=int), 1).tolist() == [[[None] * 2] * 2] * 2


# The paired test.


def test_the_paired_test_keeps_its_level_only_if_users_are_swapped_whole():
    rng, n = np.random.default_rng(6), 300
    rejected = {"users": 0, "rows": 0}
    for k in range(n):
        users, errors, _ = by_users(rng)
        equal = errors + rng.normal(0, 0.4, users.max() + 1)[users] + rng.normal(0, 0.3, 60)
        for name, swapped in (("users", users), ("rows", np.arange(60))):
            rejected[name] += paired_p(equal, errors, swapped, k, resamples=299) < 0.05
    assert 0.02 <= rejected["users"] / n <= 0.09
    assert rejected["rows"] / n > 0.09


def test_the_paired_test_finds_a_difference_that_is_there():
    rng, n, found = np.random.default_rng(7), 60, 0
    for k in range(n):
        users, errors, _ = by_users(rng)
        found += paired_p(errors + 0.2 + rng.normal(0, 0.3, 60), errors, users, k, resamples=299) < 0.05
    assert found / n > 0.9


def test_the_paired_test_agrees_with_the_exact_one():
    differences = np.array([0.9, -0.2, 0.4, 0.7, -0.1, 0.3, 0.5, -0.6])
    exact = permutation_test((differences,), np.sum, permutation_type="samples", vectorized=False, n_resamples=np.inf)
    a, b = differences[None] + 2, np.full((1, 8), 2.0)
    found = paired_p(a, b, np.arange(8), 1)
    assert found == pytest.approx(exact.pvalue, abs=0.02)
    assert found == paired_p(a, b, np.arange(8), 1)
    assert paired_p(b, a, np.arange(8), 1) == pytest.approx(found, abs=0.02)


def test_a_model_does_not_differ_from_its_like():
    errors = np.random.default_rng(8).random((3, 50))
    assert paired_p(errors, errors[[2, 0, 1]], np.arange(50) % 9, 1, resamples=99) == 1.0


def test_five_users_are_too_few_for_a_difference():
    assert paired_p(np.ones((1, 5)), np.zeros((1, 5)), np.arange(5), 1) == pytest.approx(2 / 32, abs=0.01)


def test_holm_of_a_worked_example():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which must not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_rejects_more_than_the_plain_test_nor_less_than_bonferroni(p):
    plain, corrected = np.array(p), holm(p)
    assert (corrected >= plain).all() and (corrected <= np.minimum(plain * len(p), 1) + 1e-12).all()
    assert (np.diff(corrected[plain.argsort()]) >= 0).all()


def test_among_five_equal_models_holm_rarely_finds_one_that_differs():
    rng, n = np.random.default_rng(9), 150
    plain = corrected = 0
    for k in range(n):
        errors = rng.random((5, 1, 40))
        p = [paired_p(other, errors[0], np.arange(40), k, resamples=499) for other in errors[1:]]
        plain += min(p) < 0.05
        corrected += holm(p).min() < 0.05
    assert corrected / n <= 0.09 < plain / n


# Comparisons.


def ndcg(ranks):
    """NDCG of one relevant item at each rank from 1, and 0 below the tenth."""
    ranks = np.asarray(ranks, dtype=float)
    return np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)


def test_a_comparison_of_a_worked_example():
    values = {"ours": np.array([[1.0, 0.0, 1.0, 0.0]]), "other": np.array([[0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])}
    ours, other = compare(values, np.array([0, 0, 1, 1]), "ours", seed=3, resamples=999)
    assert (ours["model"], ours["n"], ours["seeds"], ours["value"]) == ("ours", 4, 1, 0.5)
    assert (ours["low"], ours["high"]) == (0.5, 0.5)  # each user has one hit of two
    assert "difference" not in ours and "p" not in ours
    assert (other["n"], other["seeds"], other["value"], other["against"]) == (4, 2, 0.5, "ours")
    # Of the two users the other model is 0 above and 0 below.
    assert (other["difference"], other["difference_low"], other["difference_high"]) == (0.0, 0.0, 0.0)
    assert other["p"] == other["p_corrected"] == 1.0


@pytest.mark.parametrize("aggregate", [None, np.sqrt])
def test_a_value_is_the_mean_over_the_seeds_of_each_seeds_own(aggregate):
    squared = np.array([[1.0, 1.0], [1.0, 4.0]])
    (row,) = compare({"ours": squared}, np.array([0, 1]), aggregate=aggregate, resamples=99)
    assert row["value"] == pytest.approx((1 + 2.5) / 2 if aggregate is None else (1 + 2.5**0.5) / 2)
    assert row["low"] <= row["value"] <= row["high"]


def test_a_ranking_metric_is_compared_like_an_error():
    rng = np.random.default_rng(12)
    users = np.repeat(np.arange(100), 3)
    ranks = rng.integers(1, 30, 300)
    values = {"ours": ndcg(ranks)[None], "worse": ndcg(ranks + 8)[None], "equal": ndcg(ranks)[None]}
    table = {row["model"]: row for row in compare(values, users, "ours", seed=1, resamples=999)}
    assert table["ours"]["value"] == pytest.approx(ndcg(ranks).mean())
    assert table["worse"]["difference"] == pytest.approx(table["worse"]["value"] - table["ours"]["value"])
    assert table["worse"]["difference_low"] < table["worse"]["difference"] < table["worse"]["difference_high"] < 0
    assert table["worse"]["p"] == 2 / 1000
    assert table["worse"]["p_corrected"] == 4 / 1000
    assert table["equal"]["p_corrected"] == 1.0


@pytest.mark.parametrize("aggregate", [None, np.sqrt])
def test_the_p_of_an_aggregate_is_that_of_swapping_whole_users(aggregate):
    """With one seed, an increasing function of the means leaves the order of all swaps as it is."""
    rng = np.random.default_rng(13)
    a, b, users = rng.random(30) * 1.5, rng.random(30), np.arange(30) % 8
    of = np.mean if aggregate is None else lambda values: aggregate(values.mean())
    differences = []
    for k in range(2**8):
        swapped = (k >> users & 1).astype(bool)
        differences.append(of(np.where(swapped, b, a)) - of(np.where(swapped, a, b)))
    exact = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    row = compare({"b": b[None], "a": a[None]}, users, "b", aggregate, seed=2)[1]
    assert row["p"] == pytest.approx(exact, abs=0.02)


def test_metrics_of_the_same_seed_draw_the_same_users():
    errors = {"ours": np.random.default_rng(14).random((1, 40)), "other": np.random.default_rng(15).random((1, 40))}
    doubled = {model: 2 * values for model, values in errors.items()}
    users = np.arange(40) % 11
    for row, twice in zip(compare(errors, users, "ours", seed=5), compare(doubled, users, "ours", seed=5)):
        for name in row.keys() & {"value", "low", "high", "difference", "difference_low", "difference_high"}:
            assert twice[name] == pytest.approx(2 * row[name]), name
        assert twice.get("p") == row.get("p")


def test_without_rows_or_with_one_user_there_is_no_interval():
    nothing = compare({"ours": np.ones((1, 0)), "other": np.ones((2, 0))}, np.array([], dtype=int), "ours")
    assert [(row["n"], row["value"], row["low"], row.get("p")) for row in nothing] == [(0, None, None, None)] * 2
    ours, other = compare({"ours": np.ones((1, 3)), "other": np.zeros((1, 3))}, np.zeros(3, dtype=int), "ours")
    assert (ours["value"], ours["low"], other["difference"], other["difference_low"]) == (1.0, None, -1.0, None)
    assert other["p"] == 1.0
