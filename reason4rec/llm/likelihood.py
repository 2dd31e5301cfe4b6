"""How probable a model finds replies that are given: the log-probabilities of their tokens after a prompt."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from reason4rec.llm.bases import logits_of
from reason4rec.llm.beginnings import BeginningReader
from reason4rec.llm.prefix_cache import PrefixCache
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.rows import ID_BYTES, Row, length, packed, unpacked
from reason4rec.llm.tokens import check, common, plain_ids

BYTES_OF_LOGITS = 2**30  # of a batch; three copies are in memory at one time


class LikelihoodReader(BeginningReader):
    """A model that weighs replies; its fields are those of `BatchRunner`."""

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        replies: Sequence[Sequence[str]],
        reply_prefixes: Sequence[str] | None = None,
        what: str = "weighing replies",
    ) -> list[np.ndarray]:
        """For each prompt the (replies, 2) sums of the log-probabilities of each reply's tokens, and their numbers.

        `replies` has those of each prompt, `reply_prefixes` what they all begin with, such as a reason: its tokens are
        not counted. A prompt and what its replies begin with are read once. InputError for a prompt that does not fit.
        """
        begun = [""] * len(prompts) if reply_prefixes is None else reply_prefixes
        asked = [(k, reply) for k, of_prompt in enumerate(replies) for reply in of_prompt]
        tails = {(k, reply): packed(plain_ids(self.tokenizer, begun[k] + reply)) for k, reply in asked}
        heads = [plain_ids(self.tokenizer, text) for text in begun]
        longest = [max((length(tails[k, one]) for one in of), default=0) for k, of in enumerate(replies)]
        for prompt, of_prompt, text in zip(prompts, replies, begun, strict=True):
            check(self.tokenizer, prompt, self.max_length, text + max(of_prompt, key=len, default=""))
        encoded = self._encode_all(prompts, [self.max_length - most for most in longest], count=False)

        def row(k: int, reply: str) -> Row:
            tail = tails[k, reply]
            # The token before the reply is read with it, since it is what gives the first one's probability.
            known = encoded[k] + tail[: common(heads[k], unpacked(tail)) * ID_BYTES]
            return Row(encoded[k] + tail, known[:-ID_BYTES])

        def rows_of(window: slice) -> list[Row]:
            return [row(*one) for one in asked[window]]

        room = BYTES_OF_LOGITS / (4 * self.model.get_output_embeddings().weight.shape[0])
        batches = partial(self._batches_to_weigh, None, self._weigh_tokens, most=room)
        found = self._answers(
            len(asked), rows_of, {"what": "likelihood"}, what, batches, of_row=lambda row: {"after": length(row.prefix)}
        )
        ends = np.cumsum([len(of) for of in replies])[:-1]
        return np.split(np.array(found, dtype=float).reshape(len(asked), 2), ends)

    def _weigh_tokens(self, batch: list[Row], prefixes: PrefixCache | None = None) -> tuple[list[list[float]], int]:
        """The sum of the log-probabilities of each row's tokens after its prefix and one more, and their number."""
        given = self._after(batch, prefixes)
        numbers = [length(row.ids) - length(row.prefix) - 1 for row in batch]
        most = max(numbers)
        every = torch.arange(self.model.get_output_embeddings().weight.shape[0], device=self.model.device)
        with logits_of(self.model, every):
            logits = self.model(**given, logits_to_keep=most + 1).logits[:, -most - 1 : -1]
        ids = given["input_ids"][:, -most:]
        of_tokens = logits.float().log_softmax(-1).gather(2, ids[..., None])[..., 0]
        sums = [float(row[most - n :].double().sum()) for row, n in zip(of_tokens, numbers)]
        return [[one, n] for one, n in zip(sums, numbers)], given["input_ids"].numel()
