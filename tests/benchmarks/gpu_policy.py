"""Measure steps of a training by a reward on a GPU: seconds and memory, on a ladder of sizes.

    python tests/benchmarks/gpu_policy.py --folder /a/disk/with/25GB
    python tests/benchmarks/gpu_policy.py --folder FOLDER --shape tiny --device cpu

The last only shows that this script works. Nothing is downloaded: the base has random weights and is the one that
gpu.py makes and keeps in the folder. Every rung is printed when it is done and is a process of its own, so that a rung
that runs out of memory ends no other. Beside the measured memory stands what the dry run says of the same step.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

import gpu

from reason4rec.run import files
from reason4rec.run.markdown import table

# Tokens of a prompt and of a completion, prompts in a step, completions of each: from a smoke test to the recipes of
# 2/8 (Reason4Rec), T/7 (TWiCE-Rec) and the released one of GREAM.
LADDER = {
    "8b": (
        (512, 32, 2, 4),
        (1_500, 128, 4, 8),
        (3_000, 256, 8, 8),
        (3_000, 256, 12, 8),
        (5_300, 300, 8, 16),
        (768, 1_560, 32, 10),
    ),
    "tiny": ((24, 8, 2, 2), (48, 8, 2, 4)),
}
STEPS = 3  # the first is not measured
HEADER = ["prompt", "completion", "prompts a step", "draws of each", "s a step", "GB", "GB computed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the weights are kept")
    parser.add_argument("--shape", choices=gpu.SHAPES, default="8b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rungs", type=int, nargs="+", help="only these of the ladder, from 0")
    parser.add_argument("--rung", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    ladder = LADDER[args.shape]
    if args.rung is not None:
        print(json.dumps(measured(args, *ladder[args.rung])))
        return
    if not gpu.folder_of(args).is_dir():
        gpu.make_base(args)
    print(f"{gpu.heading(args)}\n", flush=True)
    print(table(HEADER, []), flush=True)
    for rung in args.rungs or range(len(ladder)):
        kept = ["--folder", args.folder, "--shape", args.shape, "--device", args.device, "--rung", rung]
        done = subprocess.run(
            [sys.executable, __file__, *map(str, kept)], capture_output=True, text=True, check=False, cwd=ROOT
        )
        said = " | ".join(f"{value:,}" for value in ladder[rung])
        if done.returncode:
            why = (done.stderr.strip() or "killed").splitlines()[-1][:120].replace("|", "/")
            print(f"| {said} | failed: {why} | | |", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {said} | {found['seconds']:,.1f} | {found['memory']:,.1f} | {found['computed']:,.1f} |", flush=True)


def measured(args: argparse.Namespace, prompt: int, completion: int, prompts: int, group: int) -> dict[str, float]:
    """Seconds of a step after the first, GB at the peak, and GB as the dry run computes them."""
    import torch
    from transformers import TrainerCallback

    from reason4rec.llm.prompt import Prompt
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training import gpu_memory, grpo
    from reason4rec.training.adapters import sha256_of_weights
    from reason4rec.training.policy import Policy
    from reason4rec.training.recipe import MAX_LENGTH, TARGET_MODULES
    from reason4rec.training.rollouts import Part

    base, start = gpu.folder_of(args), args.folder / f"{args.shape}_Reasoner"
    recipe = gpu.EXPERTS["Reasoner"].recipe
    known = {"base_model": str(base), "base_sha256": None, "max_length": max(MAX_LENGTH, prompt + completion)}
    own = {**known, "target_modules": list(TARGET_MODULES), **asdict(recipe), "sha256": sha256_of_weights(start)}
    files.write_text(start / "settings.json", json.dumps(own))
    policy = Policy(
        STEPS, prompts, group, 1e-5, 0.02, 0.2, 0.2, "dapo", 1.0, completion, 1, 1e-6, False, False
    )  # fmt: skip
    tokenizer = load_tokenizer(base)
    text = gpu.Texts(args, seed=4)
    asked = [
        Prompt(tokenizer.decode(text.ids[k * 7 : k * 7 + prompt], skip_special_tokens=True)) for k in range(prompts)
    ]
    task = grpo.Task(asked, [{}] * prompts, [Part("length", 1.0, lambda rollouts: [len(set(o.ids)) for o in rollouts])])
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(gpu.clock(args.device))

    settings = grpo.settings_of("Policy", start, policy, {"length": 1.0})
    trainer, _ = grpo.build_trainer(settings, start, policy, task, 0, args.folder / ".policy", args.device)
    trainer.args.save_strategy = "no"
    trainer.add_callback(Clock())
    trainer.train()
    shape = gpu.SHAPES[args.shape]
    peak = gpu_memory.by_a_reward(shape, recipe, prompts * group, group, prompt, completion)
    memory = torch.cuda.max_memory_allocated() if args.device == "cuda" else 0
    return {
        "seconds": (times[-1] - times[0]) / (len(times) - 1),
        "memory": memory / 1e9,
        "computed": peak.total / 1e9,
    }


if __name__ == "__main__":
    main()
