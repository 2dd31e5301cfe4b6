"""The likeliest of given answers, by a beam search along a trie.

Each step looks at the tokens alone that can follow in the trie, so that every beam is one of the answers and no two are
the same. A prompt is read once, whatever the number of its beams; transformers' own search reads it for each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from reason4rec.llm.bases import logits_of
from reason4rec.llm.batches import Answer
from reason4rec.llm.likelihood import BYTES_OF_LOGITS, LikelihoodReader
from reason4rec.llm.prefix_cache import GrowingCache, PrefixCache
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import Row, common_prefix, length, packed, positions, unpacked
from reason4rec.llm.tokens import check, plain_ids
from reason4rec.llm.trie import Path, Trie

Beam = tuple[Path, float]
"""The token ids of an answer with its end, and its score."""


@dataclass(frozen=True, order=True)
class BeamRow(Row):
    """A row that is answered by beams, and the packed places of the answers that are none for it."""

    excluded: bytes = b""


class BeamSearcher(LikelihoodReader):
    """A model that searches along a trie; its fields are those of `BatchRunner`."""

    def beams(
        self,
        prompts: Sequence[Prompt],
        trie: Trie,
        num_beams: int,
        begun: Sequence[str] | None = None,
        excluded: Sequence[Sequence[int]] | None = None,
        what: str = "searching",
        length_penalty: float = 1.0,
    ) -> list[list[Beam]]:
        """For each prompt at most `num_beams` answers of a trie, the likeliest first, each with its score.

        The score is the sum of the log-probabilities of the answer's tokens, its end included, among all tokens of the
        model, divided by their number to the power of `length_penalty`, as in transformers: with 1 their mean, with 0
        the log-probability of the answer. `begun` has what each reply begins with, such as a reason; the
        answers' tokens follow it as they are. `excluded` has the places of answers that are none for a prompt, such as
        items of the history. There are fewer beams where the trie has fewer answers, and where it goes by positions:
        then a beam can be none of the answers, which has no place in `trie.places`, and excluded ones are left out
        after the search. InputError for a prompt that does not fit.
        """
        texts = [""] * len(prompts) if begun is None else begun
        without = [()] * len(prompts) if excluded is None else excluded
        longest = self.max_length - trie.depth
        for prompt, text, _ in zip(prompts, texts, without, strict=True):
            check(self.tokenizer, prompt, longest, text)

        def rows_of(window: slice) -> list[Row]:
            asked = prompts[window]
            tails = [packed(plain_ids(self.tokenizer, text)) for text in texts[window]]
            encoded = self._encode_all(asked, [longest - length(tail) for tail in tails])
            prefix = common_prefix(encoded) if self.shares else b""
            left_out = [packed(sorted(set(places))) for places in without[window]]
            return [BeamRow(ids + tail, prefix, out) for ids, tail, out in zip(encoded, tails, left_out)]

        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        most = max(1, int(BYTES_OF_LOGITS / (4 * vocabulary * num_beams)))

        def batches(rows: list[Row]) -> Iterator[tuple[list[Row], Answer]]:
            prefixes = PrefixCache([[row.prefix] for row in rows[:1]])  # that of all
            for batch in self._split(rows, self.tokens_at_once / num_beams, more=trie.depth):
                for start in range(0, len(batch), most):
                    yield batch[start : start + most], partial(self._search, prefixes, trie, num_beams, length_penalty)

        settings = {"what": "beams", "trie": trie.name, "num_beams": num_beams, "length_penalty": length_penalty}
        of_row = lambda row: {"excluded": unpacked(row.excluded)}  # noqa: E731
        found = self._answers(len(prompts), rows_of, settings, what, batches, of_row=of_row)
        return [[(tuple(path), score) for path, score in of] for of in found]

    def _search(
        self, prefixes: PrefixCache, trie: Trie, num_beams: int, length_penalty: float, batch: list[BeamRow]
    ) -> tuple[list[list[Beam]], int]:
        """The beams of each row of a batch, and how many tokens were read for them."""
        search = Search(trie, [unpacked(row.excluded) for row in batch], num_beams, self.model.device, length_penalty)
        ids, mask, cache = self._begun(prefixes, batch)
        every = torch.arange(self.model.get_output_embeddings().weight.shape[0], device=self.model.device)
        computed, width = 0, ids.shape[1]
        with logits_of(self.model, every):
            while search.goes_on:
                logits, read = self._next(ids, mask, cache)
                computed += read
                rows, tokens = search.step(logits)
                if cache is not None:
                    cache.follow(rows, width)
                ids, mask = torch.cat([ids[rows], tokens[:, None]], dim=1), mask[rows]
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        return search.found(), computed

    def _next(self, ids: torch.Tensor, mask: torch.Tensor, cache: GrowingCache | None) -> tuple[torch.Tensor, int]:
        """(rows, vocabulary) logits after rows of ids, and how many tokens were read: those that no cache holds."""
        known = 0 if cache is None else cache.get_seq_length()
        new = ids[:, known:]
        output = self.model(
            input_ids=new,
            attention_mask=mask,
            position_ids=positions(mask)[:, known:],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float(), new.numel()


class Search:
    """The beams of a batch of prompts as they grow, as many for each prompt, those that lead nowhere at -inf.

    `excluded` has the places of the answers that are none for each prompt.
    """

    def __init__(
        self,
        trie: Trie,
        excluded: Sequence[Sequence[int]],
        num_beams: int,
        device: torch.device,
        length_penalty: float = 1.0,
    ):
        self.trie, self.excluded, self.num_beams, self.length_penalty = trie, excluded, num_beams, length_penalty
        starts, counts, tokens, nodes = (
            torch.from_numpy(array).to(device) for array in (trie.starts, trie.counts, trie.tokens, trie.nodes)
        )
        self.starts, self.counts, self.tokens, self.nodes = starts, counts, tokens, nodes
        blocked = np.zeros((len(excluded), len(trie.starts)), dtype=bool)
        if not trie.positionwise:
            for row, places in enumerate(excluded):
                blocked[row, trie.blocked(places)] = True
        self.blocked = torch.from_numpy(blocked).to(device)
        self.node = torch.zeros((len(excluded), 1), dtype=torch.long, device=device)
        self.score = torch.zeros((len(excluded), 1), dtype=torch.float64, device=device)
        self.written = torch.zeros((len(excluded), 1, 0), dtype=torch.long, device=device)
        self.ended: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def goes_on(self) -> bool:
        """Whether any beam is not whole yet."""
        return bool(torch.isfinite(self.score).any())

    def step(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lets the beams grow by a token, by the (prompts x beams, vocabulary) logits after them.

        Returns the rows of the logits that are gone on with, in the order of the new beams, and the token of each. The
        `num_beams` likeliest beams that are not whole go on, and those that are whole are kept where they are among the
        `num_beams` likeliest of all.
        """
        prompts, beams = self.node.shape
        most = int(self.counts[self.node].max())
        offsets = torch.arange(most, device=self.node.device)
        at = (self.starts[self.node][..., None] + offsets).clamp(max=len(self.tokens) - 1)
        token, node = self.tokens[at], self.nodes[at]
        blocked = self.blocked.gather(1, node.flatten(1)).view_as(node)
        allowed = (offsets < self.counts[self.node][..., None]) & ~blocked
        gained = logits.log_softmax(-1).view(prompts, beams, -1).gather(2, token)
        score = (self.score[..., None] + gained).masked_fill(~allowed, -torch.inf).flatten(1)
        whole = (self.counts[node] == 0).flatten(1)
        token, node = token.flatten(1), node.flatten(1)
        count = min(self.num_beams, score.shape[1])
        best, among = score.topk(count)
        best = best.masked_fill(~whole.gather(1, among), -torch.inf)
        written = self._with(among // most, token.gather(1, among))
        self.ended.append((best / written.shape[2] ** self.length_penalty, written))
        self.score, chosen = score.masked_fill(whole, -torch.inf).topk(count)
        self.node, tokens = node.gather(1, chosen), token.gather(1, chosen)
        self.written = self._with(chosen // most, tokens)
        first = torch.arange(prompts, device=self.node.device)[:, None] * beams
        return (first + chosen // most).flatten(), tokens.flatten()

    def _with(self, parents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(prompts, beams, tokens) what is written by the beams at the places `parents`, each with one token more."""
        before = self.written.gather(1, parents[..., None].expand(-1, -1, self.written.shape[2]))
        return torch.cat([before, tokens[..., None]], dim=2)

    def found(self) -> list[list[Beam]]:
        """For each prompt the beams that are whole, the likeliest first; equal ones in the order of their tokens."""
        found: list[list[Beam]] = [[] for _ in self.excluded]
        for scores, written in self.ended:
            for of, values, paths in zip(found, scores.tolist(), written.tolist(), strict=True):
                of += [(tuple(path), value) for path, value in zip(paths, values) if value > -np.inf]
        without = [{self.trie.paths[place] for place in places} for places in self.excluded]
        kept = [[beam for beam in of if beam[0] not in out] for of, out in zip(found, without, strict=True)]
        return [sorted(of, key=lambda beam: (-beam[1], beam[0]))[: self.num_beams] for of in kept]
