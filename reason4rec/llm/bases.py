"""Base models: loading one in 4 bits, and putting an adapter on it."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bitsandbytes
import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reason4rec.errors import InputError
from reason4rec.llm import adapters
from reason4rec.llm.base_files import DAMAGED, read_config, refused
from reason4rec.llm.known_bases import located
from reason4rec.llm.tokens import chat_ids, end_of_turn, new_tokens

LEAST_BF16_WIDTH = 512  # hidden size


def dtype_on(device: str, config: PreTrainedConfig) -> torch.dtype:
    """What a base computes in: bf16 on CUDA, and on a CPU that multiplies in it natively; else fp32.

    A base that is narrower than LEAST_BF16_WIDTH gains nothing from bf16 and keeps fp32 on a CPU, so that its results
    are the same on every host. Our decision.
    """
    if device.startswith("cuda"):
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    native = able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16")  # x86-64 and Arm
    wide = config.get_text_config(decoder=True).hidden_size >= LEAST_BF16_WIDTH
    return torch.bfloat16 if native and wide else torch.float32


def load_base(
    base_model: str,
    device: str,
    storage: torch.dtype = torch.uint8,
    dtype: torch.dtype | None = None,
    packed: bool = True,
) -> PreTrainedModel:
    """A causal language model in 4-bit NF4 on `cuda`, `cuda:N` or `cpu`, from the hub or a local folder.

    It computes in `dtype`, by default that of `dtype_on`; so are its weights, where they are not `packed` in 4 bits.
    Packed ones are stored as `storage`, which must be that of all others where they are sharded. InputError names what
    cannot be loaded, or lacks a weight.
    """
    config = read_config(base_model)
    number = dtype or dtype_on(device, config)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=number,
        bnb_4bit_quant_storage=storage,
    )
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(located(base_model)),
            quantization_config=quantization if packed else None,
            dtype=number,
            # Of several processes on a machine each has a card of its own, which it has made its current one.
            device_map={"": torch.cuda.current_device() if device == "cuda" else device},
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except DAMAGED as error:
        raise refused(base_model, error) from error
    if lacking := sorted(loading["missing_keys"]):  # transformers fills them with random numbers
        raise InputError(
            f"base model {base_model}: {len(lacking)} weights are missing, such as {lacking[0]}; fetch it again"
        )
    for name, layer in model.named_modules():
        state = getattr(layer.weight, "quant_state", None) if isinstance(layer, bitsandbytes.nn.Linear4bit) else None
        # transformers does not compare the sizes of what it packs.
        if state and sorted(state.shape) != sorted((layer.in_features, layer.out_features)):
            sizes = " x ".join(map(str, state.shape))
            raise InputError(f"base model {base_model}: weight {name} is {sizes}, config.json says otherwise")
    if device == "cpu":
        keep_gradients_on_cpu(model)
    return model


def keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Keeps 4-bit layers off a CPU kernel that has no gradients.

    Where the CPU has AVX512-BF16, an evaluation repacks the weights for that kernel and later training goes on with
    wrong gradients (measured with bitsandbytes 0.50.2); it also makes results depend on the host.
    """
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base_model: str) -> None:
    """InputError unless a model has weights for all tokens that a text or the chat template can become.

    Padding is masked: where it has no weights, the end of text stands in.
    """
    room, added = model.get_input_embeddings().weight.shape[0], tokenizer.added_tokens_decoder
    if tokenizer.pad_token_id >= room:
        tokenizer.pad_token = tokenizer.eos_token
    used = {id_ for id_ in tokenizer.get_vocab().values() if id_ not in added}
    used |= {*chat_ids(tokenizer, "text"), end_of_turn(tokenizer), tokenizer.pad_token_id}
    used |= set(new_tokens(tokenizer).values())
    if max(used) >= room:
        raise InputError(
            f"base model {base_model}: has weights for {room} tokens, its tokenizer knows {max(used) + 1}; fetch both "
            f"again, together"
        )


def feed_lm_head_in_its_dtype(model: PeftModel) -> None:
    """Lets a trained head in fp32 stand on a base in bf16: its input is cast, not its weights, so no update is lost."""
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper) and isinstance(module.original_module, torch.nn.Linear):
            _cast_input(module, module.modules_to_save)


def _cast_input(module: torch.nn.Module, weights: torch.nn.Module) -> None:
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(next(weights.parameters()).dtype), *inputs[1:]))


def with_adapter(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """A base with an adapter on it, a trained head in its own precision included; InputError without safetensors."""
    if not (adapter / adapters.ADAPTER_WEIGHTS).is_file():  # else peft would take a pickle of torch's
        raise InputError(f"{adapter}: no {adapters.ADAPTER_WEIGHTS} there; train the adapter again")
    model = PeftModel.from_pretrained(model, adapter)
    heads = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    if heads and not adapters.is_full(adapter):
        # peft has read the head into a copy of the base's, in whose bf16 most of what it learned is rounded away.
        for head in heads:
            head.modules_to_save.float()
        set_peft_model_state_dict(model, load_peft_weights(adapter, device=str(model.device)))
    feed_lm_head_in_its_dtype(model)
    return model


def free() -> None:
    """Gives the memory of models that are gone back to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def merged(model: PeftModel) -> PreTrainedModel:
    """A base with its adapter added to its weights: each sum is made in fp32 and rounded once to those of the base.

    A trained head stays as it is, beside the embeddings that it may have been tied to.
    """
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            tensor.data = tensor.data.float()
    plain = model.merge_and_unload()
    head = plain.get_output_embeddings()
    if head.weight.dtype != plain.get_input_embeddings().weight.dtype:
        _cast_input(head, head)
    return plain


def unpacked(model: PreTrainedModel, room: float) -> tuple[PreTrainedModel, bool]:
    """A base with its weights unpacked from 4 bits where they take less than `room` bytes, and whether they are.

    They have the values that they would be unpacked to at each use; that is done once then.
    """
    if not any(isinstance(module, bitsandbytes.nn.Linear4bit) for module in model.modules()):
        return model, True
    if model.num_parameters() * model.dtype.itemsize >= room:
        return model, False
    logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)
    return model.dequantize(), True


def settle_new_rows(model: PeftModel) -> None:
    """Writes the trained rows of new tokens into the base that they stand beside, which computes the same.

    Else the embedding and the output head are copied with them at every use.
    """
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper):
            module.token_adapter.merge()


@contextmanager
def logits_of(model: PreTrainedModel | PeftModel, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
    """Lets a model in bf16 compute the logits of these tokens alone, in fp32; yields where they stand in its logits.

    Logits in bf16 are an eighth apart from 16 on. A model in fp32, or with an adapter beside its weights, stays as it
    is.
    """
    head = model.get_output_embeddings()
    if model.dtype == torch.float32 or isinstance(model, PeftModel) or not isinstance(head, torch.nn.Linear):
        yield tokens
        return
    few = torch.nn.Linear(head.in_features, len(tokens), head.bias is not None, tokens.device, torch.float32)
    few.weight.data.copy_(head.weight[tokens])
    if head.bias is not None:
        few.bias.data.copy_(head.bias[tokens])
    _cast_input(few, few)
    model.set_output_embeddings(few)
    try:
        yield torch.arange(len(tokens), device=tokens.device)
    finally:
        model.set_output_embeddings(head)
