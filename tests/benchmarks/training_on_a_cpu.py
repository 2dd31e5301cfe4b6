"""Time the trainer on a CPU beside that of an earlier commit, with a real small base.

    python tests/benchmarks/training_on_a_cpu.py --before dfcf593

Both train the same made-up rows of the Summarizer and of the Predictor, each run in a process of its own, in turn; the
earlier code comes from a worktree of git. Seconds are of the training alone, without loading; those of the CPU say more
where the machine is shared. The peak is that of the whole process.
"""

import argparse
import datetime
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[2]
WORDS = "the a of and strings sound great price guitar album voice it was not very melody I bought this works well but"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="dfcf593", help="the earlier commit")
    parser.add_argument("--base_model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=8, help="in one step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train", nargs=2, metavar=("CODE", "ADAPTER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(*args.train, args.base_model, args.rows)
        return
    sys.path.insert(0, str(ROOT))
    from reason4rec.llm.known_bases import located

    base = str(located(args.base_model))
    with tempfile.TemporaryDirectory() as folder:
        before = str(Path(folder) / "before")
        subprocess.run(["git", "worktree", "add", "--detach", before, args.before], cwd=ROOT, check=True)
        try:
            compare({args.before: before, "now": str(ROOT)}, base, args)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)


def compare(codes: dict[str, str], base: str, args: argparse.Namespace) -> None:
    """Trains with each code in turn and prints the medians."""
    print(row_of("adapter", "code", "tokens", "seconds", "CPU seconds", "tokens / CPU second", "ratio", "peak", "loss"))
    print(row_of(*["---"] * 9))
    for adapter in ("Summarizer", "Predictor"):
        found: dict[str, list[dict]] = {name: [] for name in codes}
        for _ in range(args.repeats):
            for name, code in codes.items():
                words = ["--train", code, adapter, "--base_model", base, "--rows", str(args.rows)]
                run = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
                found[name].append(json.loads(run.stdout.splitlines()[-1]))
        medians = {
            name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
        }
        slowest = medians[args.before]["cpu"]
        for name, of in medians.items():
            numbers = f"{of['seconds']:.1f}", f"{of['cpu']:.1f}", f"{of['tokens'] / of['cpu']:,.0f}"
            ratio, peak = f"{slowest / of['cpu']:.2f}", f"{of['peak']:.1f} GB"
            print(row_of(adapter, name, f"{of['tokens']:,}", *numbers, ratio, peak, f"{of['loss']:.4f}"), flush=True)
    import torch
    import transformers
    import trl

    print(
        f"\nMedians of {args.repeats}. Python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, trl {trl.__version__}, {torch.get_num_threads()} thread(s), "
        f"{datetime.date.today()}."
    )


def train(code: str, adapter: str, base: str, n_rows: int) -> None:
    """Trains one step with the code in a folder, and prints what it took as a line of JSON."""
    sys.path.insert(0, code)
    import torch
    from transformers import AutoConfig

    from reason4rec.llm import bases
    from reason4rec.systems.reason4rec.experts import EXPERTS
    from reason4rec.training import trainer as trainer_module
    from reason4rec.training.recipe import OPTIMIZER

    recipe = EXPERTS[adapter].recipe.__dict__ | {"epochs": 1, "batch_size": n_rows, "warmup": 0}
    way = {"engine": "transformers", "device": "cpu", "processes": 1, "sharded": False, "gradient_accumulation": 1}
    # What both codes would choose by themselves; the earlier one knows no other dtype than fp32.
    chosen = getattr(bases, "dtype_on", lambda *_: torch.float32)("cpu", AutoConfig.from_pretrained(base))
    checkpointing = None if hasattr(bases, "dtype_on") else False
    way |= {"padding_free": True, "gradient_checkpointing": checkpointing, "dtype": str(chosen).removeprefix("torch.")}
    settings = recipe | way | {"base_model": base, "max_length": 4096, "optimizer": OPTIMIZER}
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = trainer_module.build_trainer(made_up(adapter, n_rows), settings, 42, Path(folder))
        trainer.args.save_strategy = "no"
        started = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    tokens = sum(map(len, trainer.train_dataset["input_ids"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    loss = trainer.state.log_history[0]["loss"]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "tokens": tokens, "peak": peak, "loss": loss}))


def made_up(adapter: str, n: int) -> list[dict]:
    """Rows of the Summarizer or the Predictor, as long as those of real reviews."""
    from reason4rec.data.history import Entry, History
    from reason4rec.llm.prompt import training_row
    from reason4rec.systems.reason4rec import prompts

    draw = random.Random(7)

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS.split(), k=draw.randint(least, most)))

    rows = []
    for _ in range(n):
        if adapter == "Summarizer":
            answer = f"Positive Aspects: {text(8, 20)}\nNegative Aspects: {text(4, 12)}"
            rows.append(training_row(prompts.summarizer("Album", text(2, 4), 4.0, text(80, 700)), answer))
        else:
            entries = tuple(Entry(text(2, 4), 4.0, text(10, 30)) for _ in range(draw.randint(3, 10)))
            prompt = prompts.predictor("Album", text(2, 4), History(entries, entries, 4.0, 4.0), text(20, 60))
            rows.append(training_row(prompt, prompts.rating_answer(draw.randint(1, 5))))
    return rows


def row_of(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
