"""The card of semantic ids: whether they tell items apart, how their codes are used, and whether they mean anything.

Our decision. If codes carry meaning, items with the same first code share words and are chosen by the same users more
often than items do by chance.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from reason4rec.data.sequences import numbered, training_parts
from reason4rec.run import markdown
from reason4rec.systems.gream.semantic_ids import SemanticIds
from reason4rec.systems.twice_rec.catalogue import Item
from reason4rec.systems.twice_rec.content import content_stems

DRAWN = 50_000  # pairs of items, for how often any two share a word


def card(ids: SemanticIds, items: Sequence[Item], sequences: pd.DataFrame, left: Sequence[float], seed: int) -> dict:
    """What is told of the ids of `items`, which are all of theirs, as numbers for a JSON file.

    `sequences` is a table of the house, whose targets of validation and test are left out, and `left` the share of the
    vectors' variance that is left after each level. Shares and chances are from 0 to 1, None where no pair of items
    tells them; `entropy` is that of the codes over its greatest value, 1 where all are used alike. The chance that a
    pair has the same code is that of any two items. `seed` draws the pairs for the words of any two items.
    """
    order = list(ids.by_item)
    numbers = ids.numbers()
    trained = [one - 1 for one in training_parts(numbered(sequences, order))]
    by_id = {item.item_id: item for item in items}
    stems = [content_stems(by_id[item].title) for item in order]
    return {
        "items": len(ids),
        "levels": ids.levels,
        "codes": ids.codes,
        "collisions": _collisions(numbers),
        "by_level": [
            _use(column, ids.codes) | {"prefixes": len(np.unique(numbers[:, : level + 1], axis=0)), "left": share}
            for level, (column, share) in enumerate(zip(numbers.T, left, strict=True))
        ],
        "chosen_together": _together(numbers, trained),
        "share_a_word": _words(numbers[:, 0], stems, seed),
    }


def as_text(card: dict) -> str:
    """The card for a terminal: a table of the levels, and what holds for all of them."""
    levels = [
        [number, *(one[name] for name in ("used", "least", "most", "entropy", "prefixes")), f"{one['left']:.3f}"]
        for number, one in enumerate(card["by_level"], start=1)
    ]
    heads = ["level", "codes used", "fewest items", "most items", "entropy", "different beginnings", "variance left"]
    collisions, words = card["collisions"], card["share_a_word"]
    rows = [
        ["items that share all codes with another", f"{collisions['items']:,} ({collisions['share']:.2%})"],
        ["groups of such items, and the largest", f"{collisions['groups']:,}, {collisions['largest']}"],
        *(
            [f"pairs of items of one user with the same codes to level {depth}", _against(one["share"], one["chance"])]
            for depth, one in enumerate(card["chosen_together"]["by_depth"], start=1)
        ),
        ["pairs with the same first code whose titles share a word", _against(words["share"], words["chance"])],
    ]
    return f"{markdown.table(heads, levels)}\n\n{markdown.table(['of the ids', ''], rows)}"


def _collisions(numbers: np.ndarray) -> dict:
    sizes = np.unique(numbers, axis=0, return_counts=True)[1]
    groups = sizes[sizes > 1]
    return {
        "items": int(groups.sum()),
        "share": round(float(groups.sum() / len(numbers)), 4),
        "groups": len(groups),
        "largest": int(sizes.max()),
    }


def _use(column: np.ndarray, codes: int) -> dict:
    """How the codes of a level are used; the fewest and the most items are those of a code that is used."""
    sizes = np.unique(column, return_counts=True)[1]
    shares = sizes / sizes.sum()
    entropy = float(-(shares * np.log(shares)).sum() / np.log(codes))
    return {"used": len(sizes), "least": int(sizes.min()), "most": int(sizes.max()), "entropy": round(entropy, 4)}


def _together(numbers: np.ndarray, trained: Sequence[np.ndarray]) -> dict:
    """How many pairs of items of one user begin with the same codes, for the first, the first two, ... of them."""
    pairs = [one[np.stack(np.triu_indices(len(one), 1))] for one in trained if len(one) > 1]
    first, second = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    found = []
    for depth in range(1, numbers.shape[1] + 1):
        same = (numbers[first, :depth] == numbers[second, :depth]).all(axis=1)
        sizes = np.unique(numbers[:, :depth], axis=0, return_counts=True)[1].astype(float)
        of_any = len(numbers) * (len(numbers) - 1)
        chance = float((sizes * (sizes - 1)).sum() / of_any) if of_any else None
        found.append({"share": _mean(same), "chance": chance})
    return {"pairs": len(first), "by_depth": found}


def _words(column: np.ndarray, stems: Sequence[set[str]], seed: int) -> dict:
    """How many pairs of items with the same code share a word of content in their titles, and of any two."""
    same = list(_pairs_within(column))
    shared = _mean([not stems[one].isdisjoint(stems[other]) for one, other in same])
    count = len(stems)
    rng = np.random.default_rng(seed)
    one = rng.integers(0, count, DRAWN)
    other = (one + rng.integers(1, max(2, count), DRAWN)) % count
    any_two = [not stems[a].isdisjoint(stems[b]) for a, b in zip(one.tolist(), other.tolist())]
    return {"pairs": len(same), "share": shared, "chance": _mean(any_two) if count > 1 else None}


def _pairs_within(column: np.ndarray) -> Iterator[tuple[int, int]]:
    for code in Counter(column.tolist()):
        places = np.flatnonzero(column == code)
        yield from ((int(a), int(b)) for a, b in zip(*(places[one] for one in np.triu_indices(len(places), 1))))


def _mean(found: Sequence[bool]) -> float | None:
    return float(np.mean(found)) if len(found) else None


def _against(share: float | None, chance: float | None) -> str:
    if share is None or not chance:
        return "no such pair"
    return f"{share:.2%}, by chance {chance:.3%} ({share / chance:.1f} times)"
