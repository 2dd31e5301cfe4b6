"""Fetch the public raw files of a known dataset, or say which files a person must fetch and where they go.

    python 0_Data/1_download.py --dataset Music_data

Writes raw/ in the dataset's folder; a file that is there already is kept
With --what preprocessed it fetches nothing and tells how to start from the paper's own pre-processed files. Yelp Open
asks for a person's consent, so for Yelp_data it also only tells what is in place.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils
from reason4rec.data.catalog import ARCHIVES, DOWNLOADS, PAGES
from reason4rec.data.download import check, fetch
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.errors import InputError
from reason4rec.run import locks
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, TEACHER_REASONS
from reason4rec.systems.reason4rec.baselines import without_valid
from reason4rec.systems.reason4rec.options import Download

PREPROCESSED = (TRAIN, TEST, SUMMARIES, TEACHER_REASONS)


def run(step: utils.ExpertStep) -> None:
    name = step.dataset.name
    if step[Download].what == "preprocessed":
        if not step.dataset.paper:
            raise InputError(f"the paper's archive holds no {name}; start from 0_Data/2_preprocess.py")
        print("The archive is linked from the README of the paper's own repository; a person must fetch it.")
        list_places(step, [step.path(artifact) for artifact in PREPROCESSED])
        valid = step.path(VALID)
        print(f"validation rows: {valid}" if valid.exists() else f"3/5 will leave out {without_valid(valid)}.")
        say_next(step, "bash run_all.sh", "--from", "2/5")
        return
    if name not in DOWNLOADS:
        raise InputError(f"no public files of {name} are known, only of {', '.join(DOWNLOADS)}")
    if name in PAGES:
        print(f"{name} is at {PAGES[name]} ; a person must accept its terms and fetch it.")
        print(f"{ARCHIVES[name]} may also be put in their place as it is:")
        archive = step.folder / "raw" / ARCHIVES[name]
        names = [archive.name] if archive.is_file() else [download.name for download in DOWNLOADS[name]]
        list_places(step, [step.folder / "raw" / one for one in names])
    else:
        fetch_all(step)
    say_next(step, "python 0_Data/2_preprocess.py")


def fetch_all(step: utils.ExpertStep) -> None:
    started, fetched, total = time.perf_counter(), 0, 0
    downloads, mirror = DOWNLOADS[step.dataset.name], step[Download].mirror
    for download in downloads:
        path = step.folder / "raw" / download.name
        if path.exists() and not step.common.overwrite:
            sha256, how = check(download, path, str(path)), "kept"
        else:
            url = f"{mirror.rstrip('/')}/{download.name}" if mirror else download.url
            if holder := locks.lock(path):
                raise InputError(f"{path} is being fetched by another run ({holder}): wait until it has ended")
            sha256, how = fetch(download, url, path), "fetched"
            fetched += 1
        total += path.stat().st_size
        print(f"{how}: {path}, {path.stat().st_size:,} bytes, sha256 {sha256}")
    seconds = time.perf_counter() - started
    print(f"[1_download] files fetched {fetched} of {len(downloads)} | {total:,} bytes | {seconds:.1f} s")


def list_places(step: utils.ExpertStep, paths: Sequence[Path]) -> None:
    print("Put these files in their places:")
    for path in paths:
        print(f"  {'in place' if path.is_file() else 'missing':<8}  {path}")
    print(f"[1_download] files in place {sum(path.is_file() for path in paths)} of {len(paths)}")


def say_next(step: utils.ExpertStep, script: str, *more: str) -> None:
    root = [] if step.common.data_root is None else ["--data_root", str(step.common.data_root)]
    print(f"next: {script} {shlex.join(['--dataset', step.dataset.name, *more, *root])}")


if __name__ == "__main__":
    utils.start(run, __doc__)
