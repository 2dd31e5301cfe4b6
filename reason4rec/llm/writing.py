"""How a batch of replies is written: token by token, each until it ends, the batch smaller as replies end."""

import itertools
import time
from collections.abc import Callable, Sequence

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from reason4rec.llm.cache import key_of
from reason4rec.llm.prefix_cache import GrowingCache
from reason4rec.llm.rows import Row, unpacked
from reason4rec.llm.stops import Reply

KEEP_EVERY = 1.0  # seconds between writes to the disk of replies that end while their batch goes on
LOOK_EVERY = 8  # tokens between looks at whether a reply is to be stopped
ROOM = 64  # tokens for which keys and values get room at a time
SHRINK_AT = 0.75  # of a batch: where no more are still written, the others leave it


class Draw(LogitsProcessor):
    """Turns greedy decoding into sampling: adds Gumbel noise that belongs to the prompt, not to its batch.

    `top_k` (0: all) and `top_p` (1: all) leave out unlikely tokens before.
    """

    def __init__(self, temperature: float, seed: int, batch: Sequence[Row], top_k: int = 0, top_p: float = 1.0):
        self.temperature = temperature
        self.cuts = [TopKLogitsWarper(top_k)] if top_k else []
        self.cuts += [TopPLogitsWarper(top_p)] if top_p < 1 else []
        keys = [key_of(seed=seed, ids=unpacked(row.ids)) for row in batch]
        self.generators = [torch.Generator().manual_seed(int(key[:15], 16)) for key in keys]

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with the rows at these places alone."""
        self.generators = [self.generators[place] for place in places]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        scores = scores.float() / self.temperature
        for cut in self.cuts:
            scores = cut(input_ids, scores)
        return scores + gumbel.to(scores.device)


class Replies(StoppingCriteria):
    """The replies of a batch as they are written; tells which have ended, so that they are kept.

    `written` hears at each token how many are written, `ended` now and then the places and texts of replies that are
    whole. A reply is whole with a token of `ends`, or where a `stops.Reply`, of which `watch` makes one for each, cuts
    it: it is looked at every LOOK_EVERY tokens of its own, whatever its batch is.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        ends: set[int],
        n: int,
        watch: Callable[[], Reply],
        written: Callable[[int], None],
        ended: Callable[[dict[int, str]], None],
        shrinks: bool,
    ):
        self.tokenizer, self.ends, self.written, self.ended = tokenizer, ends, written, ended
        self.least = SHRINK_AT if shrinks else 0.0
        self.watched = [watch() for _ in range(n)]
        self.tokens: list[list[int]] = [[] for _ in range(n)]
        self.places = list(range(n))  # of the rows of the model's batch
        self.whole: set[int] = set()
        self.new: dict[int, str] = {}
        self.told_at = time.monotonic()

    def text(self, place: int) -> str:
        """The text of a reply up to the token that ends it."""
        tokens = itertools.takewhile(lambda token: token not in self.ends, self.tokens[place])
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def going(self) -> list[int]:
        """The rows of the model's batch whose replies are not whole."""
        return [row for row, place in enumerate(self.places) if place not in self.whole]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        self.written(len(input_ids))
        for place, token in zip(self.places, input_ids[:, -1].tolist()):
            if place not in self.whole:
                self.tokens[place].append(token)
                if token in self.ends or self._is_cut(place):
                    self.whole.add(place)
                    self.new[place] = self.text(place)
        if self.new and time.monotonic() - self.told_at >= KEEP_EVERY:
            self.ended(self.new)
            self.new, self.told_at = {}, time.monotonic()
        leave = len(self.going()) <= self.least * len(self.places)
        done = [leave or place in self.whole for place in self.places]
        return torch.tensor(done, device=input_ids.device)

    def _is_cut(self, place: int) -> bool:
        # The last character may not be whole yet.
        return len(self.tokens[place]) % LOOK_EVERY == 0 and bool(
            self.watched[place].end(self.text(place).rstrip("\ufffd"))
        )


def write(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    cache: GrowingCache | None,
    replies: Replies,
    longest: int,
    draw: Draw | None,
) -> None:
    """Writes `replies` after rows of token ids, padded on the left; at most `longest` tokens each.

    The cache holds keys and values of what the rows begin with. Without one the model makes its own, of whatever kind
    they are, and the batch is written as it is.
    """
    processors = LogitsProcessorList([draw] if draw else [])
    while True:
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=longest - max(map(len, replies.tokens)),
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([replies]),
        )
        going = replies.going()
        if not going or cache is None or max(map(len, replies.tokens)) == longest:
            return
        mask = torch.cat([mask, mask.new_ones(len(mask), output.shape[1] - ids.shape[1])], dim=1)[going]
        start = int(mask.any(0).int().argmax())  # what is left may be shorter
        ids, mask = output[going, start:], mask[:, start:]
        cache.keep(going, start)
        replies.places = [replies.places[row] for row in going]
        if draw:
            draw.keep(going)
