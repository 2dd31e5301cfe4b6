"""Which layers of a base model an adapter is put on: all linear layers of its blocks, whatever they are called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.adapters import ALL_WEIGHTS
from reason4rec.training.recipe import TARGET_MODULES

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def check_adapter(
    config: "PreTrainedConfig", base_model: str, lm_head: bool, with_rows_of: "PreTrainedTokenizerBase | None" = None
) -> Sequence[str]:
    """The modules that an adapter is put on; InputError names a base that it cannot be put on. No weights are read.

    `with_rows_of` is the tokenizer whose new tokens are trained beside it.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from reason4rec.llm.base_files import DAMAGED, refused

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
            names = target_modules(model, base_model)
            heads = [head_of(model, base_model)] if lm_head else None
            rows = rows_of_new_tokens(model, base_model, with_rows_of) if with_rows_of else None
            options = {"target_modules": list(names), "modules_to_save": heads, "trainable_token_indices": rows}
            get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    except DAMAGED as error:
        raise refused(base_model, error) from error
    return names


def target_modules(model: "PreTrainedModel", base_model: str) -> Sequence[str]:
    """The names of all linear layers of a model's blocks, as peft looks for them; Llama's are TARGET_MODULES.

    InputError names a base of which an adapter would leave out a part: experts that are no layers of their own.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    if any("experts" in name and weight.dim() > 2 for name, weight in model.named_parameters()):
        raise InputError(
            f"base model {base_model}: its experts share one tensor, which is neither put in 4 bits nor trained here; "
            f"use a dense base"
        )
    head, blocks = model.get_output_embeddings(), set(model.get_decoder().modules())
    found, others = [], set()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module in blocks and module is not head:
            found.append(name)
        else:
            others.add(_last(name))
    names = {_last(name) for name in found}
    if not names:
        raise InputError(f"base model {base_model}: no linear layers are in its blocks; use another base")
    if names & others:  # such as the numbers of a list, or layers of a part that reads images
        return sorted(found)
    return TARGET_MODULES if names == set(TARGET_MODULES) else sorted(names)


def head_of(model: "PreTrainedModel", base_model: str) -> str:
    """The name of a model's output head; InputError if it has none."""
    head = model.get_output_embeddings()
    if head is None:
        raise InputError(f"base model {base_model}: has no output head of its own; pass --no-lm_head")
    return _last(_name_of(model, head))


def rows_of_new_tokens(
    model: "PreTrainedModel", base_model: str, tokenizer: "PreTrainedTokenizerBase"
) -> dict[str, list[int]]:
    """The rows to train of the words that were added to a base, by module, as peft's `trainable_token_indices`.

    Those of the embedding, and those of an output head of its own: a head that is tied to the embedding has the same
    rows, which peft keeps equal. InputError for a base without new tokens, or with a head that peft would change.
    """
    from reason4rec.llm.tokens import new_tokens

    ids = list(new_tokens(tokenizer).values())
    if not ids:
        raise InputError(f"--new_tokens: none were added to base model {base_model}; extend it first")
    head = model.get_output_embeddings()
    head_name = head_of(model, base_model)
    if getattr(head, "bias", None) is not None:
        raise InputError(
            f"--new_tokens: the output head of {base_model} has a bias, which peft drops; use another base"
        )
    rows = {_name_of(model, model.get_input_embeddings()): ids}
    return rows if model.config.tie_word_embeddings else rows | {head_name: ids}


def all_weights(model: "PreTrainedModel") -> "LoraConfig":
    """peft's configuration that trains a copy of every module with weights of its own, and puts no adapter on any.

    An output head that is tied to the embedding stays so.
    """
    from peft import LoraConfig

    tied = model.config.tie_word_embeddings
    left_out = model.get_output_embeddings() if tied else None
    names = [
        name
        for name, module in model.named_modules()
        if module is not left_out and next(module.parameters(recurse=False), None) is not None
    ]
    return LoraConfig(
        task_type="CAUSAL_LM", target_modules=ALL_WEIGHTS, modules_to_save=names, ensure_weight_tying=tied
    )


def _name_of(model: "PreTrainedModel", part: object) -> str:
    return next(name for name, module in model.named_modules() if module is part)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
