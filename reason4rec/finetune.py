"""QLoRA fine-tuning of one expert's adapter on a 4-bit base model.

    python -m reason4rec.finetune --adapter Summarizer --dataset Music_data

Reads  the expert's instruct rows, a list of {"messages": [user, assistant]}
Writes checkpoints/DATASET/ADAPTER (adapter with its head, settings.json, loss_curve.json)

The loss is on the answer only. A row that is too long loses its oldest history, never the instruction or the answer.
A run that is cut off goes on from its last complete checkpoint and ends as an unbroken one does.
"""

import argparse
import importlib.util
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec import artifacts, datasets, steps
from reason4rec.errors import InputError
from reason4rec.prompts import Prompt, shorten
from reason4rec.recipes import EXPERTS, MAX_LENGTH, OPTIMIZER, SCHEDULE, TARGET_MODULES, Recipe, recipe_for

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase
    from trl import SFTTrainer

COMPLETE = "COMPLETE"
WRITE_FAILURES = ("I/O error", "PytorchStreamWriter", "inline_container")
CURVE = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def flags(parser: argparse.ArgumentParser) -> None:
    """The trainer's own flags; what is not given comes from the recipe of the adapter."""
    parser.add_argument("--adapter", choices=EXPERTS, required=True, help="which expert to train")
    parser.add_argument("--base_model", help="hub name or folder (default: the dataset's)")
    parser.add_argument("--engine", choices=("auto", "unsloth", "transformers"), default="auto", help="training stack")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    parser.add_argument("--max_length", type=steps.positive, default=MAX_LENGTH, help="tokens of the longest row")
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--epochs", type=float, help="passes over the rows")
    parser.add_argument("--batch_size", type=steps.positive, help="rows a step, over all accumulated parts")
    parser.add_argument(
        "--gradient_accumulation", type=steps.positive, default=1, help="parts that a step is computed in"
    )
    parser.add_argument(
        "--lm_head", action=argparse.BooleanOptionalAction, default=None, help="train and save the output head too"
    )


def run(args: argparse.Namespace) -> None:
    expert = EXPERTS[args.adapter]
    out = steps.adapter_path(args, args.adapter)
    device = steps.resolve_device(args.device)
    engine = resolve_engine(args.engine, device)
    dataset = datasets.get(args.dataset, args.data_root)
    base_model = args.base_model or dataset.base_model
    given = {name: getattr(args, name) for name in ("lr", "epochs", "batch_size", "lm_head")}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = replace(recipe_for(args.adapter, dataset), **given)
    if recipe.batch_size % args.gradient_accumulation:
        raise InputError(
            f"--gradient_accumulation {args.gradient_accumulation} does not divide the batch of {recipe.batch_size}"
        )
    settings = {
        "adapter": args.adapter,
        "base_model": base_model,
        "base_sha256": artifacts.sha256(Path(base_model)) if Path(base_model).is_dir() else None,
        "max_length": args.max_length,
        "target_modules": TARGET_MODULES,
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        **asdict(recipe),
    }
    step = steps.Step(args, reads=[expert.rows], writes=[out], **settings)
    # How the weights are computed is recorded, but another way to the same weights does not put them out of date.
    way = {"engine": engine, "device": device, "gradient_accumulation": args.gradient_accumulation}
    if step.done():
        return
    print(", ".join(f"{name}={value}" for name, value in way.items()))
    rows = step.read(expert.rows)[: args.limit]
    prepare_folder(training_folder(out), step.made_from | {"way": way})
    trainer, shortened = build_trainer(rows, settings | way, args.seed, training_folder(out))
    try:
        trainer.train(resume_from_checkpoint=last_complete(training_folder(out)))
        curve = [{key: entry[key] for key in CURVE} for entry in trainer.state.log_history if "loss" in entry]
        save(trainer.model, trainer.processing_class, out, step.made_from, way, curve)
    except Exception as error:
        # Neither safetensors nor torch says by its class that the disk is full.
        if not any(sign in str(error) for sign in WRITE_FAILURES):
            raise
        raise InputError(f"{out}: cannot be written ({error}); free the disk and run again") from error
    shutil.rmtree(training_folder(out))
    step.card(
        len(rows),
        round(len(rows) * recipe.epochs),
        rows_shortened=shortened,
        steps=trainer.state.global_step,
        first_loss=round(curve[0]["loss"], 4),
        last_loss=round(curve[-1]["loss"], 4),
    )


def resolve_engine(engine: str, device: str) -> str:
    """`unsloth` or `transformers`: unsloth is taken on CUDA where it is installed, and refused elsewhere."""
    installed = importlib.util.find_spec("unsloth") is not None
    if engine == "unsloth" and (device != "cuda" or not installed):
        raise InputError("--engine unsloth needs CUDA and `pip install -r requirements-gpu.txt`; use transformers")
    return ("unsloth" if device == "cuda" and installed else "transformers") if engine == "auto" else engine


def training_folder(out: Path) -> Path:
    """Where the checkpoints of an unfinished training lie: beside its adapter's place."""
    return out.with_name(f".{out.name}.training")


def prepare_folder(folder: Path, made_from: dict) -> None:
    """Keeps the checkpoints of a training of the same rows and settings, and removes those of another."""
    mark = folder / "made_from.json"
    text = json.dumps(made_from, sort_keys=True)
    if folder.exists() and not (mark.is_file() and mark.read_text(encoding="utf-8") == text):
        shutil.rmtree(folder)
    artifacts.write_text(mark, text)


def last_complete(folder: Path) -> str | None:
    """The checkpoint to go on from: the latest that was written whole."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None


def fit_rows(rows: list[dict], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> tuple[list[dict], int]:
    """Rows as trl's prompt and completion, each at most `max_length` tokens, and how many were shortened.

    The prompt-completion form is the one whose loss is on the answer alone (measured with trl 1.14).
    """
    from reason4rec.model import chat_ids

    fitted, shortened = [], 0
    for number, row in enumerate(rows):
        user, assistant = (message["content"] for message in row["messages"])
        room = max_length - len(tokenizer(f"{assistant}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"])
        prompt = Prompt(user, tuple(map(tuple, row.get("optional", ()))))
        try:
            text, cut = shorten(prompt, lambda text, room=room: len(chat_ids(tokenizer, text)) <= room)
        except InputError as error:
            raise InputError(f"training row {number}: {error}") from error
        shortened += cut > 0
        fitted.append(
            {
                "prompt": [{"role": "user", "content": text}],
                "completion": [{"role": "assistant", "content": assistant}],
            }
        )
    return fitted, shortened


def build_trainer(rows: list[dict], settings: dict, seed: int, folder: Path) -> tuple["SFTTrainer", int]:
    """A trainer that is ready to train, and how many rows were shortened.

    `settings` holds a recipe's fields and `base_model`, `engine`, `device`, `max_length`, `gradient_accumulation`.
    """
    unsloth = settings["engine"] == "unsloth"
    if unsloth:
        # It patches trl and transformers at import, so it must come first, and only where it is used.
        from unsloth import FastLanguageModel
    import torch
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from peft import LoraConfig
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from reason4rec.model import load_base, load_tokenizer

    class MarkComplete(TrainerCallback):
        def on_save(self, args, state, control, **_):
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    class Progress(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **_):
            if self.training_bar is not None and logs and "loss" in logs:
                self.training_bar.set_postfix(loss=logs["loss"])

    disable_progress_bar()
    recipe = Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})
    cuda = settings["device"] == "cuda"
    tokenizer = load_tokenizer(settings["base_model"])
    tokenizer.padding_side = "right"
    fitted, shortened = fit_rows(rows, tokenizer, settings["max_length"])
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
        model = FastLanguageModel.get_peft_model(model, **lora, random_state=seed)
    else:
        model = load_base(settings["base_model"], settings["device"])
        model.config.use_cache = False
    config = SFTConfig(
        output_dir=str(folder),
        max_length=settings["max_length"],
        completion_only_loss=True,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size // settings["gradient_accumulation"],
        gradient_accumulation_steps=settings["gradient_accumulation"],
        learning_rate=recipe.lr,
        warmup_steps=recipe.warmup,
        lr_scheduler_type=SCHEDULE,
        optim=OPTIMIZER,
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=cuda,
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
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(fitted),
        processing_class=tokenizer,
        peft_config=None if unsloth else LoraConfig(task_type="CAUSAL_LM", **lora),
        callbacks=[MarkComplete()],
    )
    if len(trainer.train_dataset) != len(rows):
        raise InputError(f"{len(rows) - len(trainer.train_dataset)} training rows were dropped: raise --max_length")
    for noisy in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(noisy)
    trainer.add_callback(Progress())
    keep_updates(trainer.model)
    check_labels(trainer, fitted[0])
    return trainer, shortened


def check_labels(trainer: "SFTTrainer", row: dict) -> None:
    """InputError unless the loss of the first row is on its answer and end of turn alone, whatever the engine does."""
    tokenizer = trainer.processing_class
    labels = trainer.data_collator([trainer.train_dataset[0]])["labels"][0]
    learned = tokenizer.decode(labels[labels != -100])
    if learned.strip() != f"{row['completion'][0]['content']}{tokenizer.eos_token}".strip():
        raise InputError(
            f"the trainer would learn {learned[:80]!r} and not the answer alone; try --engine transformers"
        )


def keep_updates(model: "PeftModel") -> None:
    """Puts the trainable weights in fp32: trl casts them to bf16, which rounds the updates of a small rate away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def save(
    model: "PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    made_from: dict,
    way: dict,
    curve: list[dict],
) -> None:
    """Writes the adapter, reopens it, compares every trained tensor, and only then lets it take its place."""
    draft = artifacts.draft_path(out)
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    compare(model, draft)
    artifacts.write_text(draft / "settings.json", json.dumps(made_from["settings"] | way, indent=1, sort_keys=True))
    artifacts.write_text(draft / "loss_curve.json", json.dumps(curve, indent=1))
    artifacts.write_record(out, made_from, artifacts.sha256(draft))
    if out.exists():
        shutil.rmtree(out)
    draft.rename(out)


def compare(model: "PeftModel", folder: Path) -> None:
    """InputError unless every trained tensor is in the saved adapter, unchanged."""
    from safetensors.torch import load_file

    saved = load_file(folder / "adapter_model.safetensors")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = name.replace(".default", "").replace(".modules_to_save", "")
        if key not in saved or not saved[key].equal(parameter.detach().cpu()):
            raise InputError(f"{folder}: trained weight {name} is not in the saved adapter as it was trained")


if __name__ == "__main__":
    steps.main(run, __doc__, flags)
