"""A catalogue of a few items and a case in it, and a market of many users whose tastes are known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reason4rec.data.sequences import ITEM_COLUMNS, Case, Event
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.rewards import Evidence

ITEMS = (
    ("B1", "dark chocolate bar, 3 oz", "Dark chocolate from Peru.", '"Brand": "Andes"'),
    ("B2", "green tea bags", "", ""),
    ("B3", "sea salt | coarse", "Salt.", ""),
    ("B4", "chocolate cookies", "Cookies with dark\nchocolate.", '"Brand": "Oven"'),
    ("B5", "green tea bags", "Another one.", ""),
)
HISTORY = (Event("B3", 2.0, "Too <br />coarse.\nNever again."), Event("B2", None, ""), Event("B1", 5.0, "So rich!"))
CASE = Case("U1", HISTORY, Event("B4", 4.0, "Good ones."))


def catalogue(*rows: Sequence[str]) -> Catalogue:
    """A catalogue of rows of the columns, of which the last ones may be left out."""
    return Catalogue(pd.DataFrame([(*row, *[""] * (4 - len(row))) for row in rows], columns=ITEM_COLUMNS))


def shop() -> Catalogue:
    """The catalogue of `ITEMS`."""
    return catalogue(*ITEMS)


def market(users: int = 300, items: int = 60, listed: int = 8, seed: int = 0) -> tuple[Evidence, dict[str, int]]:
    """Evidence of users who choose by popularity and by taste, and how popular each item is.

    The other candidates are mostly popular ones, as in the released test lists: were they drawn evenly, the most
    popular candidate would often be the target, and no cheat. The logits are those by which the users choose.
    """
    rng = np.random.default_rng(seed)
    bias = np.linspace(2.0, -2.0, items)
    logits = bias + rng.normal(size=(users, 4)) @ rng.normal(size=(4, items)) / 2
    ids = [f"B{k}" for k in range(items)]
    shares = np.exp(1.5 * bias) / np.exp(1.5 * bias).sum()
    cases, lists = [], []
    for number in range(users):
        chances = np.exp(logits[number] - logits[number].max())
        target = int(rng.choice(items, p=chances / chances.sum()))
        others = [one for one in rng.choice(items, items, replace=False, p=shares) if one != target][: listed - 1]
        order = rng.permutation([target, *others])
        cases.append(Case(f"U{number}", (), Event(ids[target], None, "")))
        lists.append([ids[one] for one in order])
    means = dict(zip(ids, logits.mean(axis=0).tolist()))
    places = {item_id: k for k, item_id in enumerate(ids)}
    evidence = Evidence(
        catalogue(*((item_id, f"title {item_id}") for item_id in ids)),
        cases,
        lists,
        lambda numbers, asked: [logits[number, places[item_id]] for number, item_id in zip(numbers, asked)],
        np.array([[logits[number, places[one]] for one in row] for number, row in enumerate(lists)]),
        means,
    )
    return evidence, {item_id: round(1e4 * share) for item_id, share in zip(ids, shares)}
