"""Fetch the public raw files of a known dataset, or say which files a person must fetch and where they go.

    python 0_Data/1_download.py --dataset Music_data

Writes raw/ in the dataset's folder; a file that is there already is kept
With --what preprocessed it fetches nothing and tells how to start from the paper's own pre-processed files. Yelp Open
asks for a person's consent, so for Yelp_data it also only tells what is in place.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.catalog import ARCHIVES, DOWNLOADS, PAGES
from reason4rec.data.download import check, fetch
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.run import locks
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, TEACHER_REASONS

PREPROCESSED = [artifact.path for artifact in (TRAIN, TEST, SUMMARIES, TEACHER_REASONS)]


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--what", choices=("raw", "preprocessed"), default="raw", help="which files of the dataset")
    parser.add_argument("--mirror", metavar="URL", help="fetch files of the same names from this address instead")


def run(args: argparse.Namespace) -> None:
    dataset = utils.dataset_of(args)
    if args.what == "preprocessed":
        if not dataset.paper:
            raise InputError(f"the paper's archive holds no {args.dataset}; start from 0_Data/2_preprocess.py")
        print("The archive is linked from the README of the paper's own repository; a person must fetch it.")
        list_places(args, PREPROCESSED)
        say_next(args, "bash run_all.sh", "--from", "2/5")
        return
    if args.dataset not in DOWNLOADS:
        raise InputError(f"no public files of {args.dataset} are known, only of {', '.join(DOWNLOADS)}")
    if args.dataset in PAGES:
        print(f"{args.dataset} is at {PAGES[args.dataset]} ; a person must accept its terms and fetch it.")
        print(f"{ARCHIVES[args.dataset]} may also be put in their place as it is:")
        archive = args.data_root / args.dataset / "raw" / ARCHIVES[args.dataset]
        files = [archive.name] if archive.is_file() else [download.name for download in DOWNLOADS[args.dataset]]
        list_places(args, [f"raw/{name}" for name in files])
    else:
        fetch_all(args)
    say_next(args, "python 0_Data/2_preprocess.py")


def fetch_all(args: argparse.Namespace) -> None:
    started, fetched, total = time.perf_counter(), 0, 0
    for download in DOWNLOADS[args.dataset]:
        path = args.data_root / args.dataset / "raw" / download.name
        if path.exists() and not args.overwrite:
            sha256, how = check(download, path, str(path)), "kept"
        else:
            url = f"{args.mirror.rstrip('/')}/{download.name}" if args.mirror else download.url
            if holder := locks.lock(path):
                raise InputError(f"{path} is being fetched by another run ({holder}): wait until it has ended")
            sha256, how = fetch(download, url, path), "fetched"
            fetched += 1
        total += path.stat().st_size
        print(f"{how}: {path}, {path.stat().st_size:,} bytes, sha256 {sha256}")
    seconds = time.perf_counter() - started
    print(f"[1_download] files fetched {fetched} of {len(DOWNLOADS[args.dataset])} | {total:,} bytes | {seconds:.1f} s")


def list_places(args: argparse.Namespace, names: Sequence[str]) -> None:
    paths = [args.data_root / args.dataset / name for name in names]
    print("Put these files in their places:")
    for path in paths:
        print(f"  {'in place' if path.is_file() else 'missing':<8}  {path}")
    print(f"[1_download] files in place {sum(path.is_file() for path in paths)} of {len(paths)}")


def say_next(args: argparse.Namespace, script: str, *given: str) -> None:
    root = [] if args.data_root == Path("0_Data") else ["--data_root", str(args.data_root)]
    print(f"next: {script} {shlex.join(['--dataset', args.dataset, *given, *root])}")


if __name__ == "__main__":
    utils.main(run, __doc__, flags)
