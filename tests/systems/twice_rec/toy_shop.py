"""A catalogue of a few items, and cases in it."""

from collections.abc import Sequence

import pandas as pd

from reason4rec.data.sequences import Case, Event
from reason4rec.systems.twice_rec.catalogue import COLUMNS, Catalogue

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
    return Catalogue(pd.DataFrame([(*row, *[""] * (4 - len(row))) for row in rows], columns=COLUMNS))


def shop() -> Catalogue:
    """The catalogue of `ITEMS`."""
    return catalogue(*ITEMS)
