"""QLoRA fine-tuning of one expert's adapter on a 4-bit base model.

    python -m reason4rec.training.sft --adapter Summarizer --dataset Music_data

Reads  the expert's instruct rows, a list of {"messages": [user, assistant]}
Writes checkpoints/DATASET/ADAPTER (adapter with its head, settings.json, loss_curve.json)

The loss is on the answer only. A row that is too long loses its oldest history, never the instruction or the answer.
A run that is cut off goes on from its last complete checkpoint and ends as an unbroken one does.

On several GPUs, with the same flags and the same rows in each step:

    accelerate launch --config_file configs/ddp.yaml -m reason4rec.training.sft --adapter Summarizer
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reason4rec.data import catalog
from reason4rec.errors import InputError
from reason4rec.llm import base
from reason4rec.llm.prompt import Prompt
from reason4rec.run import files, options
from reason4rec.systems.reason4rec import steps
from reason4rec.systems.reason4rec.experts import EXPERTS, recipe_for
from reason4rec.training.adapters import keep_updates, save, trained_weights
from reason4rec.training.recipe import MAX_LENGTH, OPTIMIZER, SCHEDULE, TARGET_MODULES, Recipe

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import PreTrainedTokenizerBase
    from trl import SFTTrainer


Result = TypeVar("Result")

COMPLETE = "COMPLETE"
IGNORED = -100  # the label of a token that no loss is on
WRITE_FAILURES = ("I/O error", "PytorchStreamWriter", "inline_container")
SHARDED_OPTIMIZER = "adamw_torch"  # bitsandbytes' cannot step on FSDP2's shards (measured with 0.50.2)
SAYING = 5  # seconds that a process which has nothing to say waits for the one that has
CURVE = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def flags(parser: argparse.ArgumentParser) -> None:
    """The trainer's own flags; what is not given comes from the recipe of the adapter."""
    parser.add_argument("--adapter", choices=EXPERTS, required=True, help="which expert to train")
    parser.add_argument("--base_model", help="hub name or folder (default: the dataset's)")
    parser.add_argument("--engine", choices=("auto", "unsloth", "transformers"), default="auto", help="training stack")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    parser.add_argument("--max_length", type=options.positive, default=MAX_LENGTH, help="tokens of the longest row")
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--epochs", type=float, help="passes over the rows")
    parser.add_argument("--batch_size", type=options.positive, help="rows a step, over all accumulated parts")
    parser.add_argument(
        "--gradient_accumulation", type=options.positive, default=1, help="parts that a step is computed in"
    )
    parser.add_argument(
        "--lm_head", action=argparse.BooleanOptionalAction, default=None, help="train and save the output head too"
    )
    parser.add_argument(
        "--padding_free",
        action=argparse.BooleanOptionalAction,
        help="lay the rows of a batch end to end instead of padding them (default: yes; unsloth has its own way)",
    )
    parser.add_argument(
        "--gradient_checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations twice instead of keeping them: less memory, more time (default: only on a GPU)",
    )


def run(args: argparse.Namespace) -> None:
    from accelerate import PartialState

    device = base.resolve_device(args.device)
    state = PartialState(cpu=device == "cpu")
    # What one process says and writes, the others do not say and write again.
    said = contextlib.nullcontext() if state.is_main_process else contextlib.redirect_stdout(io.StringIO())
    with said:
        train(args, device, state)


def train(args: argparse.Namespace, device: str, state: "PartialState") -> None:
    """Trains one adapter, in this process or in one of several that were launched together."""
    from accelerate.utils import gather_object

    out = steps.adapter_path(args, args.adapter)
    folder = training_folder(out)
    step, way = together(state, lambda: plan(args, device, state.num_processes, out))
    # One process decides, since what it finds beside the adapter it may also settle.
    if any(gather_object([together(state, lambda: state.is_main_process and step.done())])):
        return
    print(", ".join(f"{name}={value}" for name, value in way.items()))
    together(state, lambda: state.is_main_process and prepare_folder(folder, step.made_from | {"way": way}))

    def ready() -> tuple[int, "SFTTrainer", int]:
        rows = step.read(EXPERTS[args.adapter].rows)[: args.limit]
        return len(rows), *build_trainer(rows, step.settings | way, args.seed, folder)

    n_rows, trainer, shortened = together(state, ready)
    try:
        trainer.train(resume_from_checkpoint=last_complete(folder))
        weights = trained_weights(trainer.model)
        if not state.is_main_process:
            return
        curve = [{key: entry[key] for key in CURVE} for entry in trainer.state.log_history if "loss" in entry]
        save(trainer.model, weights, trainer.processing_class, out, step.made_from, way, curve)
    except OSError as error:
        error.filename = error.filename or str(out)
        raise
    except Exception as error:
        # Neither safetensors nor torch says by its class that the disk is full.
        if not any(sign in str(error) for sign in WRITE_FAILURES):
            raise
        raise InputError(f"{out}: cannot be written ({error}); free the disk and run again") from error
    shutil.rmtree(folder)
    step.card(
        n_rows,
        round(n_rows * step.settings["epochs"]),
        rows_shortened=shortened,
        steps=trainer.state.global_step,
        first_loss=round(curve[0]["loss"], 4),
        last_loss=round(curve[-1]["loss"], 4),
    )


def plan(args: argparse.Namespace, device: str, processes: int, out: Path) -> tuple[steps.Step, dict]:
    """The step with all that decides the weights, and the way they are computed; InputError for flags that conflict."""
    engine = resolve_engine(args.engine, device, processes)
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    dataset = catalog.get(args.dataset, args.data_root)
    base_model = args.base_model or dataset.base_model
    given = {name: getattr(args, name) for name in ("lr", "epochs", "batch_size", "lm_head")}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = replace(recipe_for(args.adapter, dataset), **given)
    rows_at_once(recipe.batch_size, args.gradient_accumulation, processes)
    settings = {
        "adapter": args.adapter,
        "base_model": base_model,
        "base_sha256": files.sha256(Path(base_model)) if Path(base_model).is_dir() else None,
        "max_length": args.max_length,
        "target_modules": TARGET_MODULES,
        "optimizer": optimizer_for(sharded),
        "schedule": SCHEDULE,
        **asdict(recipe),
    }
    # How the weights are computed is recorded, but another way to the same weights does not put them out of date.
    way = {
        "engine": engine,
        "device": device,
        "processes": processes,
        "sharded": sharded,
        "gradient_accumulation": args.gradient_accumulation,
        "padding_free": resolve_padding_free(args.padding_free, engine),
        "gradient_checkpointing": (device == "cuda")
        if args.gradient_checkpointing is None
        else args.gradient_checkpointing,
    }
    rows = EXPERTS[args.adapter].rows
    return steps.Step(args, reads=[rows], writes=[out], scratch=[training_folder(out)], **settings), way


def together(state: "PartialState", work: Callable[[], Result]) -> Result:
    """What `work` gives, done in every process; if it fails in any, the first to fail says why and all end."""
    from accelerate.utils import gather_object

    failure = None
    try:
        result = work()
    except (InputError, OSError) as error:
        failure = error
    failed = gather_object([failure is not None])
    if failure is not None and failed.index(True) == state.process_index:
        raise failure
    if any(failed):
        # A launcher ends all processes when one has ended, which must not be before the reason is said.
        time.sleep(SAYING)
        sys.exit(2)
    return result


def rows_at_once(batch_size: int, gradient_accumulation: int, processes: int) -> int:
    """Rows that a process takes at once, so that a step has `batch_size` in all; InputError if it does not come out."""
    if batch_size % (gradient_accumulation * processes):
        raise InputError(
            f"the batch of {batch_size} cannot be split evenly into --gradient_accumulation {gradient_accumulation} "
            f"parts for {processes} process(es): choose another number of parts or processes, or another --batch_size"
        )
    return batch_size // (gradient_accumulation * processes)


def resolve_engine(engine: str, device: str, processes: int = 1) -> str:
    """`unsloth` or `transformers`: unsloth is taken on one GPU where it is installed, and refused elsewhere."""
    installed = importlib.util.find_spec("unsloth") is not None
    if engine == "unsloth" and (device != "cuda" or not installed):
        raise InputError("--engine unsloth needs CUDA and `pip install -r requirements-gpu.txt`; use transformers")
    if engine == "unsloth" and processes > 1:
        raise InputError("--engine unsloth trains in one process; use transformers with several")
    if engine == "auto":
        return "unsloth" if device == "cuda" and installed and processes == 1 else "transformers"
    return engine


def resolve_padding_free(padding_free: bool | None, engine: str) -> bool | None:
    """Whether the rows of a batch are laid end to end: yes unless told otherwise; None where unsloth decides."""
    if engine == "unsloth":
        if padding_free is not None:
            raise InputError("--padding_free and --no-padding_free are for --engine transformers; unsloth has its own")
        return None
    return padding_free is not False


def optimizer_for(sharded: bool) -> str:
    """The optimizer's name, of transformers: that of the recipes where it can step on the weights."""
    return SHARDED_OPTIMIZER if sharded else OPTIMIZER


def training_folder(out: Path) -> Path:
    """Where the checkpoints of an unfinished training lie: beside its adapter's place."""
    return out.with_name(f".{out.name}.training")


def prepare_folder(folder: Path, made_from: dict) -> None:
    """Keeps the checkpoints of a training of the same rows and settings, and removes those of another."""
    mark = folder / "made_from.json"
    text = json.dumps(made_from, sort_keys=True)
    if folder.exists() and not (mark.is_file() and mark.read_text(encoding="utf-8") == text):
        print(f"starting anew: the checkpoints in {folder} are those of other rows, settings or ways, and are removed")
        shutil.rmtree(folder)
    files.write_text(mark, text)


def last_complete(folder: Path) -> str | None:
    """The checkpoint to go on from: the latest that was written whole."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def fit_rows(rows: list[dict], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> tuple[list[dict], int]:
    """Rows as `input_ids` and `labels` (-100 up to the answer), at most `max_length` long, and how many were shortened.

    Every trainer takes these as they are, and tokenizes nothing itself.
    """
    from reason4rec.llm.tokens import answer_ids, encode

    fitted, shortened = [], 0
    for number, row in enumerate(rows):
        user, assistant = (message["content"] for message in row["messages"])
        answer = answer_ids(tokenizer, assistant)
        prompt = Prompt(user, tuple(map(tuple, row.get("optional", ()))))
        try:
            asked, cut = encode(tokenizer, prompt, max_length - len(answer))
        except InputError as error:
            raise InputError(f"training row {number}: {error}") from error
        shortened += cut > 0
        fitted.append({"input_ids": asked + answer, "labels": [IGNORED] * len(asked) + answer})
    return fitted, shortened


def build_trainer(rows: list[dict], settings: dict, seed: int, folder: Path) -> tuple["SFTTrainer", int]:
    """A trainer that is ready to train, and how many rows were shortened.

    `settings` holds a recipe's fields, `base_model`, `max_length`, and the way as `plan` records it.
    """
    unsloth = settings["engine"] == "unsloth"
    if unsloth:
        # It patches trl and transformers at import, so it must come first, and only where it is used.
        from unsloth import FastLanguageModel
    import torch
    from accelerate import PartialState
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from peft import LoraConfig
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from reason4rec.llm.bases import load_base
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training.batches import Filled, attend_row_by_row, flatten

    class MarkComplete(TrainerCallback):
        def on_save(self, args, state, control, **_):
            # Each process writes its own random state.
            PartialState().wait_for_everyone()
            if state.is_world_process_zero:
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    class Progress(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if self.training_bar is not None and logs and "loss" in logs:
                self.training_bar.set_postfix(loss=logs["loss"])

    disable_progress_bar()
    recipe = Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})
    cuda, processes = settings["device"] == "cuda", settings["processes"]
    at_once = rows_at_once(recipe.batch_size, settings["gradient_accumulation"], processes)
    tokenizer = load_tokenizer(settings["base_model"])
    tokenizer.padding_side = "right"
    fitted, shortened = fit_rows(rows, tokenizer, settings["max_length"])
    blanks = -len(fitted) % (processes * at_once) if processes > 1 else 0
    blank = {"input_ids": [tokenizer.pad_token_id], "labels": [IGNORED]}
    lora = {
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "target_modules": list(TARGET_MODULES),
        "modules_to_save": ["lm_head"] if recipe.lm_head else None,
    }
    torch.manual_seed(seed)
    if unsloth:
        model, _ = FastLanguageModel.from_pretrained(
            settings["base_model"], max_seq_length=settings["max_length"], load_in_4bit=True
        )
        checkpointing = "unsloth" if settings["gradient_checkpointing"] else False
        model = FastLanguageModel.get_peft_model(
            model, **lora, random_state=seed, use_gradient_checkpointing=checkpointing
        )
    else:
        place = f"cuda:{PartialState().local_process_index}" if cuda and processes > 1 else settings["device"]
        # Shards are cut from tensors of one kind, so the 4-bit weights are stored as if they were the others' numbers.
        model = load_base(settings["base_model"], place, torch.bfloat16 if settings["sharded"] else torch.uint8)
        model.config.use_cache = False
        if settings["padding_free"]:
            attend_row_by_row(model)
    # The rows fit already, and logits are of the answers' tokens only, 256 at a time; unsloth has its own loss and cap.
    its_own = {"max_length": settings["max_length"]} if unsloth else {"max_length": None, "loss_type": "chunked_nll"}
    config = SFTConfig(
        output_dir=str(folder),
        **its_own,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=settings["gradient_accumulation"],
        learning_rate=recipe.lr,
        warmup_steps=recipe.warmup,
        lr_scheduler_type=SCHEDULE,
        optim=optimizer_for(settings["sharded"]),
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=settings["gradient_checkpointing"],
        ddp_find_unused_parameters=False,
        seed=seed,
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=1,
        logging_strategy="steps",
        report_to="none",
    )
    # With several cards in sight the trainer would multiply the batch by their number and train on one.
    config.device  # noqa: B018  (reading it resolves the number of cards)
    config._n_gpu = min(config._n_gpu, 1)
    if not cuda:
        # To the `cpu:0` of several processes torch loads no checkpoint.
        vars(config)["_setup_devices"] = torch.device("cpu")
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(fitted + [blank] * (blanks > 0)),
        data_collator=flatten if settings["padding_free"] else None,
        processing_class=tokenizer,
        peft_config=None if unsloth else LoraConfig(task_type="CAUSAL_LM", **lora),
        callbacks=[MarkComplete()],
    )
    if blanks:
        trainer._get_train_sampler = lambda _: Filled(len(fitted), len(fitted) + blanks)
    elif len(trainer.train_dataset) != len(rows):
        raise InputError(f"{len(rows) - len(trainer.train_dataset)} training rows were dropped: raise --max_length")
    for noisy in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(noisy)
    trainer.add_callback(Progress())
    keep_updates(trainer.model)
    check_labels(trainer, fitted[0]["labels"])
    return trainer, shortened


def check_labels(trainer: "SFTTrainer", expected: list[int]) -> None:
    """InputError unless the loss of the first row is on its answer and end of turn alone, whatever the engine does."""
    labels = trainer.data_collator([trainer.train_dataset[0]])["labels"][0]
    learned = labels[labels != IGNORED].tolist()
    if learned != [label for label in expected if label != IGNORED]:
        text = trainer.processing_class.decode(learned)
        raise InputError(f"the trainer would learn {text[:80]!r} and not the answer alone; try --engine transformers")


if __name__ == "__main__":
    steps.main(run, __doc__, flags)
