"""Which items of a catalogue the experts are asked about: a cheap model's choice, from ratings alone.

An item's score for a user is its damped mean rating, and what the user's own ratings add to it by a truncated singular
value decomposition of all ratings, from which item and user biases are taken. Our decision; the paper predicts ratings
and recommends nothing.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reason4rec.evaluation.metrics import BIAS_DAMPING

NAME = "item bias and truncated SVD of the ratings"
FACTORS = 16  # our decision
SHORTLIST = 50  # items that the experts are asked about, of all; our decision


class Shortlister:
    """Scores the items of training reviews for a user's ratings. Its memory is a row of numbers an item."""

    def __init__(self, train: pd.DataFrame, seed: int):
        from scipy.sparse import csr_array
        from sklearn.decomposition import TruncatedSVD

        latest = train.sort_values("unixReviewTime", kind="stable").drop_duplicates(["user_id", "item_id"], keep="last")
        users, _ = pd.factorize(latest["user_id"])
        items, known = pd.factorize(latest["item_id"])
        self.items = {item: place for place, item in enumerate(known)}
        self.overall = float(latest["ratings"].mean())
        rest = latest["ratings"].to_numpy(dtype=float) - self.overall
        self.bias = np.bincount(items, rest) / (np.bincount(items) + BIAS_DAMPING)
        rest = rest - self.bias[items]
        rest -= (np.bincount(users, rest) / (np.bincount(users) + BIAS_DAMPING))[users]
        factors = min(FACTORS, len(self.items) - 1, users.max())
        self.vectors = np.zeros((len(self.items), 0))
        if factors >= 1:
            svd = TruncatedSVD(factors, random_state=seed).fit(csr_array((rest, (users, items))))
            self.vectors = svd.components_.T

    def best(self, rated: Mapping[str, float], without: set[str], most: int) -> list[str]:
        """At most so many items with the highest scores for a user who gave these ratings (by item), best first.

        None of `without` is among them; those of one score stand in the order of their ids.
        """
        ratings = {self.items[item]: rating for item, rating in rated.items() if item in self.items}
        places = np.fromiter(ratings, dtype=int, count=len(ratings))
        rest = np.fromiter(ratings.values(), dtype=float, count=len(ratings)) - self.overall - self.bias[places]
        rest -= rest.sum() / (len(rest) + BIAS_DAMPING)
        scores = self.bias + self.vectors @ (self.vectors[places].T @ rest)
        ordered = sorted(self.items, key=lambda item: (-round(scores[self.items[item]], 9), item))
        return [item for item in ordered if item not in without][:most]
