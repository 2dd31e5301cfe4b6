"""The advantages of SRPO: known answers, the chance they are made of, and groups that teach nothing."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reason4rec.errors import InputError
from reason4rec.systems.gream.advantages import ADVANTAGES, bonus, bonus_calibrated, bonus_of
from reason4rec.training.rollouts import z_scores


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1] + [0] * 9, [4.0708] + [-0.4523] * 9),
        ([1, 0.866, 0.5, 0.5] + [0] * 6, [3.0154, 1.3182, 0.3995, 0.3995] + [-0.8554] * 6),
        ([0.5, 0.5] + [0] * 8, [1.8974] * 2 + [-0.4743] * 8),
        ([1, 1, 1, 0.707] + [0] * 6, [1.7421] * 3 + [0.5003] + [-0.9544] * 6),
        ([0.95, 0.866] + [0] * 8, [2.0044, 1.7853] + [-0.4737] * 8),
        ([1] * 8 + [0, 0], [0.4743] * 8 + [-1.8974] * 2),
        ([0] * 10, [0] * 10),
        ([1] * 10, [0] * 10),
        ([0.95] * 10, [0] * 10),
    ],
)
def test_the_advantages_of_a_group_are_those_of_the_released_code(rewards, expected):
    in_32_bits = np.array([rewards, rewards[::-1]], dtype=np.float32)
    found = bonus_calibrated(in_32_bits.astype(float))
    assert found[0] == pytest.approx(expected, abs=6e-5)
    assert found[1] == pytest.approx(found[0][::-1])


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (1, (1.2247, -0.1361)),
        (2, (0.7071, -0.1768)),
        (3, (0.4472, -0.1917)),
        (4, (0.2773, -0.1849)),
        (5, (0.1562, -0.1562)),
        (6, (0.0692, -0.1038)),
        *[(n, (0, 0)) for n in (0, 7, 8, 9, 10)],
    ],
)
def test_the_bonus_is_larger_the_rarer_a_hit_is(right, expected):
    assert bonus_of(10, right, 4) == pytest.approx(expected, abs=1e-4)


@given(st.integers(2, 9), st.data())
def test_the_bonus_is_what_a_rollout_adds_to_the_chance_that_k_of_a_group_hit(n, data):
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    hits = np.arange(n) < right
    drawn = list(combinations(range(n), k))
    of_drawn = np.array([hits[list(one)].any() for one in drawn], dtype=float)
    found = bonus(hits[None], k)[0]
    assert found.sum() == pytest.approx(0, abs=1e-9)
    for number in range(n):
        of_those_with_it = np.mean([value for one, value in zip(drawn, of_drawn) if number in one])
        expected = (of_those_with_it - of_drawn.mean()) / of_drawn.std() if of_drawn.std() > 1e-9 else 0
        assert found[number] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.sampled_from([0, 0.5, 0.5**0.5, 0.75**0.5, 0.95, 1]), min_size=2, max_size=12))
def test_advantages_of_any_group_are_finite_and_sum_to_zero(rewards):
    found = bonus_calibrated(np.array([rewards]))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_nearly_right_gets_no_bonus_and_a_group_without_a_hit_is_that_of_grpo():
    rewards = np.array([[0.95, 0.5, 0, 0, 0], [1, 0.95, 0, 0, 0]])
    found, plain = bonus_calibrated(rewards), z_scores(rewards)
    assert found[0] == pytest.approx(plain[0])
    assert found[1, 0] > plain[1, 0]
    assert (found[1, 1:] < plain[1, 1:]).all()


def test_a_spread_that_counts_as_none_leaves_no_z_score():
    rewards = np.array([[0.5, 0.5, 0.505, 0.5]])
    assert (bonus_calibrated(rewards, 0.01) == 0).all()
    assert (bonus_calibrated(rewards) != 0).all()


@pytest.mark.parametrize("k", [0, 11])
def test_more_draws_than_a_group_has_are_told(k):
    with pytest.raises(InputError, match=f"Pass@{k} "):
        bonus_of(10, 1, k)


def test_small_groups_have_a_smaller_k():
    pair = bonus_calibrated(np.array([[1.0, 0.0]]))
    assert pair[0] == pytest.approx(z_scores(np.array([[1.0, 0.0]]))[0] + [1, -1])


def test_only_srpo_adds_the_bonus():
    rewards = np.array([[1.0, 0.5, 0, 0, 0]])
    assert ADVANTAGES["srpo"](rewards, 1e-6)[0, 0] > ADVANTAGES["grpo"](rewards, 1e-6)[0, 0]
    assert ADVANTAGES["no_bonus"] is ADVANTAGES["grpo"] is z_scores
