"""Makes the demo's base model: a tiny Llama that already reads and writes the language of the synthetic world.

    python -m reason4rec.demo.pretrain --out reason4rec/demo/base

Writes model.safetensors, its config, the tokenizer and pretrain.json (settings, seed, versions and the learning
curve). It learns from worlds with other seeds than Demo_data's: first to copy and look up, then the experts' prompts
with histories that grow. Our decision throughout.

The shipped model was made in two runs on two cores, together about an hour: the first was ended at step 3,250 of
5,500, when the stand-in's reasons still had another wording; the second went on from it with `--start FOLDER --steps
1700 --lr 1.5e-3 --seed 2`. pretrain.json holds the curves of both. One run from nothing gives a similar model, not the
same bytes.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reason4rec.data.history import Entry, History
from reason4rec.demo import rules, world
from reason4rec.systems.reason4rec import prompts

PRODUCT_CLASS = "Album"
LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TASKS = ("summarizer", "reasoner", "predictor_reason", "predictor_review", "predictor_direct")
SHARES = (0.20, 0.48, 0.20, 0.08, 0.04)
COPY_SHARE = 0.1
COPIES = 0.3  # loss of the copying warm-up at which the prompts begin


class Examples:
    """Endless prompts and answers about one synthetic world; histories have at most `longest` entries a side."""

    def __init__(self, seed: int, n_users: int = 1500, n_items: int = 500, per_user: int = 10):
        self.rng = np.random.default_rng(seed)
        self.world = world.make_world(n_users, n_items, self.rng)
        self.rows: list[tuple[int, int, int, str, str]] = []
        self.by_user: dict[int, list[int]] = {}
        self.by_item: dict[int, list[int]] = {}
        for user in range(n_users):
            for item in self.rng.choice(n_items, per_user, replace=False):
                rating = world.rate(self.world, user, item, self.rng)
                review = world.write_review(self.world, user, item, rating, self.rng)
                self.by_user.setdefault(user, []).append(len(self.rows))
                self.by_item.setdefault(item, []).append(len(self.rows))
                self.rows.append((user, int(item), rating, review, rules.summarize(review)))

    def history(self, row: int, longest: int) -> History:
        """A random history of a row: one to `longest` entries a side, the row itself left out."""
        user, item, *_ = self.rows[row]
        sides = []
        for pool in (self.by_user[user], self.by_item[item]):
            others = [k for k in pool if k != row]
            size = min(len(others), int(self.rng.integers(1, longest + 1)))
            sides.append([self.rows[k] for k in self.rng.permutation(others)[:size]])
        user_side, item_side = (
            tuple(Entry(self.world.titles[r[1]], float(r[2]), r[4]) for r in side) for side in sides
        )
        averages = [float(np.mean([r[2] for r in side])) if side else None for side in sides]
        return History(user_side, item_side, *averages)

    def one(self, task: str, longest: int) -> tuple[str, str]:
        """A prompt and its answer for one of `TASKS`."""
        row = int(self.rng.integers(len(self.rows)))
        user, item, rating, review, summary = self.rows[row]
        title = self.world.titles[item]
        if task == "summarizer":
            return prompts.summarizer(PRODUCT_CLASS, title, rating, review).text, summary
        history = self.history(row, longest)
        reason = None
        if task in ("reasoner", "predictor_reason"):
            sides = ("\n".join(e.text for e in side) for side in (history.user, history.item))
            reason = rules.reason(title, *sides, self.rng)
            if task == "reasoner":
                return prompts.reasoner(PRODUCT_CLASS, title, history).text, reason
        elif task == "predictor_review":
            reason = review
        return prompts.predictor(PRODUCT_CLASS, title, history, reason).text, prompts.rating_answer(rating)


def make_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Llama-3's split pattern, special tokens and chat format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def new_model(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int) -> LlamaForCausalLM:
    """A Llama with random weights, heads of 32 dimensions and two query heads a key-value head."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 64,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # Copying means to find the token that was read among those that can be written: start with the two tables equal.
    model.model.embed_tokens.weight.data.normal_(0, 0.05)
    model.lm_head.weight.data.copy_(model.model.embed_tokens.weight.data)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> tuple[list[int], int]:
    """Token ids of a prompt in the chat format with its answer, and where the answer starts."""
    head = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return head + tokenizer(f"{answer}<|eot_id|>", add_special_tokens=False)["input_ids"], len(head)


def copy_batch(rng: np.random.Generator, vocabulary: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and loss weights of rows in which a few random phrases recur: teaches to copy by content.

    The phrases of a row differ in length and recur at random distances, so that copying from a fixed distance fails.
    """
    length = 96
    ids = np.empty((tokens // length, length), dtype=np.int64)
    weights = np.zeros(ids.shape, dtype=np.float32)
    for row, weight in zip(ids, weights):
        phrases = [rng.integers(len(SPECIAL), vocabulary, rng.integers(3, 13)) for _ in range(rng.integers(2, 6))]
        seen, at = set(), 0
        while at < length:
            which = int(rng.integers(len(phrases)))
            phrase = phrases[which][: length - at]
            row[at : at + len(phrase)] = phrase
            weight[at + 1 : at + len(phrase)] = float(which in seen)
            seen.add(which)
            at += len(phrase)
    return torch.tensor(ids), torch.tensor(weights)


def language_batch(
    examples: Examples, tokenizer: PreTrainedTokenizerFast, task: str, tokens: int, longest: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and loss weights, (rows, length) each, of about `tokens` tokens of one task."""
    rows, longest_row = [], 0
    while not rows or (len(rows) + 1) * longest_row <= tokens:
        rows.append(encode(tokenizer, *examples.one(task, longest)))
        longest_row = max(longest_row, len(rows[-1][0]))
    ids = torch.full((len(rows), longest_row), tokenizer.pad_token_id)
    weights = torch.zeros(len(rows), longest_row)
    for k, (row, start) in enumerate(rows):
        ids[k, : len(row)] = torch.tensor(row)
        weights[k, :start] = 0.1
        weights[k, start : len(row)] = max(1.0, 40 / (len(row) - start))
    return ids, weights


def weighted_loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, averaged with `weights` of the token that is predicted."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids).logits[:, :-1]
    losses = functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def exact_matches(model, tokenizer, examples: Examples, longest: int, rows: int = 32) -> dict[str, float]:
    """Share of summaries that equal the rule's text, and of reasons whose aspects and verdict do, on held-out users."""
    model.eval()
    found = {}
    for task in ("summarizer", "reasoner"):
        pairs = [examples.one(task, longest) for _ in range(rows)]
        heads = [encode(tokenizer, prompt, "")[0][:-1] for prompt, _ in pairs]
        width = max(map(len, heads))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(h)) + h for h in heads])
        out = model.generate(
            ids,
            attention_mask=(ids != tokenizer.pad_token_id).long(),
            max_new_tokens=110,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        wanted = [answer for _, answer in pairs]
        if task == "reasoner":
            found["verdict"] = float(np.mean([a.split(". ")[-1] == b.split(". ")[-1] for a, b in zip(texts, wanted)]))
            texts, wanted = ([_aspects(t) for t in side] for side in (texts, wanted))
        found[task] = float(np.mean([a == b for a, b in zip(texts, wanted)]))
    model.train()
    return found


def _aspects(reason: str) -> list[str]:
    words = reason.replace(",", " ").replace(".", " ").split()
    return [word for word in words if word in (*world.ASPECTS, "praised", "criticised", "unmentioned")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--start", type=Path, help="folder of an earlier result to go on from, in place of copying")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=1400)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens_per_step", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=3800)
    parser.add_argument("--longest", type=int, default=6, help="entries a side of the longest histories")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    examples, held_out = Examples(seed=1000 + args.seed), Examples(seed=2000 + args.seed, n_users=300, n_items=100)
    if args.start:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.start)
        model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
    else:
        texts = [text for k in range(6000) for text in examples.one(TASKS[k % len(TASKS)], 3)]
        tokenizer = make_tokenizer(texts, args.vocabulary)
        model = new_model(tokenizer, args.hidden, args.layers)
    print(f"{model.num_parameters() / 1e6:.2f} M parameters, {len(tokenizer)} tokens", flush=True)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95))
    compiled = torch.compile(model, dynamic=True)
    copies_by, curve, seen, started = 0 if args.start else None, [], 0, time.perf_counter()
    for step in range(args.steps):
        done = 0.0 if copies_by is None else (step - copies_by) / (args.steps - copies_by)
        peak = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * peak
        longest = args.longest if args.start else 1 + min(args.longest - 1, int(done / 0.4 * args.longest))
        task = "copy" if copies_by is None else TASKS[examples.rng.choice(len(TASKS), p=SHARES)]
        if task == "copy" or examples.rng.random() < COPY_SHARE:
            task, (ids, weights) = "copy", copy_batch(examples.rng, len(tokenizer), args.tokens_per_step)
        else:
            most = int(examples.rng.integers(1, longest + 1))
            ids, weights = language_batch(examples, tokenizer, task, args.tokens_per_step, most)
        loss = weighted_loss(compiled, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += ids.numel()
        if copies_by is None and loss.item() < COPIES:
            copies_by = step + 1
        if step % 25 == 0 or step == args.steps - 1:
            row = {"step": step, "tokens": seen, "task": task, "loss": round(loss.item(), 4)}
            if copies_by is not None and (step % 250 == 0 or step == args.steps - 1):
                row |= exact_matches(model, tokenizer, held_out, longest)
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
    before = json.loads((args.start / "pretrain.json").read_text(encoding="utf-8")) if args.start else None
    record = {"settings": settings, "versions": versions, "curve": curve, "started_from": before}
    (args.out / "pretrain.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
