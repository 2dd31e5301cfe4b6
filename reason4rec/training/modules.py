"""Which layers of a base model an adapter is put on: all linear layers of its blocks, whatever they are called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.training.recipe import TARGET_MODULES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def check_adapter(config: "PreTrainedConfig", base_model: str, lm_head: bool) -> Sequence[str]:
    """The modules that an adapter is put on; InputError names a base that it cannot be put on. No weights are read."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from reason4rec.llm.base_files import DAMAGED, refused

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
            names = target_modules(model, base_model)
            heads = [head_of(model, base_model)] if lm_head else None
            get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=list(names), modules_to_save=heads))
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
    return _last(next(name for name, module in model.named_modules() if module is head))


def _last(name: str) -> str:
    return name.rpartition(".")[2]
