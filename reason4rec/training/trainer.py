"""trl's trainer, set up for one adapter: its rows as token ids, its model, and what it shows while it works."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from reason4rec.errors import InputError
from reason4rec.llm.known_bases import located
from reason4rec.llm.prompt import Prompt
from reason4rec.run.progress import progress
from reason4rec.training.adapters import finish_new_rows, keep_inputs, keep_updates, start_from
from reason4rec.training.modules import all_weights, head_of, rows_of_new_tokens, target_modules
from reason4rec.training.recipe import SAVE_MINUTES, SCHEDULE, Recipe, recipe_in, warmup_steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer

COMPLETE = "COMPLETE"
IGNORED = -100  # the label of a token that no loss is on


def rows_at_once(batch_size: int, gradient_accumulation: int, processes: int) -> int:
    """Rows that a process takes at once, so that a step has `batch_size` in all; InputError if it does not come out."""
    if batch_size % (gradient_accumulation * processes):
        raise InputError(
            f"the batch of {batch_size} cannot be split evenly into --gradient_accumulation {gradient_accumulation} "
            f"parts for {processes} process(es): choose another number of parts or processes, or another --batch_size"
        )
    return batch_size // (gradient_accumulation * processes)


def fit_rows(
    rows: list[dict], tokenizer: "PreTrainedTokenizerBase", max_length: int, quiet: bool = False
) -> tuple[list[dict], int]:
    """Rows as `input_ids` and `labels` (-100 up to the answer), at most `max_length` long, and how many were shortened.

    A row that is too long loses its oldest history, never the instruction or the answer. Every trainer takes these as
    they are, and tokenizes nothing itself. A bar shows how far it is unless `quiet`. InputError names a row whose
    instruction and answer alone are longer than `max_length`.
    """
    from reason4rec.llm.tokens import answer_ids, encode

    fitted, shortened = [], 0
    with progress("tokenising", len(rows), "row", quiet) as bar:
        for number, row in enumerate(rows):
            user, assistant = (message["content"] for message in row["messages"])
            answer = answer_ids(tokenizer, assistant)
            prompt = Prompt(user, tuple(map(tuple, row.get("optional", ()))))
            try:
                before, cut = encode(tokenizer, prompt, max_length - len(answer))
            except InputError as error:
                raise InputError(f"training row {number}: {error}") from error
            shortened += cut > 0
            fitted.append({"input_ids": before + answer, "labels": [IGNORED] * len(before) + answer})
            bar.update()
    return fitted, shortened


def build_trainer(
    rows: list[dict], settings: dict, seed: int, folder: Path, save_minutes: float = SAVE_MINUTES
) -> tuple["SFTTrainer", int]:
    """A trainer that is ready to train, and how many rows were shortened.

    `settings` holds a recipe's fields, `base_model`, `max_length`, `optimizer`, and those of `sft.execution_of`.
    It saves after each epoch, and when its last checkpoint is `save_minutes` old. InputError where a row cannot be
    shortened enough, or where the loss would be on more than the answer.
    """
    if settings["engine"] == "unsloth":
        # It patches trl and transformers at import, so it must come first, and only where it is used.
        import unsloth  # noqa: F401
    from accelerate import PartialState
    from datasets import Dataset, disable_progress_bars

    from reason4rec.llm.bases import check_vocabulary
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training.batches import flatten
    from reason4rec.training.callbacks import MarkComplete, SaveByTime
    from reason4rec.training.memory import fit_parts

    disable_progress_bars()
    recipe = recipe_in(settings)
    tokenizer = load_tokenizer(settings["base_model"])
    tokenizer.padding_side = "right"
    fitted, shortened = fit_rows(rows, tokenizer, settings["max_length"], quiet=not PartialState().is_main_process)
    print(f"loading base model {settings['base_model']} in {settings['dtype']}", flush=True)
    at_once = rows_at_once(recipe.batch_size, settings["gradient_accumulation"], settings["processes"])
    blanks = -len(fitted) % (settings["processes"] * at_once) if settings["processes"] > 1 else 0
    blank = [{"input_ids": [tokenizer.pad_token_id], "labels": [IGNORED]}] if blanks else []
    model = model_to_train(recipe, settings, seed)
    check_vocabulary(model, tokenizer, settings["base_model"])
    trainer = trainer_class(len(fitted), blanks, settings["device"] == "cpu", recipe.in_order)(
        model=model,
        args=config_of(recipe, settings, seed, folder, warmup_steps(recipe, len(rows))),
        train_dataset=Dataset.from_list(fitted + blank),
        data_collator=flatten if settings["padding_free"] else None,
        processing_class=tokenizer,
        peft_config=adapter_config(recipe, model, settings, tokenizer),
        callbacks=[MarkComplete(), SaveByTime(save_minutes)],
    )
    if not blanks and len(trainer.train_dataset) != len(rows):
        raise InputError(f"{len(rows) - len(trainer.train_dataset)} training rows were dropped: raise --max_length")
    keep_updates(trainer.model)
    finish_new_rows(trainer.model)
    if settings.get("start_from"):
        start_from(trainer.model, Path(settings["start_from"]), settings)
    check_labels(trainer, fitted[0]["labels"])
    show_progress(trainer)
    fit_parts(trainer, settings, folder)
    return trainer, shortened


def show_progress(trainer: "SFTTrainer") -> None:
    """Lets a trainer show its steps as all that is slow does here."""
    from transformers import PrinterCallback, ProgressCallback

    from reason4rec.training.callbacks import Progress

    for noisy in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(noisy)
    trainer.add_callback(Progress())


def trainer_class(n_rows: int, blanks: int, on_cpu: bool, in_order: bool = False) -> type["SFTTrainer"]:
    """trl's trainer; on a CPU one that goes through a batch in parts of at most `tokens_at_once` tokens.

    Where processes would be left without a row, it gives them blank ones.
    """
    import torch
    from trl import SFTTrainer

    from reason4rec.training.batches import Filled, parts_of
    from reason4rec.training.memory import computed_twice

    class PartsTrainer(SFTTrainer):
        tokens_at_once: int | None = None
        computed_twice = False

        def __init__(self, **given):
            super().__init__(**given)
            if self.args.bf16:
                keep_inputs(self.model)

        def compute_loss_context_manager(self):
            stack = contextlib.ExitStack()
            stack.enter_context(super().compute_loss_context_manager())
            stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16))
            return stack

        def training_step(self, model, inputs, num_items_in_batch=None):
            # A part's loss is its sum over the number of tokens in the whole batch, so that parts add up to it.
            loss = 0.0
            for part in parts_of(inputs, self.tokens_at_once):
                with computed_twice(model, self.computed_twice and part["input_ids"].numel() > self.tokens_at_once):
                    loss += super().training_step(model, part, num_items_in_batch)
            return loss

    kind = PartsTrainer if on_cpu else SFTTrainer
    if not blanks:
        return kind

    class FilledTrainer(kind):
        # Its public caller, `get_train_dataloader`, would have to be written anew for another sampler.
        def _get_train_sampler(self, *_: object) -> Filled:
            return Filled(n_rows, n_rows + blanks, in_order)

    return FilledTrainer


def adapter_options(recipe: Recipe, model: "PreTrainedModel", base_model: str) -> dict[str, object]:
    """An adapter's options as peft and unsloth both call them."""
    return {
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "target_modules": list(target_modules(model, base_model)),
        "modules_to_save": [head_of(model, base_model)] if recipe.lm_head else None,
    }


def adapter_config(
    recipe: Recipe, model: "PreTrainedModel", settings: dict, tokenizer: "PreTrainedTokenizerBase"
) -> object | None:
    """peft's configuration of an adapter; None where unsloth has put it on the model."""
    from peft import LoraConfig

    if settings["engine"] == "unsloth":
        return None
    base = settings["base_model"]
    if recipe.full:
        return all_weights(model)
    rows = rows_of_new_tokens(model, base, tokenizer) if recipe.new_tokens else None
    return LoraConfig(task_type="CAUSAL_LM", trainable_token_indices=rows, **adapter_options(recipe, model, base))


def model_to_train(recipe: Recipe, settings: dict, seed: int) -> "PreTrainedModel":
    """The base model in 4 bits; with unsloth, its adapter is on it already. What is drawn from here on has the seed."""
    import torch

    torch.manual_seed(seed)
    if settings["engine"] == "unsloth":
        from unsloth import FastLanguageModel

        model, _ = FastLanguageModel.from_pretrained(
            str(located(settings["base_model"])), max_seq_length=settings["max_length"], load_in_4bit=True
        )
        checkpointing = "unsloth" if settings["gradient_checkpointing"] else False
        options = {"random_state": seed, "use_gradient_checkpointing": checkpointing}
        return FastLanguageModel.get_peft_model(
            model, **adapter_options(recipe, model, settings["base_model"]), **options
        )
    from accelerate import PartialState

    from reason4rec.llm.bases import load_base, unpacked
    from reason4rec.training.batches import attend_row_by_row

    several = settings["device"] == "cuda" and settings["processes"] > 1
    device = f"cuda:{PartialState().local_process_index}" if several else settings["device"]
    # Shards are cut from tensors of one kind, so the 4-bit weights are stored as if they were the others' numbers.
    storage = torch.bfloat16 if settings["sharded"] else torch.uint8
    dtype = getattr(torch, settings["dtype"])
    model = load_base(settings["base_model"], device, storage, dtype, packed=not recipe.full)
    if in_bf16_on_a_cpu(settings):
        # At most half of the machine's memory, whatever is free just now.
        model, _ = unpacked(model, psutil.virtual_memory().total / 2)
    model.config.use_cache = False
    if settings["padding_free"]:
        attend_row_by_row(model)
    return model


def in_bf16_on_a_cpu(settings: dict) -> bool:
    """Whether a training multiplies in bf16 on a CPU, where its trained weights in fp32 are cast by autocast."""
    return settings["device"] == "cpu" and settings["dtype"] == "bfloat16"


def config_of(recipe: Recipe, settings: dict, seed: int, folder: Path, warmup: float) -> "SFTConfig":
    """trl's configuration of a training; `warmup` as in `warmup_steps`."""
    from reason4rec.training.config import OneDeviceConfig

    unsloth, cuda = settings["engine"] == "unsloth", settings["device"] == "cuda"
    # The rows fit already, and logits are of the answers' tokens only, 256 at a time; unsloth has its own loss and cap.
    of_engine = {"max_length": settings["max_length"]} if unsloth else {"max_length": None, "loss_type": "chunked_nll"}
    return OneDeviceConfig(
        output_dir=str(folder),
        **of_engine,
        num_train_epochs=recipe.epochs,
        train_sampling_strategy="sequential" if recipe.in_order else "random",
        per_device_train_batch_size=rows_at_once(
            recipe.batch_size, settings["gradient_accumulation"], settings["processes"]
        ),
        gradient_accumulation_steps=settings["gradient_accumulation"],
        learning_rate=recipe.lr,
        warmup_steps=warmup,
        lr_scheduler_type=SCHEDULE,
        optim=settings["optimizer"],
        bf16=cuda or in_bf16_on_a_cpu(settings),
        use_cpu=not cuda,
        gradient_checkpointing=bool(settings["gradient_checkpointing"]),
        ddp_find_unused_parameters=False,
        seed=seed,
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=1,
        logging_strategy="steps",
        report_to="none",
    )


def check_labels(trainer: "SFTTrainer", expected: list[int]) -> None:
    """InputError unless the loss of the first row is on its answer and end of turn alone, whatever the engine does."""
    labels = trainer.data_collator([trainer.train_dataset[0]])["labels"][0]
    learned = labels[labels != IGNORED].tolist()
    if learned != [label for label in expected if label != IGNORED]:
        text = trainer.processing_class.decode(learned)
        raise InputError(f"the trainer would learn {text[:80]!r} and not the answer alone; try --engine transformers")
