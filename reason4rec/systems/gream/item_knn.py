"""Item-kNN: an item is scored by how often others chose it together with those of the history.

Sarwar et al. (2001), on choices instead of ratings: the cosine of the sets of users who chose two items. It is shrunk
towards 0 where few chose them, or else one user who chose two rare items would count more than a hundred who chose two
common ones. All neighbours count, since a catalogue of some thousand items needs no cut.
"""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def similarities(histories: Sequence[Sequence[int]], n_items: int, shrink: float = 0.0) -> "csr_array":
    """(n_items, n_items) shrunk cosines of items 1 to n_items, 0 to 1, by the training histories that both stand in.

    They are both / (sqrt(one x other) + shrink), in numbers of histories. That of an item with itself is 0, as is that
    of one that nobody chose.
    """
    chosen = _chosen(histories, n_items)
    together = (chosen.T @ chosen).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    counts = np.asarray(chosen.sum(axis=0)).ravel()
    pairs = together.tocoo()
    pairs.data /= np.sqrt(counts[pairs.row] * counts[pairs.col]) + shrink
    return pairs.tocsr()


def score(similar: "csr_array", histories: Sequence[Sequence[int]]) -> np.ndarray:
    """(n, n_items) the sum of the similarities of each item with those of each history; item k is in column k - 1."""
    return (_chosen(histories, similar.shape[0]) @ similar).toarray()


def _chosen(histories: Sequence[Sequence[int]], n_items: int) -> "csr_array":
    """(n, n_items) 1 where an item stands in a history."""
    from scipy.sparse import csr_array

    rows = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    columns = np.fromiter(chain.from_iterable(histories), dtype=np.int64, count=len(rows)) - 1
    chosen = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(histories), n_items))
    chosen.data = np.minimum(chosen.data, 1)
    return chosen
