"""The answers that a model may write, as a trie of token ids: which tokens can follow what is written so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from reason4rec.errors import InputError
from reason4rec.llm.cache import key_of
from reason4rec.llm.tokens import answer_ids

Path = tuple[int, ...]


@dataclass(frozen=True)
class Trie:
    """The `paths`, each the token ids of one answer with its end; none begins as another one ends.

    Node 0 is the root. The children of node n stand in `tokens` and `nodes` from `starts[n]` on, `counts[n]` of them; a
    leaf, with which a path is whole, has none. `depth` is the length of the longest path. In a trie that is
    `positionwise` a node is a position, so that every token that any path has there is allowed.
    """

    paths: tuple[Path, ...]
    starts: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    depth: int
    positionwise: bool = False

    @cached_property
    def places(self) -> dict[Path, int]:
        """The place of each path among the `paths`."""
        return {path: place for place, path in enumerate(self.paths)}

    @cached_property
    def name(self) -> str:
        """What stands for the trie in the keys of kept answers."""
        return key_of(paths=self.paths, positionwise=self.positionwise)

    def nodes_of(self, path: Path) -> list[int]:
        """The nodes that a path goes through after the root."""
        found, node = [], 0
        for token in path:
            start, count = self.starts[node], self.counts[node]
            node = int(self.nodes[start + np.searchsorted(self.tokens[start : start + count], token)])
            found.append(node)
        return found

    @cached_property
    def leaves_below(self) -> np.ndarray:
        """How many paths go through each node."""
        below = np.zeros(len(self.starts), dtype=np.int64)
        for path in self.paths:
            below[self.nodes_of(path)] += 1
        below[0] = len(self.paths)
        return below

    def blocked(self, excluded: Sequence[int]) -> np.ndarray:
        """The nodes that lead to nothing but paths at the places `excluded`."""
        passing = np.zeros(len(self.starts), dtype=np.int64)
        for place in set(excluded):
            passing[self.nodes_of(self.paths[place])] += 1
        return np.flatnonzero((passing > 0) & (passing == self.leaves_below))


def of_paths(paths: Sequence[Path], positionwise: bool = False) -> Trie:
    """The trie of some token ids; InputError where two paths are the same, or one of them begins another.

    `positionwise` gives the mask of the released code of semantic ids instead: at each position all tokens that any
    path has there. A model can then write what is none of the paths. There every path must end with one and the same
    token, which comes nowhere else in them.
    """
    paths = tuple(tuple(map(int, path)) for path in paths)
    if not paths or not all(paths):
        raise InputError("a trie needs at least one answer, and none may be empty")
    ordered = sorted(paths)
    for one, other in zip(ordered, ordered[1:]):
        if other[: len(one)] == one:
            raise InputError(f"answers of the token ids {one} and {other}: one begins the other; give each its end")
    children = _by_position(paths) if positionwise else _by_beginning(ordered)
    counts = np.array([len(of) for of in children])
    pairs = np.array([pair for of in children for pair in sorted(of.items())], dtype=np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    return Trie(paths, starts, counts, pairs[:, 0], pairs[:, 1], max(map(len, paths)), positionwise)


def of_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], positionwise: bool = False) -> Trie:
    """The trie of whole answers, each with the end of its turn, as a model learns them. InputError as in `of_paths`.

    The path of a text has its place among the texts.
    """
    return of_paths([tuple(answer_ids(tokenizer, text)) for text in texts], positionwise)


def _by_beginning(paths: Sequence[Path]) -> list[dict[int, int]]:
    children: list[dict[int, int]] = [{}]
    for path in paths:
        node = 0
        for token in path:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
            node = children[node][token]
    return children


def _by_position(paths: Sequence[Path]) -> list[dict[int, int]]:
    end = paths[0][-1]
    if any(path.index(end) != len(path) - 1 if end in path else True for path in paths):
        raise InputError("positions alone tell no ends apart: each answer must end with the same token, and only there")
    depth = max(map(len, paths))
    children: list[dict[int, int]] = [{} for _ in range(depth + 1)]  # the last of them is the end of every path
    for path in paths:
        for k, token in enumerate(path):
            children[k][token] = depth if token == end else k + 1
    return children
