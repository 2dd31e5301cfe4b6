"""Measure training, writing and scoring with a model of the size of Llama 3 8B, and what a run would take.

    python tests/benchmarks/gpu.py --folder /a/disk/with/25GB
    python tests/benchmarks/gpu.py --folder FOLDER --only ceilings training --adapters Summarizer --write_rates
    python tests/benchmarks/gpu.py --folder FOLDER --shape tiny --device cpu

The last only shows that this script works. Nothing is downloaded: the weights are random, in 4 bits like those of a
real base, and kept in the folder; the tokenizer is the demo's. Each part prints its table when it is done, as Markdown
for RESULTS.md. --write_rates puts what was measured into rates.json, from which `bash run_all.sh --dry_run`
tells the hours of a run.

ceilings    what the card gives at best: bf16 matrix multiplies, copies in its memory
training    the four recipes through reason4rec.training.trainer.build_trainer, one process each
generation  LocalModel.generate beside a loop over single prompts
scoring     LocalModel.choice_probabilities, twelve prompts a target, beside a loop with the logits of all positions
"""

import argparse
import datetime
import gc
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np

from reason4rec.data.history import Entry, History
from reason4rec.demo import world
from reason4rec.llm import shape as shape_module
from reason4rec.llm.prompt import Prompt, training_row
from reason4rec.run import cost, files
from reason4rec.run import records as records_module
from reason4rec.run.markdown import table
from reason4rec.systems import costs
from reason4rec.systems.reason4rec import prompts, workload
from reason4rec.systems.reason4rec.distillation import BLOCK
from reason4rec.systems.reason4rec.experts import EXPERTS
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS
from reason4rec.training.recipe import MAX_LENGTH, OPTIMIZER

PARTS = ("ceilings", "training", "generation", "scoring")
DEMO_BASE = ROOT / "reason4rec" / "demo" / "base"
SHAPES = {
    "8b": shape_module.Shape(),
    "tiny": shape_module.Shape(128, 384, 4, 4, 2, 1207),
}
WAYS = {
    "padding-free": {"engine": "transformers", "padding_free": True},
    "padded": {"engine": "transformers", "padding_free": False},
    "unsloth": {"engine": "unsloth", "padding_free": None},
}
SCALE = {"8b": 1.0, "tiny": 0.125}  # of the lengths of texts
CLASS = "Digital Music"
DRAWS = 12  # prompts a target in distillation: without a reason, with the first, with ten hinted ones
WARM_UP = 2  # steps of a training that are not measured
AIMS = {"generation": 50, "training": 0.35, "hours": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the weights are kept")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--adapters", nargs="+", choices=EXPERTS, default=list(EXPERTS), help="to train")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="to train in")
    parser.add_argument("--steps", type=int, default=8, help="steps of a training that are measured")
    parser.add_argument("--prompts", type=int, default=1024, help="prompts to write replies to")
    parser.add_argument("--targets", type=int, default=128, help="targets to score twelve prompts of")
    parser.add_argument("--alone", type=int, default=8, help="prompts of a loop over single ones")
    parser.add_argument("--write_rates", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(trained(args, **json.loads(args.one))))
        return
    if args.write_rates and (args.shape, args.device) != ("8b", "cuda"):
        parser.error("--write_rates is for --shape 8b --device cuda")
    if not folder_of(args).is_dir():
        make_base(args)
    print(heading(args), flush=True)
    from torch.cuda import empty_cache

    rates: dict[str, tuple[float, str]] = {}
    peak = None
    for part in args.only:
        print(f"\n### {part.capitalize()}\n", flush=True)
        if part == "ceilings":
            peak = ceilings(args)
        else:
            if args.device == "cuda":
                # What an earlier part left cached would count as taken.
                gc.collect()
                empty_cache()
            rates |= {"training": training, "generation": generation, "scoring": scoring}[part](args, peak)
    if rates:
        project(args, rates)


def heading(args: argparse.Namespace) -> str:
    import torch

    card = torch.cuda.get_device_name() if args.device == "cuda" else "no GPU"
    found = records_module.versions()
    if importlib.util.find_spec("unsloth"):
        found["unsloth"] = importlib.metadata.version("unsloth")
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    shape = ", ".join(f"{name} {value:,}" for name, value in asdict(SHAPES[args.shape]).items() if value)
    return (
        f"## GPU\n\n`python tests/benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}`, "
        f"{datetime.date.today()}, {card}, Python "
        f"{platform.python_version()}, {versions}. Random weights: {shape}."
    )


# The base model


def folder_of(args: argparse.Namespace) -> Path:
    return args.folder / f"{args.shape}_nf4"


def make_base(args: argparse.Namespace) -> None:
    """Writes random weights in bf16 layer by layer, loads them as a base is loaded, and keeps them in 4 bits.

    Beside them stand two adapters, one with a head of its own.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    from reason4rec.llm.bases import load_base
    from reason4rec.training.recipe import TARGET_MODULES

    shape, plain = SHAPES[args.shape], args.folder / f"{args.shape}_bf16"
    shutil.rmtree(plain, ignore_errors=True)
    plain.mkdir(parents=True)
    ids = json.loads((DEMO_BASE / "config.json").read_text(encoding="utf-8"))
    special = {name: ids[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaConfig(
        **asdict(shape),
        **special,
        max_position_embeddings=8192,
        rope_parameters={"rope_theta": 500_000.0, "rope_type": "default"},
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    ).save_pretrained(plain)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(DEMO_BASE / name, plain / name)

    torch.manual_seed(0)
    where: dict[str, str] = {}
    for number, shard in enumerate(shards(shape)):
        tensors = {}
        for name, size in shard.items():
            norm = name.endswith("norm.weight")
            drawn = torch.ones(size) if norm else torch.randn(size, device=args.device, dtype=torch.float32) * 0.02
            tensors[name] = drawn.to(torch.bfloat16).cpu()
        save_file(tensors, plain / f"model-{number:05}.safetensors", metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, f"model-{number:05}.safetensors")
    index = {"metadata": {}, "weight_map": where}
    (plain / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    started = time.perf_counter()
    model = load_base(str(plain), args.device)
    print(f"quantised at loading in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    draft = args.folder / f".{args.shape}_nf4"
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(plain / name, draft / name)
    for name in ("Reasoner", "Predictor"):
        recipe = EXPERTS[name].recipe
        adapter = get_peft_model(
            model,
            LoraConfig(
                task_type="CAUSAL_LM",
                r=recipe.rank,
                lora_alpha=recipe.alpha,
                target_modules=list(TARGET_MODULES),
                modules_to_save=["lm_head"] if recipe.lm_head else None,
            ),
        )
        adapter.save_pretrained(args.folder / f"{args.shape}_{name}")
        model = adapter.unload()
    shutil.rmtree(plain)
    draft.rename(folder_of(args))


def shards(shape: shape_module.Shape) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and sizes of the weights of a Llama, a layer at a time."""
    hidden, vocabulary = shape.hidden_size, shape.vocab_size
    yield {"model.embed_tokens.weight": (vocabulary, hidden)}
    for k in range(shape.num_hidden_layers):
        block = f"model.layers.{k}"
        weights = {
            f"{block}.{'mlp' if name in ('gate_proj', 'up_proj', 'down_proj') else 'self_attn'}.{name}.weight": (m, n)
            for name, (n, m) in shape.widths.items()
        }
        norms = {f"{block}.{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
        yield weights | norms
    yield {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


# Texts


class Texts:
    """Prompts as long as those of Music_data are assumed to be, from the sentences of the demo's world."""

    def __init__(self, args: argparse.Namespace, seed: int):
        from reason4rec.llm.tokens import load_tokenizer, plain_ids

        self.scale, self.random = SCALE[args.shape], np.random.default_rng(seed)
        self.tokenizer = load_tokenizer(folder_of(args))
        records, _ = world.raw_records(60, 20, seed)
        self.ids = plain_ids(self.tokenizer, " ".join(record["reviewText"] for record in records))

    def of(self, what: str, spread: float = 0.3) -> str:
        """A text of about as many tokens as `cost` assumes, log-normally spread."""
        mean = workload.ASSUMED[f"tokens of a {what}"][0] * self.scale
        length = max(2, round(float(self.random.lognormal(np.log(mean) - spread**2 / 2, spread))))
        start = int(self.random.integers(len(self.ids) - length))
        return self.tokenizer.decode(self.ids[start : start + length]).strip()

    def history(self) -> History:
        sides = [[Entry(self.of("title"), 4.0, self.of("summary")) for _ in range(n)] for n in (6, 7)]
        return History(tuple(sides[0]), tuple(sides[1]), 4.0, 4.0)

    def row(self, adapter: str) -> dict:
        """A training row of an adapter."""
        title = self.of("title")
        if adapter == "Summarizer":
            # The characters of real reviews are spread by 0.87 of their mean, which a log-normal one of 0.75 is.
            asked = prompts.summarizer(CLASS, title, 4.0, self.of("review", spread=0.75))
            return training_row(asked, self.of("summary"))
        if adapter == "Reasoner":
            return training_row(prompts.reasoner(CLASS, title, self.history()), self.of("reason"))
        text = self.of("review", spread=0.75) if adapter == "reason_reward_model" else self.of("reason")
        return training_row(prompts.predictor(CLASS, title, self.history(), text), prompts.rating_answer(4.0))

    def scored(self, targets: int) -> list[Prompt]:
        """Twelve prompts for each of some targets."""
        asked = []
        for _ in range(targets):
            title, history = self.of("title"), self.history()
            reasons = [None, *(self.of("reason") for _ in range(DRAWS - 1))]
            asked += [prompts.predictor(CLASS, title, history, reason) for reason in reasons]
        return asked


# Parts


def ceilings(args: argparse.Namespace) -> float:
    """Prints what the card gives at best; its bf16 FLOP a second."""
    import torch

    size, gigabytes, kind = (8192, 4, torch.bfloat16) if args.device == "cuda" else (512, 0.1, torch.float32)
    a, b = (torch.randn(size, size, device=args.device, dtype=kind) for _ in range(2))
    seconds = timed(args, lambda: a @ b, 50)
    flops = 2 * size**3 / seconds
    source = torch.empty(int(gigabytes * 1e9), dtype=torch.uint8, device=args.device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() / timed(args, lambda: target.copy_(source), 20)
    rows = [
        [f"matrix multiply, {str(kind).removeprefix('torch.')}, {size:,} x {size:,}", f"{flops / 1e12:,.2f} TFLOP/s"],
        [f"copy of {gigabytes:g} GB, read and written", f"{copied / 1e9:,.0f} GB/s"],
    ]
    print(table(["ceiling", "measured"], rows), flush=True)
    return flops


def timed(args: argparse.Namespace, work: Callable[[], object], times: int) -> float:
    """Seconds of one call, after some to warm up."""
    for _ in range(3):
        work()
    started = clock(args.device)
    for _ in range(times):
        work()
    return (clock(args.device) - started) / times


def clock(device: str) -> float:
    """The time when all that was asked of the device is done."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def training(args: argparse.Namespace, peak: float | None) -> dict[str, tuple[float, str]]:
    """Prints tokens a second, memory and share of the ceiling of each recipe; the best rates by name."""
    print(
        "Counted FLOP of a row of n tokens, a of them its answer: 2 for each weight of the blocks and token in each of "
        "three passes (forward, backward for the activations, forward again where gradients are checkpointed); the "
        "head on the a tokens, forward and backward, and again where it is trained; causal attention, 2 x layers x "
        "hidden size x n x n forward, as much again where it is repeated, and twice that backward. Frozen weights have "
        "no gradient. The adapter's own weights, below 1%, and unpacking 4 bits are not counted. Tokens are those of "
        "the rows, not padding.\n"
    )
    header = ["adapter", "way", "checkpointed", "tokens a row", "tokens/s", "GB", "TFLOP/s", "of the multiply rate"]
    best: dict[str, tuple[float, str]] = {}
    print(table(header, []), flush=True)
    for adapter in args.adapters:
        for way in args.ways:
            if way == "unsloth" and (args.device == "cpu" or importlib.util.find_spec("unsloth") is None):
                continue
            for checkpointing in (True, False) if way == "padding-free" else (True,):
                asked = {"adapter": adapter, "way": way, "checkpointing": checkpointing}
                said = f"| {adapter} | {way} | {'yes' if checkpointing else 'no'} |"
                found = in_own_process(args, asked)
                if isinstance(found, str):
                    print(f"{said} failed: {found} | | | | |", flush=True)
                    continue
                share = f"{found['flops'] / peak:.0%}" if peak else "-"
                print(
                    f"{said} {found['row']:,.0f} | {found['rate']:,.0f} | {found['memory']:.1f} | "
                    f"{found['flops'] / 1e12:,.2f} | {share} |",
                    flush=True,
                )
                # The default of the trainer is what a run takes.
                if checkpointing and way != "padded" and found["rate"] > best.get(adapter, (0,))[0]:
                    best[adapter] = found["rate"], f"measured, {way}"
    print(f"\nAimed at: {AIMS['training']:.0%} of the measured multiply rate.", flush=True)
    return {f"training {adapter}": rate for adapter, rate in best.items()}


def in_own_process(args: argparse.Namespace, asked: dict) -> dict | str:
    """What a training found, or the last line of what it complained of."""
    kept = ["--folder", args.folder, "--shape", args.shape, "--device", args.device, "--steps", args.steps]
    command = [sys.executable, __file__, *map(str, kept), "--one", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return (done.stderr.strip() or "killed").splitlines()[-1][:120].replace("|", "/")
    return json.loads(done.stdout.splitlines()[-1])


def trained(args: argparse.Namespace, adapter: str, way: str, checkpointing: bool) -> dict[str, float]:
    """Trains some steps of a recipe: tokens a row and a second, FLOP a second, GB of memory."""
    if WAYS[way]["engine"] == "unsloth":
        import unsloth  # noqa: F401  (it patches what the others import)
    import torch
    from transformers import TrainerCallback

    from reason4rec.training.trainer import IGNORED, build_trainer

    recipe, texts = EXPERTS[adapter].recipe, Texts(args, seed=1)
    rows = [texts.row(adapter) for _ in range((WARM_UP + args.steps) * recipe.batch_size)]
    settings = {
        **asdict(recipe),
        **WAYS[way],
        "epochs": 1,
        "base_model": str(folder_of(args)),
        "max_length": MAX_LENGTH,
        "device": args.device,
        "dtype": "bfloat16" if args.device == "cuda" else "float32",
        "processes": 1,
        "sharded": False,
        "gradient_accumulation": 1,
        "gradient_checkpointing": checkpointing,
        "optimizer": OPTIMIZER,
    }
    times, batches = [], []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(clock(args.device))

    trainer, _ = build_trainer(rows, settings, 0, args.folder / ".training")
    trainer.args.save_strategy = "no"
    trainer.add_callback(Clock())
    collate = trainer.data_collator

    def counted(features: list[dict]) -> dict:
        batches.append([(len(f["input_ids"]), sum(label != IGNORED for label in f["labels"])) for f in features])
        return collate(features)

    trainer.data_collator = counted
    trainer.train()
    seconds = times[-1] - times[WARM_UP - 1]
    measured = [row for batch in batches[WARM_UP : len(times)] for row in batch]
    tokens = sum(n for n, _ in measured)
    memory = torch.cuda.max_memory_allocated() if args.device == "cuda" else 0
    flops = sum(flops_of(SHAPES[args.shape], n, a, recipe.lm_head, checkpointing) for n, a in measured)
    return {
        "row": tokens / len(measured),
        "rate": tokens / seconds,
        "flops": flops / seconds,
        "memory": memory / 1e9,
    }


def flops_of(shape: shape_module.Shape, tokens: int, learned: int, lm_head: bool, checkpointing: bool) -> float:
    """FLOP of a training row, counted as `training` says."""
    passes = 2 + checkpointing
    blocks = 2 * passes * (shape.multiplied - shape.head) * tokens
    head = 2 * (2 + lm_head) * shape.head * learned
    attention = (passes + 1) * 2 * shape.num_hidden_layers * shape.hidden_size * tokens**2
    return blocks + head + attention


def generation(args: argparse.Namespace, _: float | None) -> dict[str, tuple[float, str]]:
    """Prints output tokens a second of batches and of a loop; the rate of writing."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    from reason4rec.llm.local import load
    from reason4rec.llm.tokens import chat_ids

    model = load(str(folder_of(args)), args.folder / f"{args.shape}_Reasoner", args.device)
    texts = Texts(args, seed=2)
    asked = [prompts.reasoner(CLASS, texts.of("title"), texts.history()) for _ in range(args.prompts)]
    most = round(workload.ASSUMED["tokens of a reason"][0] * SCALE[args.shape])
    random, spread = np.random.default_rng(3), 0.3
    found = {"written": 0, "reading": 0.0, "writing": 0.0}
    own = model.model.generate

    class Ends(LogitsProcessor):
        """Ends each reply at a length that is drawn for it, as random weights end none by themselves."""

        def __init__(self, shape: torch.Size):
            lengths = random.lognormal(np.log(most) - spread**2 / 2, spread, shape[0])
            self.width, self.first = shape[1], None
            self.lengths = torch.tensor(lengths, device=model.model.device).round()

        def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.first = self.first or clock(args.device)
            scores[ids.shape[1] - self.width + 1 >= self.lengths, model.tokenizer.eos_token_id] = float("inf")
            return scores

    def ending(**options: object) -> torch.Tensor:
        ids = options["input_ids"]
        ends, started = Ends(ids.shape), clock(args.device)
        output = own(**options | {"logits_processor": LogitsProcessorList([ends])})
        found["written"] += int((output[:, ids.shape[1] :] != model.tokenizer.pad_token_id).sum())
        found["reading"] += ends.first - started
        found["writing"] += clock(args.device) - ends.first
        return output

    def seconds(new_tokens: int) -> float:
        started = clock(args.device)
        model.generate(asked, max_new_tokens=new_tokens, what="")
        return clock(args.device) - started

    model.generate(asked[:4], max_new_tokens=2, what="")
    fixed = seconds(most)
    model.model.generate = ending
    drawn = seconds(round(1024 * SCALE[args.shape]))
    model.model.generate = own

    alone = []
    started = clock(args.device)
    for prompt in asked[: args.alone]:
        ids = torch.tensor([chat_ids(model.tokenizer, prompt.text)], device=model.model.device)
        with torch.inference_mode():
            output = own(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False)
        alone.append(model.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    loop = args.alone * most / (clock(args.device) - started)
    together = model.generate(asked[: args.alone], max_new_tokens=most, what="")
    same = sum(one == other for one, other in zip(alone, together))

    read = sum(len(chat_ids(model.tokenizer, prompt.text)) for prompt in asked)
    rows = [
        [way, f"{n:,}", f"{tokens / n:,.0f}", f"{tokens / s:,.0f}", f"{tokens / s / loop:,.1f}"]
        for way, n, tokens, s in (
            ("loop over single prompts", args.alone, args.alone * most, args.alone * most / loop),
            ("batches", len(asked), len(asked) * most, fixed),
            ("batches, lengths drawn", len(asked), found["written"], drawn),
        )
    ]
    print(table(["way", "prompts", "tokens a reply", "output tokens/s", "ratio"], rows))
    print(
        f"\nWith an adapter as the Reasoner's. Of the last run {found['reading']:.1f} s went into reading prompts of "
        f"{read / len(asked):,.0f} tokens, {read / found['reading']:,.0f} tokens/s, and {found['writing']:.1f} s into "
        f"writing, {found['written'] / found['writing']:,.0f} tokens/s. A batch goes on until its longest reply ends. "
        f"{same} of {len(alone)} replies are those of the loop; near ties fall otherwise in bf16. Aimed at: "
        f"{AIMS['generation']} times the loop.",
        flush=True,
    )
    return {"writing": (found["written"] / found["writing"], "measured without the reading, lengths drawn")}


def scoring(args: argparse.Namespace, _: float | None) -> dict[str, tuple[float, str]]:
    """Prints prompts a second of shared heads and of a loop; the rate of reading."""
    import torch

    from reason4rec.llm.local import load
    from reason4rec.llm.tokens import chat_ids, choice_ids, plain_ids

    model = load(str(folder_of(args)), args.folder / f"{args.shape}_Predictor", args.device)
    asked = Texts(args, seed=4).scored(args.targets)

    def by_block() -> np.ndarray:
        """The probabilities as distillation asks for them: a block of targets, and in it a draw at a time."""
        found = np.zeros((len(asked), len(RATINGS)))
        for start in range(0, len(asked), BLOCK * DRAWS):
            rows = np.arange(start, min(start + BLOCK * DRAWS, len(asked))).reshape(-1, DRAWS)
            prefix_cache = model.read_prefixes([asked[k] for k in rows[:, 0]])
            for part in (rows[:, :2], *rows[:, 2:].T):
                some = [asked[k] for k in part.ravel()]
                found[part.ravel()] = model.choice_probabilities(
                    some, RATINGS, RATING_PREFIX, what="", prefix_cache=prefix_cache
                )
        return found

    model.choice_probabilities(asked[:DRAWS], RATINGS, RATING_PREFIX, what="")
    started = clock(args.device)
    found = by_block()
    seconds = clock(args.device) - started
    started = clock(args.device)
    at_once = model.choice_probabilities(asked, RATINGS, RATING_PREFIX, what="")
    seconds_at_once = clock(args.device) - started

    tail, columns = (
        f(model.tokenizer, *w) for f, w in ((plain_ids, [RATING_PREFIX]), (choice_ids, [RATINGS, RATING_PREFIX]))
    )
    single = asked[:: len(asked) // args.alone][: args.alone]
    alone = []
    started = clock(args.device)
    for prompt in single:
        ids = torch.tensor([chat_ids(model.tokenizer, prompt.text) + tail], device=model.model.device)
        with torch.inference_mode():
            logits = model.model(input_ids=ids).logits
        alone.append(logits[0, -1, columns].float().softmax(-1).tolist())
    loop = len(single) / (clock(args.device) - started)
    apart = max(
        np.abs(np.array(alone) - found[:: len(asked) // args.alone][: args.alone]).max(), np.abs(at_once - found).max()
    )

    lengths = [len(chat_ids(model.tokenizer, prompt.text)) + len(tail) for prompt in asked]
    heads = lengths[::DRAWS]
    read = sum(heads) + sum(length - head for k, length in enumerate(lengths) for head in [heads[k // DRAWS]])
    rows = [
        [way, f"{n:,}", f"{n / s:,.1f}", f"{n / s / loop:,.1f}"]
        for way, n, s in (
            ("loop, logits of all positions", len(single), len(single) / loop),
            (f"blocks of {BLOCK} targets, a draw at a time", len(asked), seconds),
            ("all at once", len(asked), seconds_at_once),
        )
    ]
    print(table(["way", "prompts", "prompts/s", "ratio"], rows))
    print(
        f"\nWith an adapter as the Predictor's, its own head included. {args.targets:,} targets, {DRAWS} prompts each "
        f"of {np.mean(lengths):,.0f} tokens; read were {read:,} of {sum(lengths):,}, {read / seconds:,.0f} tokens/s "
        f"in blocks, as distillation scores. The probabilities are at most {apart:.1e} apart.",
        flush=True,
    )
    return {"reading": (read / seconds, "measured while scoring with shared prefixes")}


def project(args: argparse.Namespace, rates: dict[str, tuple[float, str]]) -> None:
    """Prints what a run of Music_data would take at these rates, and writes them where that is asked for."""
    from reason4rec.run import __main__ as run
    from reason4rec.systems.reason4rec.pipeline import PIPELINE

    given, command = run.parse(PIPELINE, ["--dataset", "Music_data", "--from", "1/1"])
    steps = run.selected(PIPELINE, given)
    survey = cost.Survey(PIPELINE, steps, lambda step: run.handed_on(PIPELINE, step, command, given))
    plan = PIPELINE.plan(survey)
    plan.rates = with_rates(plan.rates, rates, args)
    print(f"\n### A run of Music_data\n\nAimed at: less than {AIMS['hours']} hours. At the rates above:\n")
    if args.shape != "8b":
        print("The rates are those of a tiny model: these hours mean nothing.\n")
    print(f"```\n{cost.as_text(survey, plan)}\n```", flush=True)
    if args.write_rates:
        files.write_text(costs.RATES, json.dumps(plan.rates, indent=1) + "\n")


def with_rates(known: dict, rates: dict[str, tuple[float, str]], args: argparse.Namespace) -> dict:
    """The rates file with what was measured in it."""
    import torch

    today = str(datetime.date.today())
    named = known["rates"] | {
        name: known["rates"][name] | {"value": float(f"{value:.3g}"), "origin": f"{origin}, {today}"}
        for name, (value, origin) in rates.items()
    }
    assumed = [name for name, rate in named.items() if rate["origin"].startswith("assumed")]
    card = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    return known | {
        "card": card,
        "origin": "partly measured" if assumed else "measured",
        "date": today,
        "rates": named,
    }


if __name__ == "__main__":
    main()
