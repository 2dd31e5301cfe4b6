"""Residual k-means: sizes that are balanced, sums of squares that are low, and codes that a seed decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.optimize import linear_sum_assignment

from reason4rec.errors import InputError
from reason4rec.systems.gream.quantizing import _assigned, as_bytes, balanced_kmeans, residual


def groups(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Vectors around a few centres, one of which has half of them."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(5, d))
    return centres[rng.integers(0, 5, n) * rng.integers(0, 2, n)] + rng.normal(size=(n, d))


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 6),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    different=st.integers(1, 60),
)
def test_every_cluster_has_about_as_many_vectors_as_any_other(n, d, share, seed, different):
    k = 2 + round(share * (n - 2))
    # Few different vectors: those that are the same have to be dealt out all the same.
    vectors = groups(n, d, seed)[np.arange(n) % different]
    labels, means = balanced_kmeans(vectors, k, np.random.default_rng(seed))
    sizes = np.bincount(labels, minlength=k)
    assert len(sizes) == k and sizes.min() >= max(1, n // k - 1) and sizes.max() <= n // k + 1
    assert np.allclose(means, [vectors[labels == one].mean(axis=0) for one in range(k)])


def test_clusters_are_found_where_they_are_balanced_already():
    centres = np.array([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    vectors = np.repeat(centres, 10, axis=0) + np.random.default_rng(0).normal(size=(40, 2))
    labels, means = balanced_kmeans(vectors, 4, np.random.default_rng(1))
    assert [len(set(labels[start : start + 10])) for start in range(0, 40, 10)] == [1] * 4
    assert np.abs(means[labels[::10]] - centres).max() < 1.5


def test_the_assignment_is_the_cheapest_one_of_its_sizes():
    vectors, k = groups(240, 8), 12
    means = np.random.default_rng(0).permutation(vectors)[:k]
    costs = np.square(vectors[:, None] - means).sum(axis=2)
    labels, _ = _assigned(costs, np.zeros(k), 240)
    slots = np.repeat(costs, np.bincount(labels, minlength=k), axis=1)
    least = slots[linear_sum_assignment(slots)].sum()
    assert least <= costs[np.arange(240), labels].sum() <= 1.01 * least


def test_codes_begin_at_1_and_stand_for_centroids_that_add_up_to_the_vectors():
    vectors = groups(160, 12)
    found = residual(vectors, 3, 8, seed=5)
    assert found.codes.shape == (160, 3) and found.codes.min() == 1 and found.codes.max() == 8
    assert [book.shape for book in found.codebooks] == [(8, 12)] * 3
    rebuilt = sum(book[codes - 1] for book, codes in zip(found.codebooks, found.codes.T))
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    assert np.square(vectors - rebuilt).sum() / spread == pytest.approx(found.left[-1], rel=1e-3)
    assert 1 > found.left[0] > found.left[1] > found.left[2] > 0


def test_a_seed_decides_the_codes_and_a_level_does_not_depend_on_those_that_follow():
    vectors = groups(60, 4)
    codes = residual(vectors, 3, 6, seed=1).codes
    assert np.array_equal(residual(vectors, 2, 6, seed=1).codes, codes[:, :2])
    assert not np.array_equal(residual(vectors, 3, 6, seed=2).codes, codes)


def test_vectors_that_are_all_the_same_are_dealt_out():
    found = residual(np.ones((20, 3), dtype=np.float32), 2, 4, seed=0)
    sizes = [np.bincount(codes, minlength=5)[1:] for codes in found.codes.T]
    assert all(one.min() >= 4 and one.max() <= 6 and one.sum() == 20 for one in sizes)
    assert found.left == [0.0, 0.0]


@pytest.mark.parametrize(
    ("levels", "codes", "said"), [(0, 4, "--levels 0"), (2, 1, "--codes 1"), (2, 21, r"--codes 21.*\(20\)")]
)
def test_numbers_that_make_no_codes_are_refused(levels, codes, said):
    with pytest.raises(InputError, match=said):
        residual(groups(20, 3), levels, codes, seed=0)


def test_a_vector_with_what_is_no_number_is_named():
    vectors = groups(20, 3)
    vectors[7, 1] = np.nan
    with pytest.raises(InputError, match="row 7"):
        residual(vectors, 2, 4, seed=0)


def test_codebooks_are_read_again(tmp_path):
    found = residual(groups(30, 3), 2, 4, seed=0)
    (tmp_path / "codebooks.safetensors").write_bytes(as_bytes(found.codebooks))
    read = load_file(tmp_path / "codebooks.safetensors")
    assert list(read) == ["level_1", "level_2"]
    assert all(np.array_equal(one, other) for one, other in zip(read.values(), found.codebooks))
