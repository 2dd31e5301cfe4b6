"""Ranks and their metrics against known answers and simulated coins; a constant model is at chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.errors import InputError
from reason4rec.evaluation import ranking
from reason4rec.evaluation.ranking import METRICS


def plain(rank):
    """The metrics of one whole rank, by their definitions."""
    found = {f"HR@{k}": float(rank <= k) for k in (1, 5, 10)}
    found |= {f"NDCG@{k}": 1 / np.log2(rank + 1) if rank <= k else 0.0 for k in (5, 10)}
    return found | {"MRR": 1 / rank}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.data())
def test_a_metric_is_its_mean_over_all_ways_to_break_ties(scores, data):
    target = data.draw(st.integers(0, len(scores) - 1))
    found = ranking.metrics(ranking.ranks(np.array([scores]), np.array([target])))
    higher = sum(score > scores[target] for score in scores)
    same = sum(score == scores[target] for score in scores)
    of_all_ways = [plain(higher + k) for k in range(1, same + 1)]
    assert set(found) == set(METRICS)
    for name in METRICS:
        assert found[name][0] == pytest.approx(np.mean([one[name] for one in of_all_ways]))


def test_a_constant_model_is_exactly_at_chance_and_so_is_a_random_one_but_for_noise():
    assert ranking.chance(30)["HR@1"] == pytest.approx(1 / 30)
    assert ranking.chance(30)["HR@10"] == pytest.approx(1 / 3)
    assert ranking.chance(30)["NDCG@5"] == pytest.approx(0.0983, abs=5e-5)
    assert ranking.chance(3)["HR@5"] == 1
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 30, 20_000)
    constant = ranking.metrics(ranking.ranks(np.full((20_000, 30), 7.0), targets))
    drawn = ranking.metrics(ranking.ranks(rng.random((20_000, 30)), targets))
    for name, expected in ranking.chance(30).items():
        assert constant[name] == pytest.approx(expected)
        assert drawn[name].mean() == pytest.approx(expected, abs=0.01)


def test_ranks_of_several_seeds_and_of_infinite_scores():
    scores = np.array([[[3.0, 1.0, 2.0], [-np.inf, -np.inf, 0.0]], [[0.0, 5.0, 0.0], [np.inf, 1.0, 2.0]]])
    assert ranking.ranks(scores, np.array([2, 0])).tolist() == [[[2, 2], [2, 3]], [[2, 3], [1, 1]]]


def test_a_score_that_is_not_a_number_is_refused_by_row_and_candidate():
    scores = np.zeros((4, 5))
    scores[2, 3] = np.nan
    with pytest.raises(InputError, match="^mine: the score of candidate 3 in row 2"):
        ranking.ranks(scores, np.zeros(4, dtype=int), "mine")


def test_a_table_has_a_row_for_each_metric_and_model_with_its_difference():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 30, 300)
    noise = rng.random((2, 300, 30))
    good = noise + 0.5 * (np.arange(30) == targets[:, None])
    models = {"constant": np.zeros((1, 300, 30)), "random": noise, "good": good}
    rows = ranking.table(
        {name: ranking.ranks(scores, targets) for name, scores in models.items()}, np.arange(300), "constant"
    )
    assert [(row["metric"], row["model"]) for row in rows] == [(name, model) for name in METRICS for model in models]
    for name, model, row in zip(np.repeat(METRICS, 3), list(models) * 6, rows):
        assert row["seeds"] == len(models[model]) and row["n"] == 300
        if model == "constant":
            assert row["value"] == pytest.approx(ranking.chance(30)[name])
            assert "difference" not in row
        else:
            assert row["low"] < row["value"] < row["high"]
            assert row["difference"] == pytest.approx(row["value"] - ranking.chance(30)[name])
            assert (row["p_corrected"] < 0.01) == (model == "good")
    for text in (ranking.as_text(rows), ranking.as_markdown(rows)):
        for row in rows:
            assert f"{row['value']:.4f}" in text and f"{row.get('difference', 0):.4f}" in text
    alone = ranking.table({"good": ranking.ranks(good, targets)}, np.arange(300))
    assert "difference" not in ranking.as_text(alone) and len(ranking.as_markdown(alone).splitlines()) == 2 + 1 + 1 + 8
