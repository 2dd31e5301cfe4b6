"""Batches of training rows: without padding, and with the same rows for any number of processes.

The rows of a batch stand one after another as a single sequence, and each attends to itself alone: torch's own
attention is called row by row, so neither padding nor a mask of the whole batch is ever made. Loss and gradients are
those of the padded batch up to rounding. Our decision: the released code pads.
"""

from collections.abc import Iterator, Sequence

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import Sampler
from transformers import AttentionInterface, PreTrainedModel

from reason4rec.errors import InputError

NAME = "row_by_row"  # no name that transformers makes masks for


def flatten(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor | tuple[int, ...]]:
    """A batch of one sequence, (1, tokens of all rows), from rows of `input_ids` and `labels` (-100: no loss).

    `row_lengths` says where the rows end; it is no tensor, so that no layer waits for the device to read it.
    """
    lengths = tuple(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
        # The first token of a row must not be predicted from the row before.
        "labels": torch.tensor([[label for row in rows for label in (-100, *row["labels"][1:])]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "row_lengths": lengths,
    }


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    row_lengths: tuple[int, ...],
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of a batch of `flatten`, in the form that transformers calls.

    `query` is (1, heads, tokens, size), `key` and `value` the same with as many heads or fewer; the result is
    (1, tokens, heads, size). A batch without `row_lengths` is a TypeError.
    """
    parts = [
        scaled_dot_product_attention(*row, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
        for row in zip(*(tensor.split(row_lengths, dim=2) for tensor in (query, key, value)))
    ]
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1), None


def attend_row_by_row(model: PreTrainedModel) -> None:
    """Makes a model take batches of `flatten`, and only those; InputError if it attends otherwise than causally."""
    config = model.config.get_text_config()
    kinds = {*(getattr(config, "layer_types", None) or ())} - {"full_attention"}
    if kinds or getattr(config, "sliding_window", None) or not getattr(config, "is_causal", True):
        raise InputError("the base model does not attend to all earlier tokens: train it with --no-padding_free")
    AttentionInterface.register(NAME, attention)
    model.set_attn_implementation(NAME)


class Filled(Sampler[int]):
    """The rows 0 to `n_rows` - 1 in the order of a single process, then row `n_rows`, a blank, up to `total`.

    Without it, processes that are left without a row at the end of an epoch repeat the first ones.
    """

    def __init__(self, n_rows: int, total: int):
        self.rows = SeedableRandomSampler(range(n_rows))
        self.total = total

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        yield from self.rows
        yield from [len(self.rows)] * (self.total - len(self.rows))

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.rows.set_epoch(epoch)
