"""Time the history index beside a scan of the whole frame per target, and check that both find the same histories.

    python tests/benchmarks/histories.py --targets 3000

The made-up reviews are as many as Music_data has, by as many users of as many items; every row is a target. The index
answers all targets, its building included; `--targets` limits those that are scanned, and the ratio compares the CPU
time a target. Then the index alone, on frames of the same kind up to 1,048,576 rows: it is linear where the time a
target stays.
"""

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec.data.history import Entry, History, HistoryIndex

ROWS, USERS, ITEMS = 64_706, 5_541, 3_568  # Music_data
CORE = 5  # reviews that each user and each item has at least
TAIL = 3  # exponent of the power law above it; fits the first 382 items of the real 5-core file
GROWTH = (2**14, 2**16, 2**18, 2**20)
LENGTH = 10
PART = 2**16
DAY = 86_400
FIRST_DAY, LAST_DAY = 10_344, 16_258  # 1998-04-28 to 2014-07-07, in days since 1970


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=ROWS, help="how many targets to scan")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    lines = [row("rows", "targets", "way", "CPU seconds", "microseconds a target", "ratio"), row(*["---"] * 6)]
    reviews = made_up(ROWS, args.seed)
    targets = reviews.sample(n=min(args.targets, ROWS), random_state=args.seed)

    started = time.process_time()
    histories = HistoryIndex(reviews, "reviews", LENGTH).of_rows(reviews)
    index_seconds = time.process_time() - started
    by_label = dict(zip(reviews.index, histories))
    scan_seconds = scan_all(reviews, targets, by_label)

    ratio = (scan_seconds / len(targets)) / (index_seconds / ROWS)
    lines.append(row(*timing(ROWS, len(targets), "scan", scan_seconds), "1"))
    lines.append(row(*timing(ROWS, ROWS, "index", index_seconds), f"{ratio:,.0f} times faster"))
    del histories, by_label
    for rows in GROWTH:
        lines.append(row(*timing(rows, rows, "index", seconds_of_index(made_up(rows, args.seed))), "-"))

    print("\n".join(lines))
    users, items = (reviews[column].value_counts() for column in ("user_id", "item_id"))
    again = int(reviews.duplicated(["user_id", "item_id"]).sum())
    print(
        f"\nEqual in both ways: {len(targets):,} histories. At most {users.max()} reviews by a user and {items.max()} "
        f"of an item; {again} of an item that the user had reviewed. Python {platform.python_version()}, numpy "
        f"{np.__version__}, pandas {pd.__version__}, {datetime.date.today()}."
    )


def made_up(rows: int, seed: int) -> pd.DataFrame:
    """Reviews in the order of the items, with as many users and items a review as Music_data has.

    A user picks the days of his reviews among as many days as he has reviews, so many are of one day. Some users
    review an item twice, which no real 5-core file has: those tell whether an item's entries are by others.
    """
    random = np.random.default_rng(seed)
    of_user = skewed(random, round(rows * USERS / ROWS), rows)
    users = random.permutation(np.repeat(np.arange(len(of_user)), of_user))
    of_item = skewed(random, round(rows * ITEMS / ROWS), rows)
    items = np.repeat(np.arange(len(of_item)), of_item)
    days = random.integers(FIRST_DAY, LAST_DAY + 1, rows)
    picked = (np.cumsum(of_user) - of_user)[users] + (random.random(rows) * of_user[users]).astype(int)
    return pd.DataFrame(
        {
            "user_id": [f"A{user:013d}" for user in users],
            "item_id": [f"B{item:09d}" for item in items],
            "title": [f"Album {item}" for item in items],
            "ratings": random.choice(5, rows, p=[0.02, 0.02, 0.07, 0.21, 0.68]) + 1.0,
            "reviews": [f"review {k}" for k in range(rows)],
            "unixReviewTime": days[picked] * DAY,
        }
    )


def skewed(random: np.random.Generator, kinds: int, rows: int) -> np.ndarray:
    """(kinds,) counts that sum to `rows`: at least `CORE` each, the rest by a power law."""
    weights = random.pareto(TAIL, kinds)
    shares = np.cumsum(weights) / weights.sum() * (rows - CORE * kinds)
    return CORE + np.diff(np.rint(shares).astype(int), prepend=0)


def scan_all(reviews: pd.DataFrame, targets: pd.DataFrame, expected: dict[int, History]) -> float:
    """Scans for every target and compares with the expected histories; the CPU seconds of the scans alone."""
    ordered = reviews.sort_values("unixReviewTime", kind="stable")
    seconds = 0.0
    for target in tqdm(targets.itertuples(), total=len(targets), desc="scan", unit="target"):
        started = time.process_time()
        found = scan(ordered, target.user_id, target.item_id, target.unixReviewTime)
        seconds += time.process_time() - started
        if as_history(*found) != expected[target.Index]:
            raise SystemExit(f"row {target.Index}: the scan and the index differ\n{as_history(*found)}")
    return seconds


def scan(train: pd.DataFrame, user_id: str, item_id: str, before: int) -> tuple:
    """The history of one target by masks over a whole frame in the order of time: last entries, averages, counts."""
    earlier = train["unixReviewTime"] < before
    of_user = train[(train["user_id"] == user_id) & earlier]
    of_item = train[(train["item_id"] == item_id) & earlier]
    by_others = of_item[of_item["user_id"] != user_id]
    averages = of_user["ratings"].mean(), of_item["ratings"].mean()
    return of_user.tail(LENGTH), by_others.tail(LENGTH), *averages, len(of_user), len(of_item)


def as_history(
    user: pd.DataFrame, item: pd.DataFrame, user_average: float, item_average: float, *counts: int
) -> History:
    """What a scan found, as the index gives it."""
    sides = [tuple(Entry(*entry) for entry in zip(f["title"], f["ratings"], f["reviews"])) for f in (user, item)]
    averages = [None if np.isnan(average) else float(average) for average in (user_average, item_average)]
    return History(*sides, *averages, *counts)


def seconds_of_index(reviews: pd.DataFrame) -> float:
    """The CPU seconds to build the index of a frame and to look up every row, in parts that are not kept."""
    started = time.process_time()
    index = HistoryIndex(reviews, "reviews", LENGTH)
    for start in range(0, len(reviews), PART):
        index.of_rows(reviews.iloc[start : start + PART])
    return time.process_time() - started


def timing(rows: int, targets: int, way: str, seconds: float) -> tuple[str, ...]:
    return f"{rows:,}", f"{targets:,}", way, f"{seconds:.2f}", f"{seconds / targets * 1e6:,.1f}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
