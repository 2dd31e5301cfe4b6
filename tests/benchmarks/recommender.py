"""How long the recommender takes to load a dataset's histories, and to answer about a known user.

    python tests/benchmarks/recommender.py --reviews 65000

Makes a dataset of so many reviews with summaries, and adapters of random weights on the demo's base.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), *(str(Path(__file__).parents[1] / part) for part in ("", "llm"))]

import numpy as np
import pandas as pd
import served
import torch

from reason4rec import Recommender
from reason4rec.data import schema
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts

SUMMARY = "Positive Aspects: {0}, {1}\nNegative Aspects: {2}\nUser Preference Elements: {0}, {2}"
REVIEW = "The {0} is what I came for, the {1} too, and the {2} is a disappointment. "


def frame_of(reviews: int, seed: int) -> pd.DataFrame:
    """Reviews of the shape of Digital Music's: 12 a user, 18 an item, 600 characters each."""
    rng = np.random.default_rng(seed)
    words = [f"aspect{n}" for n in range(500)]
    chosen = rng.choice(words, (reviews, 3))
    return pd.DataFrame(
        {
            "user_id": [f"A{n:013d}" for n in rng.integers(0, reviews // 12, reviews)],
            "item_id": [f"B{n:09d}" for n in rng.integers(0, reviews // 18, reviews)],
            "title": "An album of some length",
            "ratings": rng.integers(1, 6, reviews).astype(float),
            "reviews": [REVIEW.format(*row) * 8 for row in chosen],
            "unixReviewTime": rng.integers(10**9, 14 * 10**8, reviews),
            artifacts.SUMMARY: [SUMMARY.format(*row) for row in chosen],
        }
    ).drop_duplicates(["user_id", "item_id", "unixReviewTime"], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=65_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        folder = root / "data" / "Demo_data"
        train = frame_of(given.reviews, seed=1)
        files.write_pickle(folder / artifacts.SUMMARIES.path, train)
        files.write_pickle(folder / schema.TEST.path, frame_of(given.reviews // 8, seed=2))
        base = str(Path(__file__).parents[2] / "reason4rec" / "demo" / "base")
        for name in ("Reasoner", "Predictor"):
            served.put_adapter(root / "checkpoints" / "Demo_data" / name, base, name == "Predictor", size=0.005)
        roots = {"data_root": root / "data", "checkpoint_root": root / "checkpoints"}
        for _ in range(given.rounds):
            start = time.perf_counter()
            recommender = Recommender.load("Demo_data", **roots, device="cpu", max_new_tokens=24)
            loaded = time.perf_counter()
            user, item = train["user_id"][0], train["item_id"][1]
            recommender.explain(user, item)
            first = time.perf_counter()
            recommender.explain(user, train["item_id"][2])
            second = time.perf_counter()
            recommender._shortlister.best({item: 4.0}, set(), 50)
            listed = time.perf_counter()
            times = (loaded - start, first - loaded, second - first, listed - second)
            names = ("load", "first answer", "second answer", "shortlist")
            print(f"{len(train):,} reviews: " + ", ".join(f"{n} {t:.2f} s" for n, t in zip(names, times)))


if __name__ == "__main__":
    main()
