"""Measure the preprocessing of dumps of growing size, and the engines that it could be built on.

    python tests/benchmarks/preprocessing.py --folder /a/disk/with/10GB [--reviews 1000000 3000000 10000000]

Makes the dumps (kept in the folder) with tests/benchmarks/make_dump.py. Each way runs in a process of its own, one
after the other: read, repeats, 5-core, last 2 months, texts of what is left. All must leave the same reviews.

ours      reason4rec.raw: Python unpacks and numbers the lines, DuckDB takes them apart, filters and joins
duckdb    DuckDB's own reader of gzipped JSON lines, same filters
polars    Polars' own, in its streaming engine (pip install polars)
"""

import argparse
import hashlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import duckdb
import make_dump
import pandas as pd

from reason4rec.data import preprocess

CORE, MONTHS = 5, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--reviews", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--one", choices=list(WAYS), help="only this way, on the first size, in this process")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.one:
        print(json.dumps(measured(args.one, dump_of(args.folder, args.reviews[0]))))
        return
    print(f"Python {platform.python_version()}, duckdb {duckdb.__version__}, pandas {pd.__version__}")
    print(
        "| reviews | GB gzipped | way | seconds | CPU seconds | reviews/s | peak GB | kept | sha256 of what is kept |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for reviews in args.reviews:
        path = dump_of(args.folder, reviews)
        if not path.exists():
            make_dump.write(path, reviews)
        for way in args.ways:
            command = [sys.executable, __file__, "--folder", args.folder, "--reviews", str(reviews), "--one", way]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            size = f"| {reviews:,} | {path.stat().st_size / 1e9:.2f} | {way} |"
            if done.returncode:
                print(f"{size} failed: {(done.stderr.strip() or 'killed').splitlines()[-1][:90]} |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{size} {found['seconds']:.1f} | {found['cpu']:.1f} | {reviews / found['seconds']:,.0f} | "
                f"{found['peak']:.2f} | "
                f"{found['kept']:,} | {found['sha256'][:12]} |",
                flush=True,
            )


def dump_of(folder: Path, reviews: int) -> Path:
    return folder / f"reviews_{reviews}.json.gz"


def measured(way: str, path: Path) -> dict:
    """Seconds by the clock and of the CPUs, peak memory in GB, and what a way left of a dump."""
    started = time.perf_counter()
    kept = WAYS[way](path)
    seconds, cpu = time.perf_counter() - started, time.process_time()
    kept = kept.sort_values(["user_id", "item_id"]).astype({"reviews": object, "user_id": object, "item_id": object})
    content = kept[["user_id", "item_id", "reviews"]].to_csv(index=False).encode()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sha256 = hashlib.sha256(content).hexdigest()
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "kept": len(kept), "sha256": sha256}


def ours(path: Path) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        splits = preprocess.preprocess(path, None, Path(scratch) / "scratch", core=CORE, months=MONTHS)
    return pd.concat([splits.train, splits.valid, splits.test])


def with_duckdb(path: Path) -> pd.DataFrame:
    texts = "reviewerID: 'VARCHAR', asin: 'VARCHAR', reviewText: 'VARCHAR'"
    columns = f"{{{texts}, overall: 'DOUBLE', unixReviewTime: 'BIGINT'}}"
    lines = (
        f"SELECT row_number() OVER () AS number, * FROM read_json('{path}', format = 'newline_delimited', "
        f"columns = {columns}, ignore_errors = true)"
    )
    with tempfile.TemporaryDirectory() as scratch, preprocess.engine(Path(scratch) / "scratch") as db:
        db.execute(
            f"""
            CREATE TABLE read AS SELECT number, reviewerID, asin, overall, unixReviewTime FROM ({lines});
            CREATE TABLE users AS SELECT reviewerID, row_number() OVER () AS "user"
                FROM (SELECT DISTINCT reviewerID FROM read);
            CREATE TABLE items AS SELECT asin, row_number() OVER () AS item FROM (SELECT DISTINCT asin FROM read);
            CREATE TABLE kept AS SELECT number, "user", item, overall AS ratings, unixReviewTime
                FROM read JOIN users USING (reviewerID) JOIN items USING (asin);
            DROP TABLE read; DROP TABLE users; DROP TABLE items;
            """
        )
        preprocess.drop_repeats(db)
        preprocess.keep_core(db, CORE)
        preprocess.keep_last_months(db, MONTHS)
        return db.execute(
            f"SELECT reviewerID AS user_id, asin AS item_id, reviewText AS reviews FROM ({lines}) "
            "SEMI JOIN kept USING (number)"
        ).df()


def with_polars(path: Path) -> pd.DataFrame:
    import polars as pl

    schema = {
        "reviewerID": pl.String,
        "asin": pl.String,
        "overall": pl.Float64,
        "reviewText": pl.String,
        "unixReviewTime": pl.Int64,
    }
    lines = pl.scan_ndjson(path, schema=schema, row_index_name="number")
    users, items = pl.col("reviewerID"), pl.col("asin")
    kept = lines.select("number", users, items, "unixReviewTime").collect(engine="streaming")
    kept = kept.with_columns(users.rank("dense").cast(pl.Int32), items.rank("dense").cast(pl.Int32))
    latest = kept.lazy().group_by("reviewerID", "asin").agg(pl.col("number").sort_by("unixReviewTime", "number").last())
    kept = kept.lazy().join(latest.select("number"), on="number", how="semi").collect(engine="streaming")
    size = None
    while size != (size := kept.height):
        kept = kept.filter((pl.len().over("reviewerID") >= CORE) & (pl.len().over("asin") >= CORE))
    times = pl.from_epoch("unixReviewTime", time_unit="s")
    kept = kept.filter(times >= times.max().dt.offset_by(f"-{MONTHS}mo")).lazy()
    left = lines.join(kept.select("number"), on="number", how="semi").collect(engine="streaming")
    named = {"user_id": users, "item_id": items, "reviews": pl.col("reviewText")}
    return left.select(**named).to_pandas()


WAYS = {"ours": ours, "duckdb": with_duckdb, "polars": with_polars}

if __name__ == "__main__":
    main()
