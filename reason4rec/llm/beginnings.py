"""What rows have in common at their beginning is read once, and what is read of a batch before it is written."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from transformers import DynamicCache

from reason4rec.llm.batches import Answer, BatchRunner
from reason4rec.llm.prefix_cache import GrowingCache, PrefixCache, joined, read_on, states_in, without_head
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import ID_BYTES, Row, length, positions, unpacked
from reason4rec.llm.tokens import head_length

CPU_TOKENS_READ = 4096  # in a batch that is weighed: keys and values of more do not stay in its caches


def after_prefix(row: Row) -> int:
    """How many token ids a row has after its prefix."""
    return length(row.ids) - length(row.prefix)


class BeginningReader(BatchRunner):
    """A model that reads beginnings of rows; its fields are those of `BatchRunner`."""

    def read_prefixes(self, prompts: Sequence[Prompt], at_once: int = 1) -> PrefixCache | None:
        """The prefixes of these prompts, read when first needed and kept in memory as long as what is returned.

        None where `at_once` times as many would be more than there is room for, or where the base shares none.
        """
        if not self.shares:
            return None
        encoded = self._encode_all(prompts, [self.max_length] * len(prompts), count=False)
        found = self._prefixes_of(prompts, encoded, alone=True)
        prefixes = [prefix for prefix in dict.fromkeys(found) if prefix]
        if at_once * sum(map(length, prefixes)) > self.tokens_of_prefixes:
            return None
        return PrefixCache(self._split(prefixes, self._room_to_read))

    def _blocks(self, prefixes: list[bytes]) -> Iterator[PrefixCache]:
        for block in self._split(prefixes, self.tokens_at_once / 2):
            yield PrefixCache(self._split(block, self._room_to_read))

    def _prefixes_of(self, prompts: Sequence[Prompt], encoded: list[bytes], alone: bool) -> list[bytes]:
        """The packed prefix of each prompt, empty where there is none or, unless `alone`, no other prompt has it."""
        if not self.shares:
            return [b""] * len(prompts)
        texts = Counter(hash(prompt.text[: prompt.head]) for prompt in prompts)
        known: dict[bytes, bytes] = {}
        prefixes = []
        for prompt, ids in zip(prompts, encoded):
            shared = alone or texts[hash(prompt.text[: prompt.head])] > 1
            n = head_length(self.tokenizer, prompt, unpacked(ids)) if shared else 0
            prefix = ids[: n * ID_BYTES]
            prefixes.append(known.setdefault(prefix, prefix))
        return prefixes

    def _states(self, prefixes: PrefixCache) -> dict[bytes, torch.Tensor]:
        """Keys and values of every prefix, (its tokens, layers x 2, key heads, size); read now if not yet."""

        def read(batch: list[bytes]) -> tuple[list[torch.Tensor], int]:
            ids, mask = self._padded(batch)
            cache = DynamicCache()  # one of the model's own lets go of what a window has passed
            without_head(self.model)(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions(mask),
                use_cache=True,
                past_key_values=cache,
            )
            return [row[-length(prefix) :].clone() for row, prefix in zip(states_in(cache), batch)], ids.numel()

        for batch in prefixes.batches:
            if batch[0] not in prefixes.states:
                prefixes.states.update(zip(batch, self._halving(read, batch)[0]))
        return prefixes.states

    def _begun(self, prefixes: PrefixCache, batch: list[Row]) -> tuple[torch.Tensor, torch.Tensor, GrowingCache | None]:
        """A batch of rows as the model takes it, which of its positions count, and what of it is read."""
        if self.shares and self._reads_alone:
            known = self._states(prefixes) if batch[0].prefix else {}
            states = [read_on(self.model, unpacked(row.ids)[:-1], known.get(row.prefix)) for row in batch]
            return *self._padded([row.ids for row in batch]), GrowingCache(joined(states)[0])
        ids, mask = self._padded([row.ids[len(row.prefix) :] for row in batch])
        if not batch[0].prefix:
            return ids, mask, GrowingCache() if self.shares else None
        cache, prefix_mask = joined([self._states(prefixes)[row.prefix] for row in batch])
        ids = torch.cat([self._padded([row.prefix for row in batch])[0], ids], dim=1)
        return ids, torch.cat([prefix_mask, mask], dim=1), GrowingCache(cache)

    def _after(self, batch: list[Row], prefixes: PrefixCache | None) -> dict[str, object]:
        """A batch of rows as the model takes it to be read: whole, or after their prefixes, which are read already."""
        ids, mask = self._padded([row.ids[len(row.prefix) :] if prefixes else row.ids for row in batch])
        before: dict[str, object] = {"use_cache": False}
        if prefixes:
            cache, prefix_mask = joined([self._states(prefixes)[row.prefix] for row in batch])
            before, mask = {"use_cache": True, "past_key_values": cache}, torch.cat([prefix_mask, mask], dim=1)
        places = positions(mask)[:, -ids.shape[1] :]
        return {"input_ids": ids, "attention_mask": mask, "position_ids": places, **before}

    def _batches_to_weigh(
        self, given: PrefixCache | None, weigh: Callable, rows: list[Row], most: float = math.inf
    ) -> Iterator[tuple[list[Row], Answer]]:
        """Batches of the rows with each prefix that is read once, then of the others.

        Of at most `most` tokens after their prefixes in each.
        """
        room = CPU_TOKENS_READ if self._on_cpu else self._room_to_read
        times = Counter(row.prefix for row in rows) if self.shares else {}
        recurring = [prefix for prefix, n in times.items() if prefix and n > 1]
        for prefixes in [given] if given else self._blocks(recurring):
            names = {prefix for batch in prefixes.batches for prefix in batch}
            members = [row for row in rows if row.prefix in names]
            answer = partial(weigh, prefixes=prefixes)
            for batch in self._split(members, room, size=after_prefix, most=most):
                yield batch, partial(_one_by_one, answer) if self._reads_alone else answer
            rows = [row for row in rows if row.prefix not in names]
        alone = self._reads_alone or (self._on_cpu and not self.prompts_at_once)
        answer = partial(_one_by_one, weigh) if alone else weigh
        for batch in self._split(rows, room, most=most):
            yield batch, answer


def _one_by_one(answer: Answer, batch: list[Row]) -> tuple[list, int]:
    """The answers to a batch, of which no two rows are computed together."""
    found = [answer([row]) for row in batch]
    return [one for (one,), _ in found], sum(tokens for _, tokens in found)
