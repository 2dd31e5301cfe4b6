"""Batches of training rows: without padding, and with the same rows for any number of processes.

The rows of a batch stand one after another as a single sequence, and each attends to itself alone: torch's own
attention is called row by row, so neither padding nor a mask of the whole batch is ever made. Loss and gradients are
those of the padded batch up to rounding. Our decision: the released code pads.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import Sampler, SequentialSampler
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from reason4rec.errors import InputError
from reason4rec.llm.attention import attends_to_all_before

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


def parts_of(batch: dict[str, object], tokens: int | None) -> Iterator[dict[str, object]]:
    """The rows of a batch in parts of at most so many tokens, padding included; a longer row is a part of its own.

    The batch is one of `flatten`, or has a row in each line of its tensors. None leaves it whole.
    """
    if tokens is None:
        yield batch
        return
    lengths = batch.get("row_lengths")
    rows, width = batch["input_ids"].shape
    ends, in_part = [0], 0
    for number, length in enumerate(lengths or [width] * rows):
        if in_part and in_part + length > tokens:
            ends.append(number)
            in_part = 0
        in_part += length
    for first, end in zip(ends, [*ends[1:], None]):
        if lengths is None:
            yield {name: tensor[first:end] for name, tensor in batch.items()}
        else:
            start, width = sum(lengths[:first]), sum(lengths[first:end])
            part = {name: tensor[:, start : start + width] for name, tensor in batch.items() if name != "row_lengths"}
            yield part | {"row_lengths": lengths[first:end]}


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    row_lengths: tuple[int, ...],
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of a batch of `flatten`, in the form that transformers calls.

    `query` is (1, heads, tokens, size), `key` and `value` the same with as many heads or fewer; the result is
    (1, tokens, heads, size). A batch without `row_lengths` is a TypeError; InputError where the model caps or adds to
    the scores.
    """
    if softcap is not None or s_aux is not None:
        raise InputError("the base model changes the scores of its attention: train it with --no-padding_free")
    parts = [
        scaled_dot_product_attention(*row, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
        for row in zip(*(tensor.split(row_lengths, dim=2) for tensor in (query, key, value)))
    ]
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1), None


def attend_row_by_row(model: PreTrainedModel) -> None:
    """Makes a model take batches of `flatten`, and only those; InputError if it attends otherwise than causally."""
    if not attends_to_all_before(model.config):
        raise InputError("the base model does not attend to all earlier tokens: train it with --no-padding_free")
    AttentionInterface.register(NAME, attention)
    model.set_attn_implementation(NAME)


def can_lay_end_to_end(config: PreTrainedConfig) -> bool:
    """Whether a model can be trained on batches of `flatten`: it is tried on two rows, without weights."""
    if not attends_to_all_before(config):
        return False
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
        attend_row_by_row(model)
        batch = flatten([{"input_ids": [0, 0], "labels": [0, 0]}] * 2)
        del batch["labels"]
        try:
            model(**batch, use_cache=False)
        except (InputError, TypeError, RuntimeError):  # soft-capped scores; classes that hand on no lengths of rows
            return False
    return True


class Filled(Sampler[int]):
    """The rows 0 to `n_rows` - 1 as a single process takes them, then row `n_rows`, a blank, up to `total`.

    A single process shuffles them in each epoch anew, or takes them `in_order`. Without the blanks, processes that are
    left without a row at the end of an epoch repeat the first ones.
    """

    def __init__(self, n_rows: int, total: int, in_order: bool = False):
        self.rows = SequentialSampler(range(n_rows)) if in_order else SeedableRandomSampler(range(n_rows))
        self.total = total

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        yield from self.rows
        yield from [len(self.rows)] * (self.total - len(self.rows))

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        if isinstance(self.rows, SeedableRandomSampler):
            self.rows.set_epoch(epoch)
