"""The trained weights of an adapter: kept in fp32, gathered, written and compared."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm import adapters
from reason4rec.run import files
from reason4rec.run.records import write_record

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def keep_updates(model: "PeftModel") -> None:
    """Puts the trainable weights in fp32: trl casts them to bf16, which rounds the updates of a small rate away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def keep_inputs(model: "PeftModel") -> None:
    """Keeps an adapter in fp32 from casting its inputs: autocast casts its weights to bf16 at each use instead.

    Once for all, because what is computed twice is computed on the way back too, outside of any context.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


def finish_new_rows(model: "PeftModel") -> None:
    """Lets trl read the bias of an output head of which new rows are trained: it has none, and peft's wrapper no name.

    A head with a bias is refused by `modules.rows_of_new_tokens`.
    """
    from peft.utils import TrainableTokensWrapper

    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper):
            module.bias = None


def sha256_of_weights(folder: Path, flag: str = "") -> str:
    """The sha256 of an adapter's weights; InputError, which names the `flag` of the folder, where there are none."""
    path = folder / adapters.ADAPTER_WEIGHTS
    if not path.is_file():
        advice = "name the folder of a trained adapter" if flag else "train it again"
        raise InputError(f"{flag}{' ' if flag else ''}{folder}: no {path.name} there; {advice}")
    return files.sha256(path)


def start_from(model: "PeftModel", folder: Path, settings: dict) -> None:
    """Gives a new adapter the weights of a trained one.

    InputError unless that one is whole, was trained on the same base and has the same shape: rank, layers and head.
    """
    from peft import load_peft_weights, set_peft_model_state_dict
    from peft.utils import get_peft_model_state_dict
    from safetensors import SafetensorError

    was = adapters.adapter_settings(folder)
    for name in ("base_sha256", "base_model", "rank", "alpha", "lm_head", "new_tokens", "full"):
        then, now = was.get(name), settings.get(name)
        # The name of a base that lies in a folder says nothing.
        # A switch that is off may not be recorded.
        if (then or None) != (now or None) and not (name == "base_model" and settings["base_sha256"]):
            raise InputError(f"--start_from {folder}: was trained with {name} {then}, this training has {now}")
    try:
        weights = load_peft_weights(folder, device="cpu")
    except SafetensorError as error:
        raise InputError(
            f"--start_from {folder}: {adapters.ADAPTER_WEIGHTS} cannot be read ({error}); train that adapter again"
        ) from error
    shapes = {name: weight.shape for name, weight in get_peft_model_state_dict(model).items()}
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        raise InputError(f"--start_from {folder}: its weights are of other layers than those to train; train anew")
    set_peft_model_state_dict(model, weights)


def trained_weights(model: "PeftModel") -> dict[str, "torch.Tensor"]:
    """The trained weights by name, whole and on the CPU, also where processes hold shards: all of them must call it."""
    from torch.distributed.tensor import DTensor

    once = dict(model.named_parameters())
    # peft saves a head that is tied to the embedding beside it, and looks for both where all weights are trained.
    trained = {
        name: parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.requires_grad and (name in once or ".modules_to_save." in name)
    }
    return {
        name: (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().cpu()
        for name, weight in trained.items()
    }


def save(
    model: "PeftModel",
    weights: dict[str, "torch.Tensor"],
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    provenance: dict,
    execution: dict,
    curve: list[dict],
) -> None:
    """Writes an adapter with its record, whole or not at all: its weights are read again and compared before that.

    `weights` are those of `trained_weights`; `execution` and the loss `curve` are kept beside it. InputError where a
    trained tensor was not saved as it is.
    """
    staged = files.staged_path(out)
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged, state_dict=weights)
    tokenizer.save_pretrained(staged)
    compare(weights, staged)
    settings = provenance["settings"] | execution
    files.write_text(staged / "settings.json", json.dumps(settings, indent=1, sort_keys=True))
    files.write_text(staged / "loss_curve.json", json.dumps(curve, indent=1))
    write_record(out, provenance | {"execution": execution}, files.sha256(staged))
    files.take_place(out)


def compare(weights: dict[str, "torch.Tensor"], folder: Path) -> None:
    """InputError unless every trained tensor is in the saved adapter, unchanged."""
    from safetensors.torch import load_file

    saved = load_file(folder / adapters.ADAPTER_WEIGHTS)
    for name, weight in weights.items():
        key = name.replace(".default", "").replace(".modules_to_save", "")
        if key not in saved or not saved[key].equal(weight):
            raise InputError(f"{folder}: trained weight {name} is not in the saved adapter as it was trained")
