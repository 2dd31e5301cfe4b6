"""An adapter's folder as training leaves it: its weights, and the settings that it was trained with."""

import json
from pathlib import Path

from reason4rec.errors import InputError

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # of peft
ADAPTER_CONFIG = "adapter_config.json"  # of peft
ALL_WEIGHTS = "dummy-target-modules"  # peft's name for no layer: all weights stand in the folder, and none beside them


def adapter_settings(adapter: Path) -> dict:
    """The settings that an adapter was trained with; `base_of` says where their base model lies."""
    path = adapter / "settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings["base_model"], str) or not isinstance(settings["max_length"], int):
            raise TypeError("no base_model or max_length in it")
        return settings
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); train the adapter again") from error


def is_full(adapter: Path) -> bool:
    """Whether a folder holds all weights of a trained base, of which only the shape is needed then."""
    path = adapter / ADAPTER_CONFIG
    try:
        return path.exists() and json.loads(path.read_text(encoding="utf-8"))["target_modules"] == ALL_WEIGHTS
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}); train the adapter again") from error


def base_of(adapter: Path, base_model: str) -> str:
    """The base model of an adapter as it can be loaded.

    A folder beside the adapter is recorded by its name alone, so that both can be moved together.
    """
    beside = adapter.parent / base_model
    return str(beside) if base_model and beside.parent == adapter.parent and beside.is_dir() else base_model
