"""Makes the base of the demo of sequences: the demo's base, which has learned to read lists of items too.

    python -m reason4rec.demo.pretrain_lists --out reason4rec/demo/base_lists

Writes model.safetensors, its config, the tokenizer and lists.json (settings, seed, versions and the learning curve). A
language model of any use finds in a list what it is asked for, and says it as it stands there; the demo's base, which
reads histories alone, did not, so that no recommender could be made of it. What it learns here are the parts: to name
the candidate that has what is asked for, under its own title and id, and to say what items have in common. Whom to
recommend what is not among them. Titles and ids are drawn anew for every list. Our decision throughout.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reason4rec.demo.pretrain import copy_batch, encode
from reason4rec.demo.world import ASPECTS, TITLE_FIRST, TITLE_SECOND
from reason4rec.systems.reason4rec.facts import DEMO_BASE
from reason4rec.systems.twice_rec.catalogue import Item
from reason4rec.systems.twice_rec.prompts import BETWEEN, MARK, answer

TASKS = ("named", "thought", "common")
SHARES = (0.35, 0.45, 0.20)
COPY_SHARE = 0.1
KNOWN_FOR = ("{title} is known for {aspects}.", "Of {title}, others praise the {aspects}.", "{title} offers {aspects}.")
NAME = (
    "One of the candidates offers {aspects}. Name it.\nAnswer in exactly this form, with the title and the id of that "
    "candidate:\n{form}\n\nThe candidates:\n{items}"
)
COMMON = "Which three things come most often in these items?\n\n{items}"
FORM = "<item_nm> title </item_nm> <item_id> id </item_id>"


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def items_of(rng: np.random.Generator, n: int) -> list[tuple[Item, tuple[int, ...]]]:
    """So many items with titles and ids that differ, and the numbers of the three aspects of each."""
    pairs = rng.choice(len(TITLE_FIRST) * len(TITLE_SECOND), n, replace=False)
    ids = rng.choice(1000, n, replace=False)
    found = []
    for pair, number in zip(pairs, ids):
        aspects = tuple(sorted(rng.choice(len(ASPECTS), 3, replace=False).tolist()))
        title = f"{TITLE_FIRST[pair // len(TITLE_SECOND)]} {TITLE_SECOND[pair % len(TITLE_SECOND)]}"
        found.append((Item(f"B{number:03d}", title, listed([ASPECTS[k] for k in aspects]), ""), aspects))
    return found


def line(item: Item) -> str:
    """An item on a line, as the prompts of the recommender show it."""
    return f"{MARK}{item.title}{BETWEEN}{item.item_id}{BETWEEN}{item.description}"


def example(rng: np.random.Generator, task: str, longest: int) -> tuple[str, str]:
    """A prompt and its answer for one of TASKS, with a list of at most `longest` items."""
    items = items_of(rng, int(rng.integers(3, longest + 1)))
    shown = "\n".join(line(item) for item, _ in items)
    if task == "common":
        counts = Counter(aspect for _, aspects in items for aspect in aspects)
        # Of equal counts that which is read first.
        best = sorted(counts, key=lambda one: (-counts[one], list(counts).index(one)))[:3]
        return COMMON.format(items=shown), listed([ASPECTS[k] for k in sorted(best)])
    item, aspects = items[int(rng.integers(len(items)))]
    wanted = sorted(rng.choice(aspects, int(rng.integers(2, 4)), replace=False).tolist())
    others = [other for one, other in items if one is not item and set(wanted) <= set(other)]
    if others:  # another item has all of it too
        return example(rng, task, longest)
    said = None
    if task == "thought":
        said = KNOWN_FOR[rng.integers(len(KNOWN_FOR))].format(title=item.title, aspects=item.description)
    form = f"<think> reasons </think> {FORM}" if task == "thought" else FORM
    asked = NAME.format(aspects=listed([ASPECTS[k] for k in wanted]), form=form, items=shown)
    return asked, answer(item, said)


def batch_of(
    rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, task: str, tokens: int, longest: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and loss weights, (rows, length) each, of about so many tokens of one task."""
    rows, width = [], 0
    while not rows or (len(rows) + 1) * width <= tokens:
        rows.append(encode(tokenizer, *example(rng, task, longest)))
        width = max(width, len(rows[-1][0]))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    weights = torch.zeros(len(rows), width)
    for k, (row, start) in enumerate(rows):
        ids[k, : len(row)] = torch.tensor(row)
        weights[k, start : len(row)] = 1.0
    return ids, weights


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of the next token, with the weights of the tokens that are predicted."""
    hidden = model.model(ids).last_hidden_state[:, :-1]
    kept = weights[:, 1:] > 0
    logits = model.lm_head(hidden[kept])  # of those alone that count
    losses = functional.cross_entropy(logits.float(), ids[:, 1:][kept], reduction="none")
    return (losses * weights[:, 1:][kept]).sum() / weights[:, 1:].sum()


@torch.no_grad()
def exact(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, longest: int) -> dict[str, float]:
    """The share of answers to lists of the longest size whose greedy tokens are all right, by task."""
    rng, found = np.random.default_rng(seed), {}
    model.eval()
    for task in TASKS:
        right = []
        for _ in range(32):
            ids, start = encode(tokenizer, *example(rng, task, longest))
            best = model(torch.tensor([ids])).logits[0, start - 1 : -1].argmax(dim=-1)
            # The sentence of a thought has several wordings; what follows it has one.
            answers = torch.tensor(ids[start:])
            from_end = len(answers) if task != "thought" else 26
            right.append(bool((best[-from_end:] == answers[-from_end:]).all()))
        found[task] = float(np.mean(right))
    model.train()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--start", type=Path, default=Path(DEMO_BASE), help="folder of the base to go on from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens_per_step", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--longest", type=int, default=10, help="items of the longest list")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(3000 + args.seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.start)
    model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.01)
    curve, seen, started = [], 0, time.perf_counter()
    for step in range(args.steps):
        done = step / args.steps
        rate = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        longest = 3 + min(args.longest - 3, int(done / 0.3 * (args.longest - 2)))
        task = TASKS[rng.choice(len(TASKS), p=SHARES)]
        if rng.random() < COPY_SHARE:
            task, (ids, weights) = "copy", copy_batch(rng, len(tokenizer), args.tokens_per_step)
        else:
            ids, weights = batch_of(rng, tokenizer, task, args.tokens_per_step, longest)
        loss = loss_of(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += ids.numel()
        if step % 25 == 0 or step == args.steps - 1:
            row = {"step": step, "tokens": seen, "task": task, "loss": round(loss.item(), 4)}
            if step % 200 == 0 or step == args.steps - 1:
                row |= exact(model, tokenizer, 4000 + args.seed, args.longest)
                save(model, tokenizer, args, curve)
            curve.append(row | {"tokens_per_s": round(seen / (time.perf_counter() - started))})
            print(json.dumps(curve[-1]), flush=True)
    save(model, tokenizer, args, curve)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace, curve: list) -> None:
    """Writes the model in bf16, its tokenizer, and the settings and learning curve beside them."""
    args.out.mkdir(parents=True, exist_ok=True)
    halved = LlamaForCausalLM(model.config).to(torch.bfloat16)
    halved.load_state_dict(model.state_dict())
    halved.generation_config.pad_token_id = tokenizer.pad_token_id
    halved.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    settings = {name: value for name, value in vars(args).items() if name not in ("out", "start")}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    record = {"settings": settings, "versions": versions, "curve": curve}
    (args.out / "lists.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
