"""What stands in the folder of a base model: what cannot be used is named before anything is loaded."""

import json
import math
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reason4rec.errors import InputError
from reason4rec.llm.known_bases import located

# What a damaged file or an odd setting in it ends in, somewhere below transformers.
DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    ZeroDivisionError,
    SafetensorError,
    StrictDataclassError,
)
LEAST_CONTEXT, MOST_CONTEXT = 64, 10**8  # what says less or more says nothing
OWN_CODE = "needs code of its own (auto_map), which is never run here; use a base that transformers knows"


def refused(base_model: str | Path, error: Exception) -> InputError:
    """The error for a base model that cannot be loaded, in one line."""
    reason = (str(error).strip() or type(error).__name__).split("\n")[0]
    if "custom code" in reason:
        reason = OWN_CODE
    return InputError(f"base model {base_model}: cannot be loaded ({reason[:160]})")


def read_config(base_model: str | Path) -> PreTrainedConfig:
    """The configuration of a base model; InputError for what is no base, or one that is not read here, by its name."""
    folder = located(base_model)
    if folder.is_dir():
        _check_folder(base_model, folder)
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except DAMAGED as error:
        raise refused(base_model, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(f"base model {base_model}: {config.model_type} models write no text; use an instruct model")
    _check_quantization(base_model, config)
    return config


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of transformers that a configuration is loaded as."""
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def context_of(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> float:
    """How many tokens a base reads at once, as its configuration and its tokenizer say; infinite where neither does."""
    of_model = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    said = [one for one in (of_model, tokenizer.model_max_length) if isinstance(one, int)]
    return min((one for one in said if LEAST_CONTEXT <= one < MOST_CONTEXT), default=math.inf)


def length_that_fits(
    max_length: int, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, base_model: str | Path
) -> int:
    """The tokens of the longest row that a base can take, at most `max_length`; it is said where they are fewer."""
    room = context_of(config, tokenizer)
    if room < max_length:
        print(f"note: {base_model} reads at most {room} tokens, longer rows are shortened to that", flush=True)
    return min(max_length, room)


def _check_folder(base_model: str | Path, folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    endings = {Path(name).suffix for name in names}
    say = f"base model {base_model}:"
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise InputError(f"{say} is an adapter; pass the base model that it was trained on")
        if ".gguf" in endings:
            raise InputError(f"{say} holds GGUF, which is not read here; use the model's folder of safetensors")
        raise InputError(f"{say} no config.json there; name the folder of a whole model")
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise TypeError("no settings in it")
        own_code = "auto_map" in raw and raw.get("model_type") not in CONFIG_MAPPING
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read ({error}); fetch the base model again") from error
    if own_code:
        raise InputError(f"{say} {OWN_CODE}")
    if ".safetensors" in endings:
        return
    if ".gguf" in endings:
        raise InputError(f"{say} holds GGUF, which is not read here; use the model's folder of safetensors")
    if endings & {".bin", ".pt", ".pth"}:
        raise InputError(f"{say} its weights are pickles of torch, which can run code; use one with safetensors")
    raise InputError(f"{say} no weights (*.safetensors) there; fetch the base model again")


def _check_quantization(base_model: str | Path, config: PreTrainedConfig) -> None:
    found = getattr(config, "quantization_config", None)
    if not found:
        return
    found = found if isinstance(found, dict) else found.to_dict()
    method = str(found.get("quant_method", "bitsandbytes"))
    if method != "bitsandbytes" or not (found.get("load_in_4bit") or found.get("_load_in_4bit")):
        method = "8 bits" if method == "bitsandbytes" else method
        raise InputError(
            f"base model {base_model}: was published in {method}, which no adapter is trained on here; use its 16-bit "
            f"weights or a bitsandbytes 4-bit form of it"
        )
