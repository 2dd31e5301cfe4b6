"""Time threads that spin and threads that sleep while they wait, alone and beside a busy neighbour.

    python tests/benchmarks/threads.py --rounds 3

The demo's tiny model on a CPU. Each way is a process of its own that writes and scores prompts, and trains; the ways
take turns. The neighbour is one process that keeps one core busy. A run that takes longer than --limit is ended, and
counts as that long.
"""

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reason4rec.run.markdown import table

WAYS = {
    "one thread": {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    "threads spin": {"OMP_WAIT_POLICY": "ACTIVE"},
    "libgomp's own way": {"OMP_WAIT_POLICY": ""},
    "threads sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "threads sleep after 1,000 turns (ours)": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"},
    "threads sleep after 20,000 turns": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"},
}
WORK = """
import sys, time
sys.path[:0] = ["{root}", "{root}/tests/benchmarks"]
import torch
from inference import made_up, twelve_each, BASE, CLASS
from reason4rec.llm.local import load
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS
model = load(str(BASE), None, "cpu")
reviews = made_up()
asked = [prompts.summarizer(CLASS, r.title, r.ratings, r.reviews) for r in reviews.head(96).itertuples()]
scored = twelve_each(reviews, 6)
started = time.perf_counter()
model.generate(asked, 48, what="")
model.choice_probabilities(scored, RATINGS, RATING_PREFIX, what="")
row = torch.randint(0, 1000, (8, 256))
model.model.train()
for _ in range(6):
    model.model(input_ids=row, labels=row).loss.backward()
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=120, help="seconds")
    args = parser.parse_args()
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(args.rounds):
        for busy in (False, True):
            for name, variables in WAYS.items():
                found.setdefault((name, busy), []).append(timed(variables, busy, args.limit))
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, {args.rounds} rounds, medians\n")
    rows = []
    for name in WAYS:
        alone, beside = (statistics.median(found[name, busy]) for busy in (False, True))
        spread = " ".join(f"{one:.1f}" for one in found[name, True])
        rows.append([name, f"{alone:.1f}", f"{beside:.1f}", spread, f"{beside / alone:.1f}"])
    print(table(["way", "seconds alone", "seconds beside a neighbour", "each of them", "ratio"], rows))


def timed(variables: dict[str, str], busy: bool, limit: int) -> float:
    """The seconds of the work in a process with these variables."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS",)}
    environment |= variables | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not environment["OMP_WAIT_POLICY"]:
        # The package sets it where it is not; a value that libgomp does not know leaves it to its own way.
        environment["OMP_WAIT_POLICY"] = "UNDEFINED"
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    started = time.perf_counter()
    try:
        command = [sys.executable, "-c", WORK.format(root=ROOT)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=True)
        return float(done.stdout.split()[-1])
    except subprocess.TimeoutExpired:
        return time.perf_counter() - started
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


if __name__ == "__main__":
    main()
