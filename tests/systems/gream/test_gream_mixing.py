"""The order of learning: nothing is lost, blocks stay together, and reasoned rows come ever more densely."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reason4rec.systems.gream.mixing import BLOCK, curriculum


def rows(n, name):
    return [{"name": name, "number": k} for k in range(n)]


def mixed(sizes, reasoned, seed=0):
    return curriculum([rows(n, f"pass{k}") for k, n in enumerate(sizes)], rows(reasoned, "reasoned"), seed)


def is_reasoned(found):
    return np.array([row["name"] == "reasoned" for row in found])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=4), st.integers(0, 80), st.integers(0, 5))
def test_every_row_of_a_pass_is_there_once_and_every_reasoned_row_in_each_pass(sizes, reasoned, seed):
    wanted = Counter((f"pass{k}", n) for k, size in enumerate(sizes) for n in range(size))
    wanted += Counter({("reasoned", n): len(sizes) for n in range(reasoned)})
    found = mixed(sizes, reasoned, seed)
    assert Counter((row["name"], row["number"]) for row in found) == wanted
    assert found == mixed(sizes, reasoned, seed)


def test_three_passes_have_all_rows_and_three_times_the_reasoned_ones():
    found = mixed([800, 800, 800], 200)
    assert len(found) == 3 * 800 + 3 * 200
    assert found != mixed([800, 800, 800], 200, seed=1)
    assert Counter(row["name"] for row in found[:1000]) == {"pass0": 800, "reasoned": 200}
    assert Counter(row["name"] for row in found[2000:]) == {"pass2": 800, "reasoned": 200}


def test_rows_stand_in_blocks_of_one_kind():
    found = is_reasoned(mixed([800, 800, 800], 400)).reshape(-1, BLOCK)
    assert np.isin(found.sum(axis=1), [0, BLOCK]).all()


@pytest.mark.parametrize("part", [0, 1])
def test_the_density_rises_and_about_half_is_left_for_the_end(part):
    shares, halves, quarters = [], [], np.zeros(4)
    for seed in range(20):
        blocks = is_reasoned(mixed([4000, 4000, 4000], 1600, seed)).reshape(3, -1, BLOCK)[part, :, 0]
        tail = len(blocks) - int(np.flatnonzero(~blocks)[-1]) - 1
        interleaved = 200 - tail
        shares.append(interleaved / 200)
        # How many of the pass's own blocks stand before each reasoned one that is interleaved.
        before = np.cumsum(~blocks)[blocks][:interleaved] / 500
        halves.append((before <= 0.5).mean())
        quarters += np.histogram(before, bins=4, range=(0, 1))[0]
    assert 0.48 < np.mean(shares) < 0.57
    assert 0.25 < np.mean(halves) < 0.40
    assert (np.diff(quarters) > 0).all()


def test_the_last_pass_is_even():
    density = np.zeros(4)
    for seed in range(20):
        density += is_reasoned(mixed([4000, 4000, 4000], 1600, seed))[-5600:].reshape(4, -1).sum(axis=1)
    assert density.min() / density.max() > 0.85


def test_rows_of_a_pass_are_shuffled():
    numbers = [row["number"] for row in mixed([800, 800, 800], 0)[:800]]
    assert sorted(numbers) == list(range(800)) and numbers != list(range(800))
    first, second = (
        [row["number"] for row in part if row["name"] == "reasoned"]
        for part in np.array_split(np.array(mixed([80, 80, 80], 80), dtype=object), 3)[:2]
    )
    assert first == second  # taken in the same order, as in the released code
