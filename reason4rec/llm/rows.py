"""Prompts as rows of token ids, packed in a few bytes each, and what they have in common."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from reason4rec.llm.tokens import common

ID_BYTES = array("i").itemsize


@dataclass(frozen=True, order=True)
class Row:
    """What is asked once: packed token ids, and its prefix, those at their beginning that other rows have too."""

    ids: bytes
    prefix: bytes = b""


def packed(ids: Sequence[int]) -> bytes:
    """Token ids in a few bytes each: as numbers of Python, those of a window would take ten times the memory."""
    return array("i", ids).tobytes()


def unpacked(packed: bytes) -> list[int]:
    return array("i", packed).tolist()


def length(item: bytes | Row) -> int:
    """How many token ids a packed row has."""
    return len(item if isinstance(item, bytes) else item.ids) // ID_BYTES


def common_prefix(rows: Sequence[bytes]) -> bytes:
    """What all packed rows begin with, and each goes on after; empty for a single row."""
    first, last = (unpacked(end(rows, default=b"")) for end in (min, max))
    return packed(first[: min(common(first, last), len(first) - 1)]) if first != last else b""


def positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token among those that count."""
    return (mask.cumsum(1) - 1).clamp(min=0)
