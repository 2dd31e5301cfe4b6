"""Supervised fine-tuning of an adapter on a 4-bit base model (QLoRA), in one process or in several.

The loss is on the answer only. A training that is cut off goes on from its last complete checkpoint and ends as an
unbroken one does.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.adapters import ALL_WEIGHTS, base_of
from reason4rec.llm.known_bases import sha256_of
from reason4rec.run import files
from reason4rec.training import trackers
from reason4rec.training.adapters import save, sha256_of_weights, trained_weights
from reason4rec.training.processes import any_is, is_launched, together
from reason4rec.training.recipe import OPTIMIZER, SAVE_MINUTES, SCHEDULE, TARGET_MODULES, Recipe, recorded
from reason4rec.training.trainer import COMPLETE, build_trainer, rows_at_once

if TYPE_CHECKING:
    from accelerate import PartialState
    from trl import SFTTrainer

WRITE_FAILURES = ("I/O error", "PytorchStreamWriter", "inline_container")
SHARDED_OPTIMIZER = "adamw_torch"  # bitsandbytes' cannot step on FSDP2's shards (measured with 0.50.2)
CURVE = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def settings_of(
    adapter: str, recipe: Recipe, base_model: str, max_length: int, start_from: Path | None = None
) -> dict[str, object]:
    """All that decides the weights of an adapter, by the names in its record.

    An adapter that is trained further is named by its weights. InputError if `start_from` holds none.
    """
    started = {} if start_from is None else {"started_from": sha256_of_weights(start_from, "--start_from")}
    return started | {
        "adapter": adapter,
        "base_model": base_model,
        "base_sha256": sha256_of(base_model),
        "max_length": max_length,
        "target_modules": ALL_WEIGHTS if recipe.full else TARGET_MODULES,
        "optimizer": SHARDED_OPTIMIZER if is_sharded() else OPTIMIZER,
        "schedule": SCHEDULE,
        **recorded(recipe),
    }


def execution_of(
    batch_size: int,
    device: str,
    processes: int = 1,
    engine: str = "auto",
    gradient_accumulation: int = 1,
    padding_free: bool | None = None,
    gradient_checkpointing: bool | None = None,
    start_from: Path | None = None,
    new_tokens: bool = False,
    full: bool = False,
) -> dict[str, object]:
    """The settings that change no result, only how it is computed, by the names in the record.

    They are recorded, but an adapter trained with others is not out of date. InputError for options that conflict.
    """
    engine = resolve_engine(engine, device, processes, new_tokens, full)
    rows_at_once(batch_size, gradient_accumulation, processes)
    if gradient_checkpointing is None and device == "cuda":
        gradient_checkpointing = True  # on a CPU the memory decides, once the base is loaded
    return {
        "engine": engine,
        "device": device,
        "processes": processes,
        "sharded": is_sharded(),
        "gradient_accumulation": gradient_accumulation,
        "padding_free": resolve_padding_free(padding_free, engine),
        "gradient_checkpointing": gradient_checkpointing,
    } | ({"start_from": str(start_from)} if start_from else {})


def is_sharded() -> bool:
    """Whether accelerate shards the base model, which its launcher decides."""
    return is_launched() and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def resolve_engine(engine: str, device: str, processes: int = 1, new_tokens: bool = False, full: bool = False) -> str:
    """`unsloth` or `transformers`: unsloth is taken on one GPU where it is installed, and refused elsewhere.

    It is not taken where new tokens or all weights are trained either: these are put beside the base by peft.
    """
    installed = importlib.util.find_spec("unsloth") is not None
    if engine == "unsloth" and (device != "cuda" or not installed):
        raise InputError("--engine unsloth needs CUDA and `pip install -r requirements-gpu.txt`; use transformers")
    if engine == "unsloth" and processes > 1:
        raise InputError("--engine unsloth trains in one process; use transformers with several")
    if engine == "unsloth" and new_tokens:
        raise InputError("--engine unsloth trains no rows of --new_tokens; use transformers")
    if engine == "unsloth" and full:
        raise InputError("--engine unsloth trains adapters alone, and not --full; use transformers")
    if engine == "auto":
        able = device == "cuda" and installed and processes == 1 and not (new_tokens or full)
        return "unsloth" if able else "transformers"
    return engine


def resolve_padding_free(padding_free: bool | None, engine: str) -> bool | None:
    """Whether the rows of a batch are laid end to end; None where unsloth decides, or else `suited` by the base."""
    if engine == "unsloth":
        if padding_free is not None:
            raise InputError("--padding_free and --no-padding_free are for --engine transformers; unsloth has its own")
        return None
    return padding_free


def suited(execution: dict[str, object], settings: dict[str, object]) -> dict[str, object]:
    """The execution as a base needs it, with what it changes of the settings: its layers, and how long a row can be.

    Rows are laid end to end where the base attends so that they can be, unless that was decided. InputError names a
    base that cannot be used, or be trained in the way that was asked for.
    """
    from reason4rec.llm.base_files import length_that_fits, read_config
    from reason4rec.llm.bases import dtype_on
    from reason4rec.llm.tokens import load_tokenizer
    from reason4rec.training.batches import can_lay_end_to_end
    from reason4rec.training.modules import check_adapter

    base_model = settings["base_model"]
    config = read_config(base_model)
    can = execution["padding_free"] is not False and can_lay_end_to_end(config)
    if execution["padding_free"] and not can:
        raise InputError(
            f"--padding_free: {base_model} does not attend to all earlier tokens alike; leave the option away"
        )
    found = execution | {"dtype": str(dtype_on(execution["device"], config)).removeprefix("torch.")}
    if execution["engine"] == "transformers" and execution["padding_free"] is None:
        found["padding_free"] = can
        if not can:
            print(f"rows are padded: {base_model} does not attend to all earlier tokens alike", flush=True)
    for name in ("new_tokens", "full"):
        if settings.get(name) and execution["sharded"]:
            raise InputError(f"--{name}: a base that is cut into shards has no weights that are trained; use ddp.yaml")
    tokenizer = load_tokenizer(base_model)
    length = length_that_fits(settings["max_length"], config, tokenizer, base_model)
    if length < settings["max_length"]:
        found["max_length"] = length
    if settings.get("full"):
        if getattr(config, "quantization_config", None):
            raise InputError(f"--full: {base_model} was published in few bits; take its weights of 16 bits")
        return found
    modules = check_adapter(config, base_model, settings["lm_head"], tokenizer if settings.get("new_tokens") else None)
    return found if modules == TARGET_MODULES else found | {"target_modules": modules}


def train_sft(
    out: Path,
    provenance: Callable[[], dict],
    execution: dict[str, object],
    seed: int,
    done: Callable[[], bool],
    read_rows: Callable[[], list[dict]],
    state: "PartialState",
    save_minutes: float = SAVE_MINUTES,
    report_to: Sequence[trackers.Tracker] = (),
) -> dict[str, float] | None:
    """Trains an adapter and writes it to `out`; None where nothing is to be done, or in all processes but one.

    `provenance` returns the sha256 of the inputs and the settings of `settings_of`; `done` whether the adapter is there
    and current, and else locks it for this process; `read_rows` the training rows. The main process returns `rows`,
    `rows_shortened`, `steps`, `first_loss` and `last_loss`. InputError for what a user can mend.
    """
    # One process decides, since it may also recover an adapter that a killed run left unfinished.
    if any_is(state, done):
        return None
    together(state, lambda: state.is_main_process and files.check_place(out))
    origin = together(state, provenance)
    settings = origin["settings"] | {"base_model": base_of(out, origin["settings"]["base_model"])}
    execution = together(state, lambda: suited(execution, settings))
    print(", ".join(f"{name}={value}" for name, value in execution.items()), flush=True)
    folder = training_folder(out)
    together(state, lambda: state.is_main_process and prepare_folder(folder, origin | {"execution": execution}))

    def ready() -> tuple[int, object, int]:
        rows = read_rows()
        trainer, shortened = build_trainer(rows, settings | execution, seed, folder, save_minutes)
        trackers.tell(trainer, report_to, out)
        return len(rows), trainer, shortened

    n_rows, trainer, shortened = together(state, ready)
    together(state, lambda: state.is_main_process and drop_incomplete(folder))
    with write_failures(out), said_when_interrupted(folder):
        trainer.train(resume_from_checkpoint=last_complete(folder))
        weights = trained_weights(trainer.model)
        if not state.is_main_process:
            return None
        found = resolved(trainer)
        curve = [{key: entry[key] for key in CURVE} for entry in trainer.state.log_history if "loss" in entry]
        save(trainer.model, weights, trainer.processing_class, out, origin, execution | found, curve)
    shutil.rmtree(folder)
    return {
        "rows": n_rows,
        "rows_shortened": shortened,
        "steps": trainer.state.global_step,
        "first_loss": round(curve[0]["loss"], 4),
        "last_loss": round(curve[-1]["loss"], 4),
    }


def resolved(trainer: "SFTTrainer") -> dict[str, object]:
    """What the rows and the memory decided of a training, by the names in the record."""
    return {
        "warmup_steps": trainer.args.get_warmup_steps(trainer.state.max_steps),
        "gradient_checkpointing": trainer.args.gradient_checkpointing,
        "tokens_at_once": getattr(trainer, "tokens_at_once", None),
        "longer_rows_computed_twice": getattr(trainer, "computed_twice", False),
    }


@contextmanager
def said_when_interrupted(folder: Path) -> Iterator[None]:
    """Lets an interruption say what is kept of the training, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = last_complete(folder)
        if kept is None:
            raise KeyboardInterrupt("nothing is kept before the first checkpoint; the command begins anew") from None
        step = Path(kept).name.partition("-")[2]
        raise KeyboardInterrupt(f"step {step} is kept in {kept}; the same command goes on from there") from None


@contextmanager
def write_failures(out: Path) -> Iterator[None]:
    """Names what could not be written: an OSError gets the file, what says a full disk otherwise is an InputError."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(out)
        raise
    except Exception as error:
        # Neither safetensors nor torch says by its class that the disk is full.
        if not any(sign in str(error) for sign in WRITE_FAILURES):
            raise
        raise InputError(f"{out}: cannot be written ({error}); free the disk and run again") from error


def training_folder(out: Path) -> Path:
    """The folder of the checkpoints of an unfinished training, beside its adapter."""
    return out.with_name(f".{out.name}.training")


def prepare_folder(folder: Path, provenance: dict) -> None:
    """Keeps the checkpoints of a training of the same rows, settings and execution, and removes those of another."""
    mark = folder / "provenance.json"
    text = json.dumps({name: part for name, part in provenance.items() if name != "origins"}, sort_keys=True)
    if folder.exists() and not (mark.is_file() and mark.read_text(encoding="utf-8") == text):
        print(f"starting anew: {folder} holds checkpoints of other rows, settings or execution, which are removed")
        shutil.rmtree(folder)
    files.write_text(mark, text)


def drop_incomplete(folder: Path) -> None:
    """Removes checkpoints that were not written whole, before they are counted among those that may go."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / COMPLETE).is_file():
            shutil.rmtree(checkpoint)


def last_complete(folder: Path) -> str | None:
    """The checkpoint to go on from: the latest that was written whole."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None
