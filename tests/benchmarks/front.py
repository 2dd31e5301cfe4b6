"""Time the API under many questions at once, and see that nothing is lost and every answer is its own.

    python tests/benchmarks/front.py
    python tests/benchmarks/front.py --dataset Demo_data

Without --dataset it makes a toy world, whose experts have learnt nothing, in a folder that is removed again. Each round
sends all requests at once to a real server in this process. The first has distinct pairs of users and items, none of
which was asked before in this process; the second a few pairs, each many times; the third the texts of new users.
Afterwards every question is asked alone, of experts loaded anew that take no reply from the disk; an answer counts as
the same with the same reason, histories and a rating within 1e-5. The server takes the replies that the run kept
on disk, and adds none, as under `python -m reason4rec serve`: --fresh gives it an empty file for them.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "llm"), str(ROOT / "tests" / "front")]

import fastapi
import httpx2
import torch
import uvicorn
from asked import put_run, running

from reason4rec.front.app import Settings, app_of
from reason4rec.front.serve import PATIENCE
from reason4rec.llm.cache import ResponseCache
from reason4rec.run.markdown import table
from reason4rec.systems.reason4rec.asking.recommender import Recommender

TOLERANCE = 1e-5  # of a rating
REPEATED = 8  # distinct pairs of the second round
SECONDS = 3_600
COLUMNS = ["round", "requests", "distinct", "lost", "not its own", "seconds", "requests/s", "p50 s", "p95 s", "calls"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="a dataset with a finished run (default: a toy world)")
    parser.add_argument("--data_root", type=Path)
    parser.add_argument("--checkpoint_root", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max_new_tokens", type=int, help="(default: the run's; 32 in the toy world)")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--fresh", action="store_true", help="take no replies from the disk")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not args.dataset:
            root = put_run(Path(scratch), str(ROOT / "reason4rec" / "demo" / "base"))
            args.dataset, args.data_root, args.checkpoint_root = "Demo_data", root / "data", root / "checkpoints"
            args.max_new_tokens = args.max_new_tokens or 32
        measure(args, Path(scratch))


def load(args: argparse.Namespace, scratch: Path, fresh: bool) -> Recommender:
    """The experts of the run; `fresh` ones keep their replies in a file of their own, which is empty."""
    names = ("data_root", "checkpoint_root", "device", "max_new_tokens")
    experts = Recommender.load(args.dataset, **{name: getattr(args, name) for name in names})
    if fresh:
        experts.step.cache = ResponseCache(Path(tempfile.mkdtemp(dir=scratch)) / "replies.sqlite")
    return experts


def measure(args: argparse.Namespace, scratch: Path) -> None:
    experts, alone = load(args, scratch, args.fresh), load(args, scratch, fresh=True)
    experts.experts.serve_visitors(PATIENCE)
    users = [one["id"] for one in experts.known.found_users("", args.requests)]
    items = [one["id"] for one in experts.known.found_items("", args.requests)]
    pairs = [
        {"user_id": users[n % len(users)], "item_id": items[(n + n // len(users)) % len(items)]}
        for n in range(args.requests)
    ]
    new = [
        {"user_reviews": [{"title": "A record", "rating": 1 + n % 5, "text": f"Visitor {n} {WORDS[n % len(WORDS)]}."}]}
        for n in range(args.requests // 4)
    ]
    rounds = {
        "distinct pairs": pairs,
        "repeated pairs": [pairs[n % REPEATED] for n in range(args.requests)],
        "new users": [body | {"item_id": items[n % len(items)]} for n, body in enumerate(new)],
    }
    experts.explain(users[-1], items[-1])  # loads the weights
    calls: list[int] = []
    ask = experts.explain_all
    experts.explain_all = lambda questions: calls.append(len(questions)) or ask(questions)
    settings = Settings(args.dataset, queue=args.requests, timeout=SECONDS)
    rows = []
    with (
        running(app_of(experts, settings)) as address,
        httpx2.Client(limits=httpx2.Limits(), timeout=SECONDS) as client,
    ):
        for name, bodies in rounds.items():
            calls.clear()
            began = time.perf_counter()
            replies = at_once(client, f"{address}/api/explain", bodies)
            seconds = time.perf_counter() - began
            rows.append([name, len(bodies), *judged(bodies, replies, alone), *pace(replies, seconds), len(calls)])
    print(
        f"{datetime.date.today()}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, device {args.device},"
    )
    print(f"Python {platform.python_version()}, torch {torch.__version__}, fastapi {fastapi.__version__},")
    print(f"uvicorn {uvicorn.__version__}; {args.dataset}: {experts.model}\n")
    print(table(COLUMNS, rows))
    if any(row[3] or row[4] for row in rows):
        sys.exit("an answer was lost or is not its own")


WORDS = ("liked the warm sound", "found it too long", "praises the singing", "was bored by the second half")


def at_once(client: httpx2.Client, address: str, bodies: Sequence[dict]) -> list[tuple[float, int, dict]]:
    """The seconds, status and content of the reply to each request, all of which are sent at once."""

    def ask(body: dict) -> tuple[float, int, dict]:
        began = time.perf_counter()
        reply = client.post(address, json=body)
        return time.perf_counter() - began, reply.status_code, reply.json()

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, bodies))


def judged(bodies: Sequence[dict], replies: Sequence[tuple[float, int, dict]], alone: Recommender) -> tuple:
    """How many questions are distinct, how many have no answer, and how many another answer than when asked alone."""
    found: dict[str, tuple] = {}
    wrong = 0
    for body, (_, status, reply) in zip(bodies, replies):
        if repr(body) not in found:
            found[repr(body)] = _told(alone.explain(**body))
        if status == 200:
            rating, *texts = found[repr(body)]
            wrong += texts != _texts(reply) or abs(reply["rating"] - rating) > TOLERANCE
    return len(found), sum(status != 200 for _, status, _ in replies), wrong


def _told(answer: object) -> tuple:
    return (
        answer.rating,
        answer.user_id,
        answer.item_id,
        answer.reason,
        *([entry.text for entry in side] for side in (answer.user_history, answer.item_history)),
    )


def _texts(reply: dict) -> list:
    sides = [[entry["text"] for entry in reply[name]] for name in ("user_history", "item_history")]
    return [reply["user_id"], reply["item_id"], reply["reason"], *sides]


def pace(replies: Sequence[tuple[float, int, dict]], seconds: float) -> tuple[str, ...]:
    """Seconds, requests a second, and the latencies that half and 95% of the requests stay below."""
    taken = sorted(one for one, _, _ in replies)
    half, most = statistics.median(taken), taken[min(len(taken) - 1, int(0.95 * len(taken)))]
    return f"{seconds:.1f}", f"{len(replies) / seconds:.1f}", f"{half:.2f}", f"{most:.2f}"


if __name__ == "__main__":
    main()
