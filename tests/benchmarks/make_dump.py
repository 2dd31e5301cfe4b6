"""Write a made-up dump of reviews of any size in Amazon's format of 2014, to measure the preprocessing with.

    python tests/benchmarks/make_dump.py --reviews 10000000 --out books_10m.json.gz

Users and items follow power laws with as many users and items a review as Amazon Books 2014 has (22.5 million reviews
by 8 million users of 2.3 million items); text lengths are log-normal with a median of 480 and a mean of about 790
characters. The text is word salad, so nothing can be learned from it.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

USERS, ITEMS = 8 / 22.5, 2.3 / 22.5  # a review
DAY = 86_400
FIRST_DAY, LAST_DAY = 10_957, 16_270  # 2000-01-01 to 2014-07-18, in days since 1970
PART = 100_000
POOL = 2_000_000  # words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="gzipped where it ends in .gz")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, args.reviews, args.seed)


def write(path: Path, reviews: int, seed: int = 0) -> None:
    """Writes the dump: JSON lines in the order of the items, as Amazon's are."""
    random = np.random.default_rng(seed)
    pool = word_salad(random)
    users = powers(random, int(reviews * USERS), reviews)
    items = np.sort(powers(random, int(reviews * ITEMS), reviews))
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        for start in range(0, reviews, PART):
            part = slice(start, min(start + PART, reviews))
            file.write(lines(random, pool, users[part], items[part]).encode())


def word_salad(random: np.random.Generator) -> str:
    """A long text of words as common as words are, already escaped as JSON has it."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = random.integers(2, 10, 30_000)
    words = ["".join(letters[(random.pareto(1.2, n) * 3).astype(int) % 26]) for n in lengths]
    words[40], words[90], words[200] = '\\"well\\"', "\\n", "na\\u00efve"
    ranks = (random.pareto(0.9, POOL) * 10).astype(int) % len(words)
    return " ".join(words[rank] for rank in ranks)


def powers(random: np.random.Generator, kinds: int, draws: int) -> np.ndarray:
    """(draws,) numbers below `kinds`, of which few are drawn often and most seldom."""
    return np.minimum(kinds * random.random(draws) ** 2.2, kinds - 1).astype(int)


def lines(random: np.random.Generator, pool: str, users: np.ndarray, items: np.ndarray) -> str:
    """The JSON lines of some reviews."""
    size = len(users)
    lengths = np.minimum(random.lognormal(np.log(480), 1, size).astype(int), 30_000)
    starts = random.integers(0, len(pool) - 40_000, size)
    ratings = random.choice(5, size, p=[0.05, 0.05, 0.1, 0.25, 0.55]) + 1
    times = (random.triangular(FIRST_DAY, LAST_DAY, LAST_DAY, size).astype(int)) * DAY
    return "".join(
        f'{{"reviewerID": "A{user:013d}", "asin": "B{item:09d}", "helpful": [0, 0], '
        f'"reviewText": {text(pool, start, length)}, "overall": {rating}.0, "summary": "A made-up review", '
        f'"unixReviewTime": {time}, "reviewTime": "01 1, 2000"}}\n'
        for user, item, start, length, rating, time in zip(users, items, starts, lengths, ratings, times)
    )


def text(pool: str, start: int, length: int) -> str:
    """A piece of the pool that begins and ends between words, as a JSON text."""
    start = pool.index(" ", start) + 1
    return f'"{pool[start : pool.index(" ", start + length)]}"'


if __name__ == "__main__":
    main()
