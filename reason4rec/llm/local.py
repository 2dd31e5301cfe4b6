"""A local base model with an adapter: generate text, and weigh the choices at the next token.

The base is loaded in 4 bits (NF4) on CUDA and on the CPU alike. Prompts go through it in left-padded batches, longest
first; on a CPU a batch gives what its prompts give one by one, on CUDA up to the rounding of bf16. What prompts on one
target have in common is read once. Inference never goes through unsloth, whose left-padded batches are wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from peft import PeftModel
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reason4rec.llm.adapters import ADAPTER_WEIGHTS, is_full
from reason4rec.llm.answers import answers_of
from reason4rec.llm.attention import attend_in_groups, is_padded_exactly, shares_beginnings
from reason4rec.llm.base_files import length_that_fits, read_config
from reason4rec.llm.bases import (
    check_vocabulary,
    dtype_on,
    load_base,
    logits_of,
    merged,
    settle_new_rows,
    unpacked,
    with_adapter,
)
from reason4rec.llm.bases import (
    free as free_memory,
)
from reason4rec.llm.batches import Answer
from reason4rec.llm.beams import BeamSearcher
from reason4rec.llm.cache import ResponseCache, key_of, of_cuts
from reason4rec.llm.known_bases import sha256_of
from reason4rec.llm.prefix_cache import (
    PrefixCache,
    numbers_of_a_token,
    tokens_of_a_batch,
    tokens_on_a_cpu,
)
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import Row, common_prefix, length, packed
from reason4rec.llm.stops import Finish, Reply, finish_name, kept
from reason4rec.llm.tokens import check, choices_after, end_of_turn, load_tokenizer
from reason4rec.llm.writing import Draw, Replies, write
from reason4rec.run import files


class LocalModel(BeamSearcher):
    """A language model in this process; its fields are those of `BatchRunner`."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
        finish: Finish | None = None,
        thoughts: bool = False,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn at a temperature with a seed of each prompt's own.

        `top_k` and `top_p` leave out unlikely tokens.

        What all prompts begin with, the instruction, is read once. A reply that repeats itself, or goes on where it
        is finished by `finish`, is stopped and counted in `stopped`.
        """

        watch = partial(Reply, finish, thoughts)
        draws = partial(Draw, temperature, seed, top_k=top_k, top_p=top_p) if temperature > 0 else lambda batch: None

        def batches(rows: list[Row]) -> Iterator[tuple[list[Row], Answer]]:
            prefixes = PrefixCache([[row.prefix] for row in rows[:1]])  # that of all
            for batch in self._split(rows, self.tokens_at_once, more=max_new_tokens):
                yield batch, partial(self._replies, prefixes, max_new_tokens, draws, watch)

        def rows_of(window: slice) -> list[Row]:
            asked = prompts[window]
            encoded = self._encode_all(asked, [self.max_length - max_new_tokens] * len(asked))
            prefix = common_prefix(encoded) if self.shares else b""
            return [Row(ids, prefix) for ids in encoded]

        for prompt in prompts:
            check(self.tokenizer, prompt, self.max_length - max_new_tokens)
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        settings |= of_cuts(top_k, top_p) | finish_name(finish, thoughts)
        texts = self._answers(len(prompts), rows_of, settings, what, batches, are_texts=True)
        return answers_of(kept(texts, finish, self.stopped, thoughts), thoughts)

    def _replies(
        self,
        prefixes: PrefixCache,
        max_new_tokens: int,
        draws: Callable[[list[Row]], Draw | None],
        watch: Callable[[], Reply],
        batch: list[Row],
    ) -> tuple[list[str], int]:
        """The replies to a batch of rows, and how many tokens they have."""
        ids, mask, cache = self._begun(prefixes, batch)
        replies = Replies(
            self.tokenizer,
            set(self.model.generation_config.eos_token_id),
            len(batch),
            watch,
            written=self._bar.writing if self._bar else lambda n: None,
            ended=lambda new: self._keep({batch[k]: new[k] for k in new}) if self._keeps_each else None,
            shrinks=cache is not None,
        )
        write(self.model, ids, mask, cache, replies, max_new_tokens, draws(batch))
        return list(map(replies.text, range(len(batch)))), sum(map(len, replies.tokens))

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        reply_prefixes: Sequence[str] | None = None,
        what: str = "scoring",
        prefix_cache: PrefixCache | None = None,
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`; rows sum to 1.

        `reply_prefixes` is what each reply has before that prefix. What several prompts have in common is read once:
        the prefixes that `read_prefixes` gave, or those that recur among these prompts. InputError if a choice is not a
        single token after the prefix. Source: paper, feedback prediction.
        """
        before, tokens = choices_after(self.tokenizer, choices, prefix)
        columns = torch.tensor(tokens, device=self.model.device)
        begun = [""] * len(prompts) if reply_prefixes is None else reply_prefixes
        tail = packed(before)

        def rows_of(window: slice) -> list[Row]:
            asked = prompts[window]
            tails = [tail] * len(asked)
            if reply_prefixes is not None:
                tails = [packed(choices_after(self.tokenizer, choices, text + prefix)[0]) for text in begun[window]]
            encoded = self._encode_all(asked, [self.max_length - length(end) for end in tails])
            shared = self._prefixes_of(asked, encoded, alone=prefix_cache is not None)
            return [Row(ids + end, one) for ids, end, one in zip(encoded, tails, shared)]

        for prompt, text in zip(prompts, begun, strict=True):
            check(self.tokenizer, prompt, self.max_length, text + prefix)
        batches = partial(self._batches_to_weigh, prefix_cache, partial(self._weigh, columns))
        found = self._answers(len(prompts), rows_of, {"choices": list(choices)}, what, batches)
        return np.array(found, dtype=float).reshape(len(prompts), len(choices))

    def _weigh(
        self, columns: torch.Tensor, batch: list[Row], prefixes: PrefixCache | None = None
    ) -> tuple[list[list[float]], int]:
        """The probabilities of the tokens `columns` after each row of a batch, and how many tokens were read."""
        given = self._after(batch, prefixes)
        with logits_of(self.model, columns) as at:
            logits = self.model(**given, logits_to_keep=1).logits
        return logits[:, -1, at].float().softmax(-1).tolist(), given["input_ids"].numel()


def load(
    base_model: str,
    adapter: Path | None,
    device: str,
    max_length: int = 4096,
    prompts_at_once: int | None = None,
    cache: ResponseCache | None = None,
) -> LocalModel:
    """A base model with an adapter on it, on `cuda` or `cpu`, ready to be asked. InputError if it cannot be loaded.

    Without `prompts_at_once` a batch on CUDA fills the memory that is free now. The cache keeps the number for this
    card, so that a resumed run has the same batches as long as they fit. On a CPU its size follows from the model's.
    """
    config = read_config(base_model)
    dtype = dtype_on(device, config)
    print(f"loading base model {base_model} on {device} in {str(dtype).removeprefix('torch.')}", flush=True)
    tokenizer = load_tokenizer(base_model)
    max_length = length_that_fits(max_length, config, tokenizer, base_model)
    full = adapter is not None and is_full(adapter)
    model: PreTrainedModel | PeftModel = load_base(base_model, device, dtype=dtype, packed=not full)
    check_vocabulary(model, tokenizer, base_model)
    model.generation_config = greedy(model, tokenizer)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    model, is_unpacked = unpacked(model, free / 4)
    pads, shares = is_padded_exactly(model.config), shares_beginnings(model, max_length)
    if device == "cpu" and dtype != torch.float32 and shares:
        attend_in_groups(model)
    name = sha256_of(base_model) or base_model
    about = {"dtype": str(dtype)} if device == "cpu" and dtype != torch.float32 else {}
    if adapter is not None:
        name = key_of(base=name, adapter=files.sha256(adapter / ADAPTER_WEIGHTS))
        merges = full or (dtype != torch.float32 and is_unpacked)
        model, about = _adapted(model, adapter, merges), about | ({"merged": True} if merges else {})
        if full:
            model = model.to(dtype)
            free_memory()
    name = key_of(name=name, device=device, **about)
    model.eval()
    tokens = tokens_on_a_card(model.config, name, cache) if device == "cuda" else tokens_of_a_batch(model)
    return LocalModel(
        model,
        tokenizer,
        name,
        max_length,
        prompts_at_once,
        tokens,
        tokens / 4 if device == "cuda" else tokens_on_a_cpu(model),
        cache,
        pads=pads,
        shares=shares,
    )


def _adapted(model: PreTrainedModel, adapter: Path, merges: bool) -> PreTrainedModel | PeftModel:
    """A base with an adapter beside its weights, or in them where it `merges`."""
    beside = with_adapter(model, adapter)
    if merges:
        return merged(beside)
    settle_new_rows(beside)
    return beside


def tokens_on_a_card(config: PreTrainedConfig, name: str, cache: ResponseCache | None) -> int:
    """How many tokens fit into the free memory of this card, or fewer, as the cache says of an earlier run."""
    free, total = torch.cuda.mem_get_info()
    key = key_of(model=name, card=torch.cuda.get_device_name(), memory=total, what="tokens at once")
    fits = tokens_in(free, config)
    tokens = min(fits, (cache.get(key) if cache else None) or fits)
    if cache:
        cache.put({key: tokens})
    return tokens


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """How a base writes: greedily, whatever settings it was published with, up to any of its ends of a turn or text."""
    published = model.generation_config.eos_token_id
    published = [published] if isinstance(published, int) else published or ()
    ends = {end_of_turn(tokenizer), tokenizer.eos_token_id, *published}
    return GenerationConfig(eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id, do_sample=False)


def tokens_in(free: int, config: PreTrainedConfig) -> int:
    """How many tokens of prompts and replies, of a model in bf16, fit into that many free bytes; at least 1.

    A token keeps its keys and values in every layer, and in one layer at a time about eight vectors of the hidden and
    three of the intermediate size. A fifth of the memory stays free for all else. Our decision; halving covers errors.
    """
    text = config.get_text_config(decoder=True)
    wide = getattr(text, "intermediate_size", None)
    wide = wide if isinstance(wide, int) else 4 * text.hidden_size
    passing = 8 * text.hidden_size + 3 * wide
    return max(1, int(0.8 * free / (torch.bfloat16.itemsize * (numbers_of_a_token(config) + passing))))
