"""How SASRec is shaped and trained; without torch, so that options can take their defaults from here."""

from dataclasses import dataclass

from reason4rec.errors import InputError

LOSSES = ("softmax", "bce")


@dataclass(frozen=True)
class Recipe:
    """How a model is shaped and trained; the defaults were chosen on the valid targets of Grocery.

    `width` of the embeddings, split among `heads`; `longest` history, of which the last items are read; `lr` of AdamW,
    for batches of `batch` sequences; at most `epochs`, and no more after `patience` of them without a better result on
    valid. `loss` is "softmax" over all items or "bce" with one random item for each target, as in the released code.
    InputError if a value is impossible.
    """

    width: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.5
    longest: int = 20
    lr: float = 1e-3
    weight_decay: float = 0.0
    batch: int = 256
    epochs: int = 40
    patience: int = 5
    loss: str = "softmax"

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "heads", "longest", "batch", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of SASRec is {getattr(self, name)}; give 1 or more")
        if self.width % self.heads:
            raise InputError(f"SASRec's width {self.width} cannot be split among {self.heads} heads; give a multiple")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout of SASRec is {self.dropout}; give 0 or more and less than 1")
        if self.lr <= 0 or self.weight_decay < 0:
            raise InputError(
                f"lr {self.lr} and weight_decay {self.weight_decay} of SASRec: give more than 0, and 0 or more"
            )
        if self.loss not in LOSSES:
            raise InputError(f"loss of SASRec is {self.loss[:40]!r}; give {' or '.join(LOSSES)}")
