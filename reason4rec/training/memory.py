"""How many tokens a training on a CPU takes at once, so that it stays in a memory that is aimed at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from reason4rec.run import files

if TYPE_CHECKING:
    from peft import PeftModel
    from trl import SFTTrainer

AIM = 3.6e9  # bytes of a process that trains on a CPU, for a peak of 4e9; our decision
LEAST_ROOM = 1e9  # bytes beside the weights, where those alone reach the aim, as all weights of a base do
SHARE = 0.8  # of the free memory at most
LIBRARIES = 1.3e9  # bytes, with what loading leaves behind (measured)
MOST = 2**15  # tokens at once: more are no faster
PARTS = "parts.json"
PROBE = 256  # tokens whose activations are counted
CHUNK = 256  # tokens whose logits trl computes at once
PASSING = 1.7  # times what is kept of a token, for what is alive at one time only and for holes (measured)


def fit_parts(trainer: "SFTTrainer", settings: dict, folder: Path) -> None:
    """Lets a trainer on a CPU take as many tokens at once as fit, by what its model keeps of one token; says so.

    What is chosen is kept in the `folder` of the checkpoints, so that a training that goes on has the same parts.
    """
    if settings["device"] != "cpu" or settings["processes"] > 1:
        return
    earlier = folder / PARTS
    if not earlier.is_file():
        files.write_text(earlier, json.dumps(choose_parts(trainer, settings["gradient_checkpointing"])))
    for name, value in json.loads(earlier.read_text(encoding="utf-8")).items():
        setattr(trainer, name, value)


def choose_parts(trainer: "SFTTrainer", checkpointing: bool | None) -> dict[str, int | bool]:
    """The `tokens_at_once` of a trainer, and whether a longer row has its activations `computed_twice`.

    Longer rows are parts of their own. `checkpointing` is None where memory decides about these, True where all rows
    are computed so.
    """
    free = psutil.virtual_memory().available
    # Not by what this process holds just now: on one machine the parts are the same from run to run.
    least = taken(trainer)
    aim = min(AIM if least < AIM else least + LEAST_ROOM, SHARE * free)
    room = (aim - least) / PASSING
    kept = bytes_of_a_token(trainer)
    if checkpointing:
        text = trainer.model.config.get_text_config(decoder=True)
        # The input of each layer, and all of one layer at a time.
        layers = text.num_hidden_layers
        kept = kept / layers + layers * text.hidden_size * trainer.model.dtype.itemsize
    tokens = max(1, min(MOST, int(room / kept)))
    if tokens > PROBE:
        tokens -= tokens % PROBE  # so that a little less memory changes nothing
    print(
        f"a batch is computed in parts of at most {tokens:,} tokens: {kept / 1e6:.2f} MB a token are kept, "
        f"{aim / 1e9:.1f} GB in all are aimed at, {free / 1e9:.1f} GB are free",
        flush=True,
    )
    longer = sum(len(row) > tokens for row in trainer.train_dataset["input_ids"])
    if longer and checkpointing is None:
        print(f"activations of the {longer:,} rows that are longer are computed twice", flush=True)
    return {"tokens_at_once": tokens, "computed_twice": bool(longer) and checkpointing is None}


@contextmanager
def computed_twice(model: "PeftModel", long: bool) -> Iterator[None]:
    """Lets a model compute the activations of a `long` part anew on the way back instead of keeping them."""
    if long:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    yield
    if long:
        model.gradient_checkpointing_disable()


def taken(trainer: "SFTTrainer") -> float:
    """Bytes that a training takes beside what it keeps of its tokens: libraries, weights, gradients, logits.

    Where rows of new tokens are trained, also the copy of embedding and head with these rows in them, and its gradient.
    """
    weights = sum(p.numel() * p.itemsize for p in trainer.model.parameters())
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    head = trainer.model.get_output_embeddings().weight
    copies = 4 * head.numel() * head.itemsize if trains_new_rows(trainer) else 0
    # Gradients in fp32, two states of the optimizer in 8 bits, and a chunk of logits, its gradient and copies of both.
    return LIBRARIES + weights + copies + 6 * trained + 5 * 4 * CHUNK * head.shape[0]


def trains_new_rows(trainer: "SFTTrainer") -> bool:
    """Whether rows of new tokens are trained beside the adapter."""
    return any(config.trainable_token_indices for config in trainer.model.peft_config.values())


def bytes_of_a_token(trainer: "SFTTrainer") -> float:
    """What a model keeps of a token from the way forward for the way back: counted on the first tokens of a row."""
    row = {name: values[:PROBE] for name, values in trainer.train_dataset[0].items()}
    batch = trainer.data_collator([row])
    weights = {weight.untyped_storage().data_ptr() for weight in trainer.model.parameters()}
    kept = {}
    # Of no token, however many there are: the head with the rows of new tokens in it.
    head = trainer.model.get_output_embeddings().weight.untyped_storage().nbytes() if trains_new_rows(trainer) else None

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and storage.nbytes() != head:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    trainer.model.train()
    with torch.random.fork_rng(devices=[]), trainer.compute_loss_context_manager():
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = trainer.model(**batch).loss  # kept until all is counted
        del loss
    return sum(kept.values()) / batch["input_ids"].numel()
