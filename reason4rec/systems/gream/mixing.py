"""The order in which the rows are learned: a curriculum."""

from collections.abc import Sequence

import numpy as np

BLOCK = 8  # rows; released code: the rows of a device in a batch
DENSITY = 1.5  # how much denser the reasoned rows get towards the end of a part; released code


def curriculum(passes: Sequence[Sequence[dict]], reasoned: Sequence[dict], seed: int, block: int = BLOCK) -> list[dict]:
    """All rows in the order in which they are learned in one epoch: each pass once, the reasoned rows in each of them.

    In every pass but the last, blocks of reasoned rows come in between those of the pass, ever more densely: after
    block i of n with a chance of 1.5 * (i / n) * (blocks that are left / n). What is left of them, about half, stands
    at the end of the pass. In the last pass, all blocks stand at random. The rows of a pass are shuffled first, and the
    reasoned ones once. Source: released code. The seeds are derived from one; our decision.
    """
    own = np.random.default_rng([seed, len(passes)])
    blocks_of_reasons = _blocks(_shuffled(reasoned, own), block)
    found: list[dict] = []
    for number, rows in enumerate(passes):
        rng = np.random.default_rng([seed, number])
        blocks = _blocks(_shuffled(rows, rng), block)
        if number == len(passes) - 1:
            ordered = _shuffled([*blocks, *blocks_of_reasons], rng)
        else:
            ordered = _ever_denser(blocks, blocks_of_reasons, rng)
        found += [row for one in ordered for row in one]
    return found


def _ever_denser(blocks: list, reasoned: list, rng: np.random.Generator) -> list:
    found, taken, n = [], 0, len(blocks)
    for i, one in enumerate(blocks):
        found.append(one)
        if rng.random() < DENSITY * (i / n) * ((len(reasoned) - taken) / n):
            found.append(reasoned[taken])
            taken += 1
    return found + reasoned[taken:]


def _blocks(rows: list, size: int) -> list[list]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shuffled(rows: Sequence, rng: np.random.Generator) -> list:
    return [rows[k] for k in rng.permutation(len(rows))]
