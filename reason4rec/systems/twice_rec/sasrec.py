"""SASRec (Kang and McAuley 2018): a causal transformer over a user's items that scores every item as the next one.

It is written here because RecBole 1.2.1 pins ray 2.6, lenskit 2025.8 wants pandas 2 and RecTools 0.19 numpy 1, none of
which goes with torch 2.11 and later, pandas 3 and numpy 2. They also count positions from the left of a padded batch or
leave a history's score to the batch it stands in, and what is needed takes two hundred lines of plain torch.

Items are numbers from 1, and 0 pads. Histories are padded on the left and positions count back from the last item, so
that a history scores the same alone and in any batch. The released code pads with a real item and counts from the left.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import nn
from torch.nn import functional

from reason4rec.errors import InputError
from reason4rec.run import files
from reason4rec.systems.twice_rec.sasrec_recipe import Recipe

WEIGHTS = "model.safetensors"
SETTINGS = "settings.json"
PADDING = 0
AT_ONCE = 512  # histories that are scored at once


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and added to what comes in."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) states; `seen` (batch, 1, length, length) says which positions each looks at."""
        states = states + self.dropout(self._attended(self.attention_norm(states), seen))
        inner = self.dropout(functional.gelu(self.up(self.forward_norm(states))))
        return states + self.dropout(self.down(inner))

    def _attended(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        batch, length, width = states.shape
        parts = self.projections(states).view(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        # By hand: the fused kernels of a GPU do not give the same gradients every time.
        weights = queries @ keys.transpose(-1, -2) / (width // self.heads) ** 0.5
        weights = weights.masked_fill(~seen, float("-inf")).softmax(dim=-1)
        attended = self.dropout(weights) @ values
        return self.output(attended.transpose(1, 2).reshape(batch, length, width))


class SasRec(nn.Module):
    """The network of `recipe` over items 1 to `n_items`, with random weights; 0 pads on the left."""

    def __init__(self, n_items: int, recipe: Recipe):
        super().__init__()
        self.n_items, self.recipe = n_items, recipe
        self.items = nn.Embedding(n_items + 1, recipe.width, padding_idx=PADDING)
        self.positions = nn.Embedding(recipe.longest, recipe.width)
        self.blocks = nn.ModuleList(Block(recipe.width, recipe.heads, recipe.dropout) for _ in range(recipe.blocks))
        self.norm, self.dropout = nn.LayerNorm(recipe.width), nn.Dropout(recipe.dropout)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.items.weight[PADDING] = 0

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) states after each item of (batch, length) histories, each blind to later items."""
        length = histories.shape[1]
        places = torch.arange(length, device=histories.device)
        states = self.dropout(self.items(histories) + self.positions(length - 1 - places))
        # A padded position looks at itself alone, because a softmax over nothing is not a number.
        earlier, itself = places[:, None] >= places, places[:, None] == places
        seen = (earlier & (histories != PADDING)[:, None] | itself)[:, None]
        for block in self.blocks:
            states = block(states, seen)
        return self.norm(states)

    @property
    def catalogue(self) -> torch.Tensor:
        """(n_items, width) the vectors of the items, with which states are multiplied to scores."""
        return self.items.weight[1:]


def padded(histories: Sequence[Sequence[int]], longest: int) -> np.ndarray:
    """(n, length) the last items of histories of item numbers, filled with 0 on the left; `longest` at most."""
    length = min(longest, max(map(len, histories)))
    rows = np.full((len(histories), length), PADDING, dtype=np.int64)
    for row, history in zip(rows, histories):
        last = history[-length:]
        row[length - len(last) :] = last
    return rows


def score(model: SasRec, histories: Sequence[Sequence[int]], candidates: np.ndarray) -> np.ndarray:
    """(n, k) scores of (n, k) candidates as the next items of n histories, all in numbers from 1; higher is better.

    Dropout is off, and a history's scores do not depend on the others. InputError for a history without an item and
    for a number that is no item.
    """
    candidates = np.asarray(candidates, dtype=np.int64)
    check_numbers(candidates, model.n_items, "candidates")
    parts = []
    with torch.no_grad():
        for start, states in _last_states(model, histories):
            rows = torch.from_numpy(candidates[start : start + len(states)]).to(states.device)
            parts.append((model.items(rows) @ states[:, :, None])[:, :, 0].cpu().numpy())
    return np.concatenate(parts)


def catalogue_scores(model: SasRec, histories: Sequence[Sequence[int]]) -> np.ndarray:
    """(n, n_items) scores of all items, as `score` gives them; item k is in column k - 1."""
    return np.concatenate(list(_parts(model, histories)))


def means_and_share(model: SasRec, histories: Sequence[Sequence[int]]) -> tuple[np.ndarray, float]:
    """The (n_items,) mean scores over histories, and the share of the scores' variance that they explain.

    Held at once are the scores of some histories, so that memory does not grow with their number.
    """
    return spread(_parts(model, histories))


@torch.no_grad()
def _parts(model: SasRec, histories: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """The scores of all items after a part of the histories, one part after the other."""
    for _, states in _last_states(model, histories):
        yield (states @ model.catalogue.T).cpu().numpy()


def _last_states(model: SasRec, histories: Sequence[Sequence[int]]) -> Iterator[tuple[int, torch.Tensor]]:
    """The states after the last items of a part of the histories, with the place of its first."""
    check_histories(histories, model.n_items)
    model.eval()
    for start in range(0, len(histories), AT_ONCE):
        rows = torch.from_numpy(padded(histories[start : start + AT_ONCE], model.recipe.longest))
        yield start, model(rows.to(model.catalogue.device))[:, -1]


def check_histories(histories: Sequence[Sequence[int]], n_items: int, what: str = "histories") -> None:
    """InputError unless there are histories, each with an item, and all in numbers from 1 to `n_items`."""
    if not len(histories):
        raise InputError(f"{what}: there are none")
    empty = next((number for number, history in enumerate(histories) if not len(history)), None)
    if empty is not None:
        raise InputError(f"{what}: number {empty} has no item, so that nothing is known of its user; leave it out")
    check_numbers(np.fromiter(chain.from_iterable(histories), dtype=np.int64), n_items, what)


def check_numbers(numbers: np.ndarray, n_items: int, what: str) -> None:
    """InputError unless all are item numbers, from 1 to `n_items`."""
    if (wrong := (numbers < 1) | (numbers > n_items)).any():
        raise InputError(f"{what}: {numbers[wrong].flat[0]} is no item; items are numbered from 1 to {n_items}")


def spread(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """The (items,) means of (users, items) scores over users, and the share of the variance, 0 to 1, that they explain.

    At 1 every user gets the same list, as from a count of popularity; the released recipe was measured at 0.95. The
    scores come in parts of some users each.
    """
    n, base, of_items, squares = 0, None, 0.0, 0.0
    for part in parts:
        base = float(part.mean(dtype=float)) if base is None else base
        deviation = part.astype(float) - base  # so that little is lost to rounding where scores lie far from 0
        n, of_items, squares = n + len(part), of_items + deviation.sum(axis=0), squares + np.square(deviation).sum()
    means = of_items / n
    whole = squares / (n * len(means)) - means.mean() ** 2
    return means + base, float(means.var() / whole)


def save(model: SasRec, folder: Path) -> None:
    """Writes the weights and, after them, the settings into a folder; the same model gives the same bytes."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    files.write_bytes(folder / WEIGHTS, safetensors.save(weights))
    settings = {"n_items": model.n_items, "recipe": asdict(model.recipe)}
    files.write_text(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")


def load(folder: Path, device: str = "cpu") -> SasRec:
    """A saved model, ready to score; InputError where its files are missing, damaged or not of each other."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        model = SasRec(settings["n_items"], Recipe(**settings["recipe"]))
        model.load_state_dict(safetensors.load_file(folder / WEIGHTS))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename or folder / WEIGHTS}: no such file; train the model first") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # torch names each weight that does not fit on a line of its own.
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{folder}: no saved SASRec ({reason}); train the model again") from error
    return model.to(device).eval()
