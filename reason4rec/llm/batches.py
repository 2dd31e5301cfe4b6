"""Rows of token ids through a local model in batches: padded, split, halved where memory is full, and kept on disk."""

import gc
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from reason4rec.llm.base import PromptBar, progress, windows
from reason4rec.llm.cache import ResponseCache, key_of
from reason4rec.llm.prefix_cache import CPU_TOKENS
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import Row, length, packed, unpacked
from reason4rec.llm.tokens import encode

ROWS = 512  # in a batch at most

Answer = Callable[[list[Row]], tuple[list, int]]


@dataclass
class BatchRunner:
    """A base model in 4 bits with at most one adapter, its tokenizer, and how its batches are made.

    `name` stands for its weights in the keys of kept replies; `shortened` counts prompts that lost history to fit,
    `stopped` why replies were stopped. A batch holds `prompts_at_once` prompts, or, where that is None, as many as
    have `tokens_at_once` tokens together. Prefixes of at most `tokens_of_prefixes` tokens are kept from call to call.
    A base that no padding fits has `pads` False and is asked one row at a time; one that cannot go on from kept keys
    and values has `shares` False.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    max_length: int = 4096
    prompts_at_once: int | None = None
    tokens_at_once: float = CPU_TOKENS
    tokens_of_prefixes: float = CPU_TOKENS
    cache: ResponseCache | None = None
    shortened: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    tokens_that_fit: float = math.inf
    pads: bool = True
    shares: bool = True

    def __post_init__(self) -> None:
        self._bar: PromptBar | None = None
        self._keep: Callable[[dict[Row, object]], None] = lambda new: None

    @property
    def dtype(self) -> torch.dtype:
        """What the base computes in."""
        return self.model.dtype

    @property
    def _on_cpu(self) -> bool:
        return self.model.device.type != "cuda"

    @property
    def _is_exact(self) -> bool:
        """Whether a row has the same answer in any batch: in bf16 each batch rounds in its own way."""
        return self._on_cpu and self.model.dtype == torch.float32

    @property
    def _reads_alone(self) -> bool:
        """Whether rows are read one by one before they are written: so they need no mask, and a CPU is as fast."""
        return self._on_cpu and not self._is_exact

    @property
    def _keeps_each(self) -> bool:
        """Whether each text of a batch is kept as soon as it is whole."""
        return self._is_exact and self.cache is not None

    @property
    def _room_to_read(self) -> float:
        # On CUDA a prefix that was read lies in memory beside its copies in the rows. On a CPU it is read alone.
        return 1 if self._on_cpu else self.tokens_at_once / 2

    def _encode_all(self, prompts: Sequence[Prompt], longest: Sequence[int], count: bool = True) -> list[bytes]:
        """Packed token ids of each prompt in the chat format, shortened to at most as many as `longest` says."""
        encoded = []
        for prompt, most in zip(prompts, longest, strict=True):
            ids, cut = encode(self.tokenizer, prompt, most)
            self.shortened += count and cut > 0
            encoded.append(packed(ids))
        return encoded

    def _padded(self, batch: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, longest) token ids of packed rows, padded on the left, and which of them count."""
        rows = [torch.tensor(unpacked(row), dtype=torch.long) for row in batch]
        pad = self.tokenizer.pad_token_id
        ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
        return ids.to(self.model.device), mask.to(self.model.device)

    def _split(
        self, items: list, room: float, more: int = 0, size: Callable = length, most: float = math.inf
    ) -> list[list]:
        """Items in batches, the largest first, each with at most `room` tokens and `more` a row; always the same.

        By `size` a batch has at most `most` together, such as tokens whose logits are wanted.
        """
        items, batches, start = sorted(items, key=lambda item: (-size(item), item)), [], 0
        # The most tokens of an item from each place on.
        longest = list(itertools.accumulate(map(length, reversed(items)), max))[::-1]
        while start < len(items):
            fit = self.prompts_at_once or max(1, min(ROWS, int(room / (longest[start] + more))))
            fit = max(1, int(min(fit, most / size(items[start])))) if self.pads else 1
            batches.append(items[start : start + fit])
            start += fit
        return batches

    def _answers(
        self,
        total: int,
        rows_of: Callable[[slice], list[Row]],
        settings: dict,
        what: str,
        batches: Callable[[list[Row]], Iterator[tuple[list[Row], Answer]]],
        are_texts: bool = False,
        of_row: Callable[[Row], dict[str, object]] = lambda row: {},
    ) -> list:
        """The answers to rows, in their order, each distinct one asked once and kept before the next batch begins.

        `rows_of` makes the rows of one window of prompts at a time. A batch of which anything is missing is computed
        whole, so that a resumed run gives what an unbroken one does; but where they `are_texts` and each is kept by
        `_keep`, those that an interrupted batch has kept are not written again. `of_row` gives what an answer depends
        on beside the row's ids and the settings.
        """
        answers: dict[str, object] = {}
        wanted: list[str] = []
        with progress(what, total) as bar:
            self._bar = bar
            for window in windows(total):
                rows = rows_of(window)
                times = Counter(rows)
                keys = {row: key_of(model=self.name, ids=unpacked(row.ids), **settings, **of_row(row)) for row in times}
                self._keep = lambda texts, keys=keys: self.cache.put({keys[row]: text for row, text in texts.items()})
                wanted += [keys[row] for row in rows]
                new = [row for row in keys if keys[row] not in answers]
                bar.answered(len(rows) - sum(times[row] for row in new))
                for batch, answer in batches(new):
                    kept = self.cache.get_all([keys[row] for row in batch]) if self.cache else {}
                    computed = 0
                    if len(kept) < len(batch):
                        whole = not (are_texts and self._keeps_each)
                        left = batch if whole else [row for row in batch if keys[row] not in kept]
                        with torch.inference_mode():
                            found, computed = self._halving(answer, left)
                        new_ones = {keys[row]: value for row, value in zip(left, found, strict=True)}
                        if self.cache:
                            self.cache.put(new_ones)
                        kept |= new_ones
                    answers |= kept
                    bar.answered(sum(times[row] for row in batch), computed)
        return [answers[key] for key in wanted]

    def _halving(self, answer: Callable, batch: list) -> tuple[list, int]:
        """The answers to a batch and the tokens they took; where the GPU's memory is full, those to its halves."""
        size = len(batch) * max(map(length, batch))
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
