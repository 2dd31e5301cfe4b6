"""Vectors as short codes: k-means with clusters of nearly equal size, applied to what earlier levels left over.

Source: RQ-KMeans of GREAM, whose released code balances each level with the package k-means-constrained (Levy-Kramer),
which is Lloyd's algorithm with a minimum-cost flow for the assignment. The assignment here is our own. The package
needs ortools, of some 90 MB, and one run took 16.5 s of a CPU for 4,170 vectors of 384 numbers and 256 clusters, where
a run here took 2.7 s and ended with a slightly smaller sum of squares; each level has three runs. Instead of the flow,
each cluster has a price that rises while the cluster is too large and falls while it is too small, and every vector
goes to the cluster where distance plus price is least. The few that are over when the prices have settled go where
that costs least. Without those, the assignment is the cheapest one of its sizes: prices are the dual variables of the
same linear program.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import numpy as safetensors

from reason4rec.errors import InputError
from reason4rec.run.progress import progress

STARTS = 3  # of each k-means, of which the best is kept; iterations of each; both as in the released code
ITERATIONS = 100
LEAST_GAIN = 1e-4  # the share of the sum of squares that one more iteration has to gain
SWEEPS = 60  # changes of all prices in an iteration, four times as many in the first one
SLOWING = 0.1  # of the steps of prices: that of sweep s is divided by 1 + SLOWING * s


@dataclass(frozen=True)
class Quantized:
    """Codes of vectors, the centroids that they stand for, and how much they leave.

    `codes` is (n, levels) int64, from 1 to the number of codes. `codebooks` has an array (codes, d) for each level, and
    a vector is about the sum of the centroids of its codes. `left` is the share of the vectors' variance that is left
    after each level, from 0 to 1.
    """

    codes: np.ndarray
    codebooks: list[np.ndarray]
    left: list[float]


def residual(vectors: np.ndarray, levels: int, codes: int, seed: int) -> Quantized:
    """Codes of (n, d) vectors in `levels` levels of `codes` clusters, each on what the levels before left of them.

    Within a level every code is that of n // codes - 1 to n // codes + 1 vectors, and of one at least. The random
    numbers of level l = 1, 2, ... come from `numpy.random.default_rng([seed, l])`, so that a level is the same however
    many follow it. InputError for fewer vectors than codes, or what is no number.
    """
    if levels < 1:
        raise InputError(f"--levels {levels}: semantic ids have 1 level or more")
    left = np.array(vectors, dtype=np.float64)
    _check(left, codes)
    total, found, codebooks, shares = np.square(left - left.mean(axis=0)).sum(), [], [], []
    with progress("k-means of semantic ids", levels, "level") as bar:
        for level in range(1, levels + 1):
            labels, centroids = balanced_kmeans(left, codes, np.random.default_rng([seed, level]))
            left -= centroids[labels]
            found.append(labels + 1)
            codebooks.append(centroids.astype(np.float32))
            shares.append(float(np.square(left).sum() / total) if total else 0.0)
            bar.update()
    return Quantized(np.stack(found, axis=1), codebooks, shares)


def balanced_kmeans(vectors: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of (n, d) vectors, from 0 to k - 1, and the (k, d) float64 means of the clusters.

    Clusters have n // k - 1 to n // k + 1 vectors, and at least one. A vector need not be in the cluster of its nearest
    mean. Of STARTS runs, which all draw from `rng`, that of the least sum of squares is returned.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    _check(vectors, k)
    return min((_run(vectors, k, rng) for _ in range(STARTS)), key=lambda run: run[0])[1:]


def as_bytes(codebooks: Sequence[np.ndarray]) -> bytes:
    """The centroids of each level as safetensors, as `level_1`, `level_2`, ...; the same ones give the same bytes."""
    return safetensors.save(
        {f"level_{number}": np.ascontiguousarray(one) for number, one in enumerate(codebooks, start=1)}
    )


def _check(vectors: np.ndarray, k: int) -> None:
    if not np.isfinite(vectors).all():
        row = int((~np.isfinite(vectors)).any(axis=1).argmax())
        raise InputError(f"vectors of items: that in row {row} holds what is no number; embed the items again")
    if not 2 <= k <= len(vectors):
        raise InputError(
            f"--codes {k}: a level of semantic ids has from 2 codes to as many as there are items ({len(vectors)}); "
            f"pass --codes {max(2, min(k, len(vectors) // 2))}"
        )


def _run(vectors: np.ndarray, k: int, rng: np.random.Generator) -> tuple[float, np.ndarray, np.ndarray]:
    """The sum of squares, the clusters and the means of one run from a k-means++ start."""
    from sklearn.cluster import kmeans_plusplus

    means, _ = kmeans_plusplus(vectors, k, random_state=int(rng.integers(2**32)))
    squares, best = float(np.square(vectors).sum()), None
    prices, sweeps = np.zeros(k), 4 * SWEEPS
    for _ in range(ITERATIONS):
        costs = np.square(means).sum(axis=1) - 2 * (vectors @ means.T)
        labels, prices = _assigned(costs, prices, sweeps)
        sweeps = SWEEPS
        sizes = np.bincount(labels, minlength=k)
        starts = np.cumsum(sizes) - sizes
        means = np.add.reduceat(vectors[np.argsort(labels, kind="stable")], starts) / sizes[:, None]
        # Rounding may leave a little less than nothing where all vectors of a cluster are the same.
        lost = max(0.0, squares - float((sizes * np.square(means).sum(axis=1)).sum()))
        gained = best is None or lost < best[0] * (1 - LEAST_GAIN)
        if best is None or lost < best[0]:
            best = lost, labels, means
        if not gained:
            break
    return best


def _assigned(costs: np.ndarray, prices: np.ndarray, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of (n, k) costs that are neither too small nor too large, and the prices that led there."""
    n, k = costs.shape
    least, most = max(1, n // k - 1), n // k + 1
    cheapest = np.partition(costs, 1, axis=1)[:, :2]
    step = float((cheapest[:, 1] - cheapest[:, 0]).mean())
    fewest, best = np.inf, None
    for sweep in range(sweeps):
        labels = (costs + prices).argmin(axis=1)
        sizes = np.bincount(labels, minlength=k)
        over = sizes - np.clip(sizes, least, most)
        wrong = int(np.abs(over).sum())
        if wrong < fewest:
            fewest, best = wrong, (labels, prices)
        if not wrong:
            break
        prices = prices + step / (1 + SLOWING * sweep) * np.clip(over * (k / n), -1, 3)
    labels, prices = best
    return _moved(costs, labels, least, most), prices


def _moved(costs: np.ndarray, labels: np.ndarray, least: int, most: int) -> np.ndarray:
    """The clusters, with vectors moved where it costs least until none of them has less or more than it may have.

    There is always where to: `least` is at most the mean size, and `most` is above it.
    """
    labels = labels.copy()
    sizes = np.bincount(labels, minlength=costs.shape[1])
    for bound, broken in ((most, np.greater), (least, np.less)):
        while broken(sizes, bound).any():
            rows, takers = np.flatnonzero((sizes > bound)[labels]), np.flatnonzero(sizes < bound)
            offered = costs[np.ix_(rows, takers)]
            nearest = offered.argmin(axis=1)
            extra = offered[np.arange(len(rows)), nearest] - costs[rows, labels[rows]]
            for place in np.argsort(extra, kind="stable"):
                giver, taker = labels[rows[place]], takers[nearest[place]]
                if sizes[giver] > bound > sizes[taker]:
                    labels[rows[place]] = taker
                    sizes[giver] -= 1
                    sizes[taker] += 1
    return labels
