"""A local base model with an adapter: generate text, and weigh the choices at the next token.

The base is loaded in 4 bits (NF4) on CUDA and on the CPU alike. Prompts go through it in left-padded batches, longest
first; on a CPU a batch gives what its prompts give one by one, on CUDA up to the rounding of bf16. Inference never
goes through unsloth, whose left-padded batches are wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bitsandbytes
import numpy as np
import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reason4rec import artifacts
from reason4rec.errors import InputError
from reason4rec.prompts import Prompt, shorten
from reason4rec.store import ReplyStore, key_of


@dataclass
class LocalModel:
    """A base model in 4 bits with at most one adapter, its tokenizer and how it is asked.

    `name` stands for its weights in the keys of kept replies; `shortened` counts prompts that lost history to fit.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    max_length: int = 4096
    batch_size: int = 32
    store: ReplyStore | None = None
    shortened: int = 0

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn at a temperature with a seed of each prompt's own."""
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}

        def reply(batch: list[list[int]]) -> list[str]:
            ids, mask = self._padded(batch)
            processors = LogitsProcessorList()
            if temperature > 0:
                processors.append(_Draw(temperature, [key_of(seed=seed, ids=row) for row in batch]))
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=processors,
            )
            texts = self.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
            return [text.strip() for text in texts]

        ids = self._encode_all(prompts, self.max_length - max_new_tokens)
        return self._in_batches(ids, reply, settings, what)

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        said: Sequence[str] | None = None,
        what: str = "scoring",
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`; rows sum to 1.

        `said` is what each reply says before the prefix. InputError if a choice is not a single token after the
        prefix. Source: paper, feedback prediction.
        """
        tail = self._tokens(prefix)
        tokens = [self._tokens(prefix + choice) for choice in choices]
        if any(len(ids) != len(tail) + 1 or ids[:-1] != tail for ids in tokens):
            raise InputError(f"the tokenizer does not write each of {', '.join(choices)} as one token after {prefix!r}")
        columns = torch.tensor([ids[-1] for ids in tokens], device=self.model.device)

        def weigh(batch: list[list[int]]) -> list[list[float]]:
            ids, mask = self._padded(batch)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
            ).logits
            return logits[:, -1, columns].float().softmax(-1).tolist()

        tails = [tail] * len(prompts) if said is None else [self._tokens(text + prefix) for text in said]
        longest = max(map(len, tails), default=0)
        ids = [row + tail for row, tail in zip(self._encode_all(prompts, self.max_length - longest), tails)]
        rows = self._in_batches(ids, weigh, {"choices": list(choices)}, what)
        return np.array(rows, dtype=float).reshape(len(prompts), len(choices))

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _encode_all(self, prompts: Sequence[Prompt], longest: int) -> list[list[int]]:
        """Token ids of each prompt in the chat format, shortened to at most `longest`."""
        encoded = []
        for prompt in prompts:
            ids = chat_ids(self.tokenizer, prompt.text)
            if len(ids) > longest:
                text, _ = shorten(prompt, lambda text: len(chat_ids(self.tokenizer, text)) <= longest)
                ids = chat_ids(self.tokenizer, text)
                self.shortened += 1
            encoded.append(ids)
        return encoded

    def _padded(self, batch: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, batch))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=self.model.device)
        return ids, mask

    def _in_batches(self, rows: list[list[int]], answer: Callable, settings: dict, what: str) -> list:
        """The answers to rows of token ids; batches are the same in every run, so a resumed run gives the same."""
        keys = [key_of(model=self.name, batch_size=self.batch_size, ids=ids, **settings) for ids in rows]
        distinct = dict(zip(keys, rows))
        order = sorted(distinct, key=lambda key: (-len(distinct[key]), key))
        answers: dict[str, object] = {}
        with tqdm(total=len(order), desc=what, unit="prompt", disable=not order) as bar:
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                kept = self.store.get_all(batch) if self.store else {}
                if len(kept) < len(batch):
                    with torch.inference_mode():
                        kept = dict(zip(batch, answer([distinct[key] for key in batch]), strict=True))
                    if self.store:
                        self.store.put(kept)
                answers |= kept
                bar.update(len(batch))
        return [answers[key] for key in keys]


class _Draw(LogitsProcessor):
    """Turns greedy decoding into sampling: adds Gumbel noise that belongs to the prompt, not to its batch."""

    def __init__(self, temperature: float, keys: Sequence[str]):
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(int(key[:15], 16)) for key in keys]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self.temperature + gumbel.to(scores.device)


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of a user's message and the header of the reply, with exactly one beginning-of-text token."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=False
    )


def load_tokenizer(base_model: str) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, checked to write one beginning-of-text token and to know a padding token."""
    tokenizer = _from_hub_or_folder(AutoTokenizer, base_model, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        raise InputError(f"{base_model}: its tokenizer has no chat template; use an instruct model")
    if chat_ids(tokenizer, "text").count(tokenizer.bos_token_id) != 1:
        raise InputError(f"{base_model}: its chat template does not write exactly one beginning-of-text token")
    return tokenizer


def load_base(base_model: str, device: str) -> PreTrainedModel:
    """A causal language model in 4-bit NF4 on `cuda` or `cpu`, from the hub or a local folder."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device == "cuda" else torch.float32,
    )
    model = _from_hub_or_folder(
        AutoModelForCausalLM,
        base_model,
        quantization_config=quantization,
        dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        device_map={"": 0 if device == "cuda" else "cpu"},
        use_safetensors=True,
    )
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


def feed_heads_in_their_dtype(model: PeftModel) -> None:
    """Lets a trained head in fp32 stand on a base in bf16: its input is cast, not its weights, so no update is lost."""
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.register_forward_pre_hook(
                lambda head, inputs: (inputs[0].to(next(head.modules_to_save.parameters()).dtype), *inputs[1:])
            )


def load(
    base_model: str,
    adapter: Path | None,
    device: str,
    max_length: int = 4096,
    batch_size: int = 32,
    store: ReplyStore | None = None,
) -> LocalModel:
    """A base model with an adapter on it, on `cuda` or `cpu`, ready to be asked. InputError if it cannot be loaded."""
    tokenizer = load_tokenizer(base_model)
    model: PreTrainedModel | PeftModel = load_base(base_model, device)
    name = base_model if not Path(base_model).is_dir() else artifacts.sha256(Path(base_model))
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
        feed_heads_in_their_dtype(model)
        name = key_of(base=name, adapter=artifacts.sha256(adapter / "adapter_model.safetensors"))
    name = key_of(name=name, device=device)
    model.eval()
    return LocalModel(model, tokenizer, name, max_length, batch_size, store)


def _from_hub_or_folder(loader: type, base_model: str, **options: object) -> object:
    try:
        return loader.from_pretrained(base_model, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"base model {base_model}: cannot be loaded ({reason})") from error
