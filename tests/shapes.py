"""Tiny base models of other shapes than Llama's, written where a test wants them."""

import json
import shutil
from pathlib import Path

import torch
import transformers

SMALL = {
    "vocab_size": 1207,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 4,
    "pad_token_id": 5,
}
WINDOW = {"sliding_window": 48}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16}


def make_base(folder: Path, like: str, config: str | None = None, **values: object) -> str:
    """A base model with random weights and the tokenizer and template of the base `like`; the folder's path.

    `config` names a class of transformers' configurations; without one the weights are those of `like`.
    """
    shutil.copytree(like, folder)
    if config is not None:
        (folder / "model.safetensors").unlink()
        torch.manual_seed(3)
        made = getattr(transformers, config)(**(SMALL | values))
        model = transformers.AutoModelForCausalLM.from_config(made)
        for name, parameter in model.named_parameters():
            # Wider than at the start of a training, so that what is read wrongly shows in the scores.
            if parameter.dim() > 1 and "norm" not in name:
                parameter.data *= 4
        model.save_pretrained(folder)
    return str(folder)


def change_json(folder: str | Path, name: str, **values: object) -> None:
    """Sets values in a JSON file of a base; None removes one."""
    path = Path(folder) / name
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
