"""Time the trainer beside a plain loop of one row at a time, and check that all ways have the same losses.

    python tests/benchmarks/training.py --rows 32

The rows are made up, on the demo's tiny base model: prompts of the Predictor with histories of very different lengths,
as real ones are. A plain loop goes through a batch row by row or as one padded batch, computes the logits of every
token, and then takes the same optimizer step as the trainer. Tokens are those of the rows, without padding. The tiny
model's vocabulary is a hundredth of Llama 3's, so what logits cost there does not show here.
"""

import argparse
import datetime
import logging
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bitsandbytes
import torch
import transformers
import trl
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import get_linear_schedule_with_warmup

from reason4rec.data.history import Entry, History
from reason4rec.llm.bases import load_base
from reason4rec.llm.prompt import training_row
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.training import trainer as trainer_module
from reason4rec.training.recipe import SCHEDULE, TARGET_MODULES, Recipe

RECIPE = Recipe(rank=8, alpha=16, dropout=0.0, lr=1e-3, warmup=0, epochs=1, batch_size=16, lm_head=True)
FOLDER = tempfile.TemporaryDirectory()  # of the trainer's checkpoints
ENTRIES = 10  # of a user and of an item at most
TOLERANCE = 1e-3  # of a step's loss, relative: later steps start from weights that differ by rounding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    rows = made_up(args.rows, args.seed)

    ways: dict[str, Callable[[], tuple[list[float], float, float]]] = {
        "plain loop, row by row": lambda: plain(rows, args.seed, RECIPE.batch_size),
        "plain loop, padded": lambda: plain(rows, args.seed, 1),
        "trainer, --no-padding_free": lambda: ours(rows, args.seed, padding_free=False),
        "trainer": lambda: ours(rows, args.seed, padding_free=True),
        "trainer, --gradient_checkpointing": lambda: ours(rows, args.seed, padding_free=True, checkpointing=True),
    }
    lengths = [len(row["input_ids"]) for row in prepared(rows, args.seed).train_dataset]
    print(row_of("way", "seconds", "CPU seconds", "tokens / CPU second", "ratio", "first loss", "last loss"))
    print(row_of(*["---"] * 7))
    known, slowest = None, None
    for way, train in ways.items():
        losses, seconds, cpu = train()
        known, slowest = known or losses, slowest or cpu
        if any(abs(loss - expected) > TOLERANCE * expected for loss, expected in zip(losses, known, strict=True)):
            raise SystemExit(f"{way}: other losses than the first way\n{losses}\n{known}")
        numbers = f"{seconds:.1f}", f"{cpu:.1f}", f"{sum(lengths) / cpu:,.0f}", f"{slowest / cpu:.2f}"
        print(row_of(way, *numbers, f"{losses[0]:.5f}", f"{losses[-1]:.5f}"), flush=True)
    padded = sum(max(lengths[k] for k in batch) * len(batch) for batch in order(prepared(rows, args.seed)))
    print(
        f"\nThe losses of all {len(known)} steps were equal in all ways, to {TOLERANCE:g} of them. {args.rows} rows of "
        f"{min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all, {padded:,} with padding. Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, trl "
        f"{trl.__version__}, {torch.get_num_threads()} thread(s), {datetime.date.today()}."
    )


def made_up(n: int, seed: int) -> list[dict]:
    """Training rows of the Predictor whose histories hold 0 to `ENTRIES` summaries of very different lengths."""
    draw = random.Random(seed)

    def entries() -> tuple[Entry, ...]:
        words = ["the melody is warm", "a dull mix", "it drifts", "strong guitar"]
        return tuple(
            Entry(f"Album {k}", float(draw.randint(1, 5)), ", ".join(draw.choices(words, k=draw.randint(2, 16))))
            for k in range(draw.randint(0, ENTRIES))
        )

    rows = []
    for _ in range(n):
        history = History(entries(), entries(), 3.5, 4.0)
        prompt = prompts.predictor("Album", "Paper Rain", history, "The user likes a warm melody.")
        rows.append(training_row(prompt, prompts.rating_answer(draw.randint(1, 5))))
    return rows


def prepared(rows: list[dict], seed: int, padding_free: bool = True, checkpointing: bool = False) -> trl.SFTTrainer:
    """The trainer as the step builds it."""
    way = {"engine": "transformers", "device": "cpu", "dtype": "float32", "processes": 1, "sharded": False}
    way |= {"gradient_accumulation": 1}
    way |= {"padding_free": padding_free, "gradient_checkpointing": checkpointing}
    settings = RECIPE.__dict__ | way | {"base_model": str(DEMO_BASE), "max_length": 4096}
    return trainer_module.build_trainer(rows, settings, seed, Path(FOLDER.name))[0]


def order(trainer: trl.SFTTrainer) -> list[list[int]]:
    """The numbers of the rows in each step."""
    return list(trainer.get_train_dataloader().batch_sampler)


def ours(rows: list[dict], seed: int, **way: bool) -> tuple[list[float], float, float]:
    """The losses of the trainer's steps, and its seconds by the clock and of the CPU."""
    trainer = prepared(rows, seed, **way)
    started = time.perf_counter(), time.process_time()
    trainer.train()
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], *seconds


def plain(rows: list[dict], seed: int, parts: int) -> tuple[list[float], float, float]:
    """The same of a plain loop that goes through each batch in `parts` padded parts."""
    trainer = prepared(rows, seed, padding_free=False)
    data, collate, batches = trainer.train_dataset, trainer.data_collator, order(trainer)
    model = adapted(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = bitsandbytes.optim.AdamW8bit(trained, lr=RECIPE.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    losses = []
    started = time.perf_counter(), time.process_time()
    for numbers in batches:
        items = sum(label != trainer_module.IGNORED for k in numbers for label in data[k]["labels"])
        size = -(-len(numbers) // parts)
        total = 0.0
        for start in range(0, len(numbers), size):
            batch = collate([data[k] for k in numbers[start : start + size]])
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), reduction="sum"
            )
            (loss / items).backward()
            total += loss.item() / items
        torch.nn.utils.clip_grad_norm_(trained, trainer.args.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses, time.perf_counter() - started[0], time.process_time() - started[1]


def adapted(seed: int) -> PeftModel:
    """The base model with an untrained adapter, as the trainer has it at the start."""
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=RECIPE.rank,
        lora_alpha=RECIPE.alpha,
        lora_dropout=RECIPE.dropout,
        target_modules=list(TARGET_MODULES),
        modules_to_save=["lm_head"] if RECIPE.lm_head else None,
    )
    model = get_peft_model(load_base(str(DEMO_BASE), "cpu"), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16).float()  # trl rounds the first weights
    return model.train()


def row_of(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    assert SCHEDULE == "linear", "the plain loop knows no other schedule"
    main()
