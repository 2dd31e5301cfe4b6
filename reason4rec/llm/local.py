"""A local base model with an adapter: generate text, and weigh the choices at the next token.

The base is loaded in 4 bits (NF4) on CUDA and on the CPU alike. Prompts go through it in left-padded batches, longest
first; on a CPU a batch gives what its prompts give one by one, on CUDA up to the rounding of bf16. What prompts on one
target have in common is read once. Inference never goes through unsloth, whose left-padded batches are wrong.
"""

import gc
import itertools
import logging
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from reason4rec.llm import adapters
from reason4rec.llm.base import progress, windows
from reason4rec.llm.bases import load_base, with_adapter
from reason4rec.llm.cache import ResponseCache, key_of
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.tokens import check, choice_ids, common, encode, head_length, load_tokenizer, plain_ids
from reason4rec.run import files

CPU_TOKENS = 2**15  # of prompts and replies in a batch on a CPU
CPU_TOKENS_READ = 4096  # for ratings: keys and values of more do not stay in its caches
CPU_BYTES_OF_HEADS = 2**29
ROWS = 512  # in a batch at most
ID_BYTES = array("i").itemsize


@dataclass(frozen=True, order=True)
class _Row:
    """What is asked once: packed token ids, and those at their beginning that other rows have too."""

    ids: bytes
    head: bytes = b""


def _packed(ids: Sequence[int]) -> bytes:
    """Token ids in a few bytes each: as numbers of Python, those of a window would take ten times the memory."""
    return array("i", ids).tobytes()


def _unpacked(packed: bytes) -> list[int]:
    return array("i", packed).tolist()


def _length(item: bytes | _Row) -> int:
    """How many token ids a packed row has."""
    return len(item if isinstance(item, bytes) else item.ids) // ID_BYTES


@dataclass
class Heads:
    """The heads of some prompts, packed, in the batches they are read in, and their keys and values once read.

    The batches hold all these heads, whichever are needed, so that a resumed run reads them as an unbroken one does.
    """

    batches: list[list[bytes]]
    states: dict[bytes, torch.Tensor] = field(default_factory=dict)


Answer = Callable[[list[_Row]], tuple[list, int]]


@dataclass
class LocalModel:
    """A base model in 4 bits with at most one adapter, its tokenizer and how it is asked.

    `name` stands for its weights in the keys of kept replies; `shortened` counts prompts that lost history to fit. A
    batch holds `batch_size` prompts, or, where that is None, as many as have `tokens_at_once` tokens together. Heads of
    at most `tokens_of_heads` tokens are kept from call to call.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    max_length: int = 4096
    batch_size: int | None = None
    tokens_at_once: float = CPU_TOKENS
    tokens_of_heads: float = CPU_TOKENS
    store: ResponseCache | None = None
    shortened: int = 0
    tokens_that_fit: float = math.inf

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn at a temperature with a seed of each prompt's own.

        What all prompts begin with, the instruction, is read once.
        """

        def reply(batch: list[_Row], heads: Heads) -> tuple[list[str], int]:
            ids, mask = self._padded([row.ids[len(row.head) :] for row in batch])
            before = {}
            if batch[0].head:
                before["past_key_values"], head_mask = self._joined([self._states(heads)[row.head] for row in batch])
                ids = torch.cat([self._padded([row.head for row in batch])[0], ids], dim=1)
                mask = torch.cat([head_mask, mask], dim=1)
            processors = LogitsProcessorList()
            if temperature > 0:
                processors.append(_Draw(temperature, [key_of(seed=seed, ids=_unpacked(row.ids)) for row in batch]))
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=processors,
                **before,
            )[:, ids.shape[1] :]
            texts = self.tokenizer.batch_decode(output, skip_special_tokens=True)
            return [text.strip() for text in texts], int((output != self.tokenizer.pad_token_id).sum())

        def batches(rows: list[_Row]) -> Iterator[tuple[list[_Row], Answer]]:
            heads = Heads([[row.head] for row in rows[:1]])  # that of all
            for batch in self._split(rows, self.tokens_at_once, more=max_new_tokens):
                yield batch, partial(reply, heads=heads)

        def rows_of(window: slice) -> list[_Row]:
            asked = prompts[window]
            encoded = self._encode_all(asked, [self.max_length - max_new_tokens] * len(asked))
            head = _common_head(encoded)
            return [_Row(ids, head) for ids in encoded]

        for prompt in prompts:
            check(self.tokenizer, prompt, self.max_length - max_new_tokens)
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        return self._answers(len(prompts), rows_of, settings, what, batches)

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        said: Sequence[str] | None = None,
        what: str = "scoring",
        heads: Heads | None = None,
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`; rows sum to 1.

        `said` is what each reply says before the prefix. What several prompts have in common is read once: the heads
        that `read_heads` gave, or those that recur among these prompts. InputError if a choice is not a single token
        after the prefix. Source: paper, feedback prediction.
        """
        columns = torch.tensor(choice_ids(self.tokenizer, choices, prefix), device=self.model.device)
        tail = _packed(plain_ids(self.tokenizer, prefix))

        def rows_of(window: slice) -> list[_Row]:
            asked = prompts[window]
            tails = [tail] * len(asked)
            if said is not None:
                tails = [_packed(plain_ids(self.tokenizer, text + prefix)) for text in said[window]]
            encoded = self._encode_all(asked, [self.max_length - _length(end) for end in tails])
            shared = self._heads_of(asked, encoded, alone=heads is not None)
            return [_Row(ids + end, head) for ids, end, head in zip(encoded, tails, shared)]

        def weigh(batch: list[_Row], block: Heads | None = None) -> tuple[list[list[float]], int]:
            ids, mask = self._padded([row.ids[len(row.head) :] if block else row.ids for row in batch])
            before: dict[str, object] = {"use_cache": False}
            if block:
                cache, head_mask = self._joined([self._states(block)[row.head] for row in batch])
                before, mask = {"use_cache": True, "past_key_values": cache}, torch.cat([head_mask, mask], dim=1)
            positions = _positions(mask)[:, -ids.shape[1] :]
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, **before
            ).logits
            return logits[:, -1, columns].float().softmax(-1).tolist(), ids.numel()

        def batches(rows: list[_Row]) -> Iterator[tuple[list[_Row], Answer]]:
            room = CPU_TOKENS_READ if self._on_cpu else self._room_to_read
            recurring = [head for head, n in Counter(row.head for row in rows).items() if head and n > 1]
            for block in [heads] if heads else self._blocks(recurring):
                names = {head for batch in block.batches for head in batch}
                members = [row for row in rows if row.head in names]
                for batch in self._split(members, room, size=lambda row: _length(row.ids) - _length(row.head)):
                    yield batch, partial(weigh, block=block)
                rows = [row for row in rows if row.head not in names]
            answer = partial(_one_by_one, weigh) if self._on_cpu and not self.batch_size else weigh
            for batch in self._split(rows, room):
                yield batch, answer

        for prompt, text in zip(prompts, [""] * len(prompts) if said is None else said, strict=True):
            check(self.tokenizer, prompt, self.max_length, text + prefix)
        found = self._answers(len(prompts), rows_of, {"choices": list(choices)}, what, batches)
        return np.array(found, dtype=float).reshape(len(prompts), len(choices))

    def read_heads(self, prompts: Sequence[Prompt], at_once: int = 1) -> Heads | None:
        """The heads of these prompts, read when first needed and kept in memory as long as what is returned.

        None where `at_once` times as many would be more than there is room for.
        """
        encoded = self._encode_all(prompts, [self.max_length] * len(prompts), count=False)
        found = self._heads_of(prompts, encoded, alone=True)
        heads = [head for head in dict.fromkeys(found) if head]
        if at_once * sum(map(_length, heads)) > self.tokens_of_heads:
            return None
        return Heads(self._split(heads, self._room_to_read))

    def _blocks(self, heads: list[bytes]) -> Iterator[Heads]:
        for block in self._split(heads, self.tokens_at_once / 2):
            yield Heads(self._split(block, self._room_to_read))

    @property
    def _on_cpu(self) -> bool:
        return self.model.device.type != "cuda"

    @property
    def _room_to_read(self) -> float:
        # On CUDA a head that was read lies in memory beside its copies in the rows. On a CPU batches gain nothing here,
        # and what is read alone needs no mask, which halves its attention.
        return 1 if self._on_cpu else self.tokens_at_once / 2

    def _encode_all(self, prompts: Sequence[Prompt], longest: Sequence[int], count: bool = True) -> list[bytes]:
        """Packed token ids of each prompt in the chat format, shortened to at most as many as `longest` says."""
        encoded = []
        for prompt, most in zip(prompts, longest, strict=True):
            ids, cut = encode(self.tokenizer, prompt, most)
            self.shortened += count and cut > 0
            encoded.append(_packed(ids))
        return encoded

    def _heads_of(self, prompts: Sequence[Prompt], encoded: list[bytes], alone: bool) -> list[bytes]:
        """The packed head of each prompt, empty where there is none or, unless `alone`, no other prompt has it."""
        texts = Counter(hash(prompt.text[: prompt.head]) for prompt in prompts)
        known: dict[bytes, bytes] = {}
        heads = []
        for prompt, ids in zip(prompts, encoded):
            shared = alone or texts[hash(prompt.text[: prompt.head])] > 1
            n = head_length(self.tokenizer, prompt, _unpacked(ids)) if shared else 0
            head = ids[: n * ID_BYTES]
            heads.append(known.setdefault(head, head))
        return heads

    def _padded(self, batch: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, longest) token ids of packed rows, padded on the left, and which of them count."""
        rows = [torch.tensor(_unpacked(row), dtype=torch.long) for row in batch]
        pad = self.tokenizer.pad_token_id
        ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        return ids.to(self.model.device), mask.to(self.model.device)

    def _states(self, heads: Heads) -> dict[bytes, torch.Tensor]:
        """Keys and values of every head, (its tokens, layers x 2 x key heads x size); read now if not yet."""

        def read(batch: list[bytes]) -> tuple[list[torch.Tensor], int]:
            ids, mask = self._padded(batch)
            cache = self.model(
                input_ids=ids, attention_mask=mask, position_ids=_positions(mask), logits_to_keep=1, use_cache=True
            ).past_key_values
            states = torch.stack([tensor for layer in cache.layers for tensor in (layer.keys, layer.values)], dim=1)
            states = states.permute(0, 3, 1, 2, 4).flatten(2)
            return [row[-_length(head) :].clone() for row, head in zip(states, batch)], ids.numel()

        for batch in heads.batches:
            if batch[0] not in heads.states:
                heads.states.update(zip(batch, self._halving(read, batch)[0]))
        return heads.states

    def _joined(self, states: list[torch.Tensor]) -> tuple[DynamicCache, torch.Tensor]:
        """The keys and values of one head per row as the model takes them, and which of their positions count."""
        config = self.model.config
        padded = pad_sequence(states, batch_first=True, padding_side="left")
        shape = (*padded.shape[:2], config.num_hidden_layers, 2, config.num_key_value_heads, -1)
        layers = padded.reshape(shape).permute(2, 3, 0, 4, 1, 5)
        lengths = torch.tensor([len(state) for state in states], device=padded.device)
        width = padded.shape[1]
        mask = (torch.arange(width, device=padded.device) >= width - lengths[:, None]).long()
        return DynamicCache([(keys, values) for keys, values in layers]), mask

    def _split(self, items: list, room: float, more: int = 0, size: Callable = _length) -> list[list]:
        """Items in batches, the largest first, each with at most `room` tokens and `more` a row; always the same."""
        items, batches, start = sorted(items, key=lambda item: (-size(item), item)), [], 0
        # The most tokens of an item from each place on.
        longest = list(itertools.accumulate(map(_length, reversed(items)), max))[::-1]
        while start < len(items):
            fit = self.batch_size or max(1, min(ROWS, int(room / (longest[start] + more))))
            batches.append(items[start : start + fit])
            start += fit
        return batches

    def _answers(
        self,
        total: int,
        rows_of: Callable[[slice], list[_Row]],
        settings: dict,
        what: str,
        batches: Callable[[list[_Row]], Iterator[tuple[list[_Row], Answer]]],
    ) -> list:
        """The answers to rows, in their order, each distinct one asked once and kept before the next batch begins.

        `rows_of` makes the rows of one window of prompts at a time. A batch of which anything is missing is computed
        whole, so that a resumed run gives what an unbroken one does.
        """
        answers: dict[str, object] = {}
        wanted: list[str] = []
        with progress(what, total) as answered:
            for window in windows(total):
                rows = rows_of(window)
                times = Counter(rows)
                keys = {row: key_of(model=self.name, ids=_unpacked(row.ids), **settings) for row in times}
                wanted += [keys[row] for row in rows]
                new = [row for row in keys if keys[row] not in answers]
                answered(len(rows) - sum(times[row] for row in new))
                for batch, answer in batches(new):
                    kept = self.store.get_all([keys[row] for row in batch]) if self.store else {}
                    computed = 0
                    if len(kept) < len(batch):
                        with torch.inference_mode():
                            found, computed = self._halving(answer, batch)
                        kept = {keys[row]: value for row, value in zip(batch, found, strict=True)}
                        if self.store:
                            self.store.put(kept)
                    answers |= kept
                    answered(sum(times[row] for row in batch), computed)
        return [answers[key] for key in wanted]

    def _halving(self, answer: Callable, batch: list) -> tuple[list, int]:
        """The answers to a batch and the tokens they took; where the GPU's memory is full, those to its halves."""
        size = len(batch) * max(map(_length, batch))
        if size <= self.tokens_that_fit or len(batch) == 1:
            try:
                return answer(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.tokens_that_fit = size / 2
            # Outside the handler, whose traceback holds on to what filled the memory.
            gc.collect()
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        (first, n), (second, m) = (self._halving(answer, half) for half in (batch[:middle], batch[middle:]))
        return first + second, n + m


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token among those that count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def _one_by_one(answer: Answer, batch: list[_Row]) -> tuple[list, int]:
    """The answers to a batch, of which no two rows are computed together."""
    found = [answer([row]) for row in batch]
    return [one for (one,), _ in found], sum(tokens for _, tokens in found)


def _common_head(rows: Sequence[bytes]) -> bytes:
    """What all packed rows begin with, and each goes on after; empty for a single row."""
    first, last = (_unpacked(end(rows, default=b"")) for end in (min, max))
    return _packed(first[: min(common(first, last), len(first) - 1)]) if first != last else b""


class _Draw(LogitsProcessor):
    """Turns greedy decoding into sampling: adds Gumbel noise that belongs to the prompt, not to its batch."""

    def __init__(self, temperature: float, keys: Sequence[str]):
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(int(key[:15], 16)) for key in keys]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self.temperature + gumbel.to(scores.device)


def load(
    base_model: str,
    adapter: Path | None,
    device: str,
    max_length: int = 4096,
    batch_size: int | None = None,
    store: ResponseCache | None = None,
) -> LocalModel:
    """A base model with an adapter on it, on `cuda` or `cpu`, ready to be asked. InputError if it cannot be loaded.

    Without a `batch_size` a batch on CUDA fills the memory that is free now. The store keeps the number for this card,
    so that a resumed run has the same batches as long as they fit. On a CPU it has CPU_TOKENS tokens.
    """
    tokenizer = load_tokenizer(base_model)
    model: PreTrainedModel | PeftModel = load_base(base_model, device)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if model.num_parameters() * model.dtype.itemsize < free / 4:
        # A batch needs the weights unpacked, and here there is room to do that once and not at every token.
        logging.getLogger("transformers.integrations.bitsandbytes").setLevel(logging.ERROR)
        model = model.dequantize()
    name = base_model if not Path(base_model).is_dir() else files.sha256(Path(base_model))
    if adapter is not None:
        model = with_adapter(model, adapter)
        name = key_of(base=name, adapter=files.sha256(adapter / adapters.ADAPTER_WEIGHTS))
    name = key_of(name=name, device=device)
    model.eval()
    if device == "cpu":
        return LocalModel(model, tokenizer, name, max_length, batch_size, CPU_TOKENS, heads_in(model), store)
    free, total = torch.cuda.mem_get_info()
    key = key_of(model=name, card=torch.cuda.get_device_name(), memory=total, what="tokens at once")
    fits = tokens_in(free, model.config)
    tokens = min(fits, (store.get(key) if store else None) or fits)
    if store:
        store.put({key: tokens})
    return LocalModel(model, tokenizer, name, max_length, batch_size, tokens, tokens / 4, store)


def heads_in(model: PreTrainedModel | PeftModel) -> int:
    """How many tokens' keys and values fit into CPU_BYTES_OF_HEADS."""
    return CPU_BYTES_OF_HEADS // (kept_for_a_token(model.config) * torch.float32.itemsize)


def kept_for_a_token(config: PreTrainedConfig) -> int:
    """How many numbers the keys and values of a token are, over all layers."""
    head = config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head


def tokens_in(free: int, config: PreTrainedConfig) -> int:
    """How many tokens of prompts and replies, of a model in bf16, fit into that many free bytes; at least 1.

    A token keeps its keys and values in every layer, and in one layer at a time about eight vectors of the hidden and
    three of the intermediate size. A fifth of the memory stays free for all else. Our decision; halving covers errors.
    """
    passing = 8 * config.hidden_size + 3 * config.intermediate_size
    return max(1, int(0.8 * free / (torch.bfloat16.itemsize * (kept_for_a_token(config) + passing))))
