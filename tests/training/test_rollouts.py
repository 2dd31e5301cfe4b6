"""Rewards and advantages: what they are of, and rewards that are no numbers or differ by rounding alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reason4rec.errors import InputError
from reason4rec.training.rollouts import Part, Rollout, centred, has_spread, scores_of, total, z_scores

ROLLOUTS = [Rollout({"rating": 4}, text, (1, 2), True) for text in ("a", "bb", "")]
REWARDS = arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.floats(-5, 5))


def length(rollouts):
    return [len(one.text) for one in rollouts]


def test_a_reward_is_the_weighted_sum_of_its_parts():
    parts = [Part("length", 0.5, length), Part("empty", -2.0, lambda some: [float(not one.text) for one in some])]
    scores = scores_of(parts, ROLLOUTS)
    assert scores.tolist() == [[1, 0], [2, 0], [0, 1]]
    assert total(parts, scores).tolist() == [0.5, 1.0, -2.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_no_number_poisoned_its_group(bad):
    part = Part("odd", 1.0, lambda some: [bad if one.text == "bb" else 0.0 for one in some])
    with pytest.raises(InputError, match="reward odd.*'bb'"):
        scores_of([part], ROLLOUTS)


def test_a_part_that_forgets_a_rollout_is_told():
    with pytest.raises(InputError, match="reward short"):
        scores_of([Part("short", 1.0, lambda some: [1.0])], ROLLOUTS)


def test_rewards_that_differ_by_rounding_alone_blew_their_advantages_up():
    rewards = np.array([[0.1 + 0.2, 0.3, 0.3], [0.0, 1e-9, 0.0], [1.0, 1.0, 2.0]])
    assert has_spread(rewards).tolist() == [False, False, True]
    assert has_spread(rewards, least=1.5).tolist() == [False, False, False]
    assert (z_scores(rewards)[:2] == 0).all()
    assert z_scores(rewards)[2] == pytest.approx([-0.57735, -0.57735, 1.154701], abs=1e-5)


@given(REWARDS)
def test_advantages_of_a_group_sum_to_zero_and_keep_its_order(rewards):
    for advantages in (z_scores(rewards), centred(rewards)):
        assert advantages.shape == rewards.shape
        assert np.isfinite(advantages).all()
        assert np.allclose(advantages.sum(axis=1), 0, atol=1e-6)
        for group, of_group in zip(rewards, advantages):
            assert (np.diff(of_group[np.argsort(group)]) >= -1e-9).all()


@given(REWARDS)
def test_z_scores_do_not_depend_on_the_unit_of_a_reward(rewards):
    spread = has_spread(rewards) & has_spread(1000 * rewards)
    assert np.allclose(z_scores(rewards)[spread], z_scores(1000 * rewards)[spread], atol=1e-6)
