"""Time writing and scoring with a real small model on a CPU, beside an earlier version of the project.

    git worktree add EARLIER COMMIT
    python tests/benchmarks/real_model.py --before EARLIER --prompts 24 --new_tokens 48 --rounds 3

The base is smollm2-135m with an adapter of rank 16 whose weights are drawn at random, on reviews of Musical Instruments
where shared/ holds them, else on the demo's. Each version is a process of its own that holds its model; they work in
turn, so that a busy machine slows them alike. Medians count. Writing: the prompts of summaries. Scoring: the same
prompts, none of which shares more than its beginning with another.
"""

import argparse
import datetime
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
REVIEWS = ROOT.parent / "shared/data/amazon_musical_instruments_2014/reviews_Musical_Instruments_5.json.gz"
MAX_LENGTH = 2048
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="folder of an earlier version")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--new_tokens", type=int, default=48, help="tokens of the longest reply")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(json.loads(args.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        given = prepared(Path(folder), args)
        ways = {"before": started(args.before, given, args.threads), "now": started(ROOT, given, args.threads)}
        ready = {way: json.loads(process.stdout.readline()) for way, process in ways.items()}
        load, runs = os.getloadavg()[0], {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, process in ways.items():
                process.stdin.write("go\n")
                process.stdin.flush()
                runs[way].append(json.loads(process.stdout.readline()))
                print(way, *(f"{what} {runs[way][-1][what]}" for what in ("writing", "scoring")), file=sys.stderr)
        for process in ways.values():
            process.stdin.close()
            process.wait()
    show(args, ready, runs, load)


def prepared(folder: Path, args: argparse.Namespace) -> dict:
    """The base's folder, an adapter for it, and reviews: what both versions are given."""
    sys.path.insert(0, str(ROOT))
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from reason4rec.demo import world
    from reason4rec.llm.known_bases import located

    base = located("smollm2-135m")
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=list(TARGETS))
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 1e-3)
    adapted.save_pretrained(folder / "adapter")
    if REVIEWS.exists():
        with gzip.open(REVIEWS, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for _, line in zip(range(args.prompts), file)]
        reviews = [(row["overall"], row["reviewText"]) for row in rows]
    else:
        frame = world.as_frame(*world.raw_records(120, 40, seed=11)).head(args.prompts)
        reviews = list(zip(frame["ratings"], frame["reviews"]))
    return {"base": str(base), "adapter": str(folder / "adapter"), "reviews": reviews, "new_tokens": args.new_tokens}


def started(root: Path, given: dict, threads: int) -> subprocess.Popen:
    """A version in a process of its own, which loads its model and then works whenever it reads a line."""
    command = [
        sys.executable,
        str(HERE),
        "--before",
        ".",
        "--worker",
        json.dumps(given | {"root": str(root.resolve())}),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def work(given: dict) -> None:
    """A version at work: a line of JSON when its model is there, and one for each line that it reads."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, given["root"])
    clock = time.perf_counter()
    from reason4rec.llm.local import load
    from reason4rec.llm.tokens import chat_ids, plain_ids
    from reason4rec.systems.reason4rec import prompts

    asked = [prompts.summarizer("Musical Instrument", "item", *review) for review in given["reviews"]]
    model = load(given["base"], Path(given["adapter"]), "cpu", MAX_LENGTH)
    read = sum(len(chat_ids(model.tokenizer, prompt.text)) for prompt in asked)
    print(json.dumps({"seconds": time.perf_counter() - clock, "read": read}), file=answers, flush=True)
    for _ in sys.stdin:
        found = {}
        for what in ("writing", "scoring"):
            clock, cpu = time.perf_counter(), time.process_time()
            if what == "writing":
                texts = model.generate(asked, max_new_tokens=given["new_tokens"], what="")
                found["written"] = sum(len(plain_ids(model.tokenizer, text)) for text in texts)
            else:
                rated = model.choice_probabilities(asked, prompts.RATINGS, prompts.RATING_PREFIX, what="")
                found["rating"] = (rated @ [1, 2, 3, 4, 5]).tolist()
            found[what] = [time.perf_counter() - clock, time.process_time() - cpu]
        print(json.dumps(found), file=answers, flush=True)


def show(args: argparse.Namespace, ready: dict, runs: dict, load: float) -> None:
    from reason4rec.run.markdown import table

    rows = []
    for what in ("writing", "scoring"):
        medians = {way: [statistics.median(run[what][k] for run in runs[way]) for k in (0, 1)] for way in runs}
        for way, (seconds, cpu) in medians.items():
            written = runs[way][0]["written"]
            tokens = f"{written:,} written" if what == "writing" else f"{ready[way]['read']:,} read"
            ratio = [f"{before / now:.1f}" for before, now in zip(medians["before"], medians[way])]
            rows.append([what, tokens, way, f"{seconds:.1f}", f"{cpu:.1f}", *ratio])
    print(table(["what", "tokens", "way", "seconds", "CPU seconds", "ratio", "ratio of CPU seconds"], rows))
    apart = max(abs(a - b) for a, b in zip(runs["before"][0]["rating"], runs["now"][0]["rating"]))
    ready_after = " and ".join(f"{one['seconds']:.0f}" for one in ready.values())
    print(
        f"\n{args.prompts} prompts, medians of {args.rounds} rounds in turn, {args.threads} threads, a load of "
        f"{load:.1f} on {os.cpu_count()} cores; ready after {ready_after} s; ratings at most {apart:.2f} apart. Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}, "
        f"{datetime.date.today()}."
    )


if __name__ == "__main__":
    main()
