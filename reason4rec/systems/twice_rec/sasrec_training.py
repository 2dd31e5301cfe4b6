"""Training of SASRec on the training part of sequences, with the best epoch by the valid targets.

The released recipe, 60 steps of binary cross-entropy without validation, ends as a counter of popularity. This one
takes the cross-entropy over all items at every position and stops when the valid targets are ranked no better.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional

from reason4rec.errors import InputError
from reason4rec.evaluation import ranking
from reason4rec.run import files
from reason4rec.run.progress import progress
from reason4rec.systems.twice_rec.sasrec import PADDING, SasRec, check_histories, check_numbers, padded, score
from reason4rec.systems.twice_rec.sasrec_recipe import Recipe

CHOSEN_BY = "NDCG@10"  # of the valid targets among their candidates
SORTED = 10  # batches in which sequences are sorted by length, so that little is padded
ROWS = 128  # positions whose scores of all items are held at once on a CPU; so few stay in its cache
WARMUP = 50  # steps
STATE = "training.safetensors"


class Valid(NamedTuple):
    """What the best epoch is chosen by: histories, their (n,) targets, and (n, k) candidates with the targets."""

    histories: Sequence[Sequence[int]]
    targets: np.ndarray
    candidates: np.ndarray


class _Progress(NamedTuple):
    """How far a training is: the curve, the epochs since the best one, and the weights of that one."""

    curve: list[dict]
    since_best: int
    best: dict[str, torch.Tensor]


def train(
    histories: Sequence[Sequence[int]],
    valid: Valid,
    n_items: int,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
    scratch: Path | None = None,
    log: Callable[[dict], None] = lambda row: None,
) -> tuple[SasRec, list[dict]]:
    """A model of the best epoch and the curve: for each epoch its `loss` on train and the metrics on valid.

    `histories` are what comes before each user's valid target, in item numbers from 1 to `n_items`; every item but the
    first is learned from those before it. `log` is called with each row of the curve. The same seed gives the same
    model on the same kind of device. A state is kept in `scratch` after each epoch, and a training that was killed goes
    on from there and ends with the same bytes. InputError where the data do not fit.
    """
    _check(histories, valid, n_items)
    rows = padded(histories, recipe.longest + 1)
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(cuda), progress("SASRec", recipe.epochs * _batches(rows, recipe), "batch") as bar:
        torch.manual_seed(seed)
        model = SasRec(n_items, recipe).to(device)
        optimizer = _optimizer(model)
        of = _fingerprint(histories, valid, n_items, recipe, seed, device)
        done = _resumed(scratch, of, model, optimizer) or _Progress([], 0, {})
        while len(done.curve) < recipe.epochs and done.since_best < recipe.patience:
            loss = _epoch(model, optimizer, rows, len(done.curve), seed, bar.update)
            done = _judged(done, loss, model, valid)
            log(done.curve[-1])
            _keep(scratch, of, done, model, optimizer)
    model.load_state_dict(done.best)
    return model.eval(), done.curve


def _check(histories: Sequence[Sequence[int]], valid: Valid, n_items: int) -> None:
    check_histories(histories, n_items, "training histories")
    check_histories(valid.histories, n_items, "valid histories")
    check_numbers(np.asarray(valid.candidates), n_items, "valid candidates")
    if (short := min(map(len, histories))) < 2:
        raise InputError(f"training histories: one has {short} item, and 2 are needed to learn from; leave it out")
    if not len(valid.histories) == len(valid.targets) == len(valid.candidates):
        raise InputError(
            f"valid: {len(valid.histories)} histories, {len(valid.targets)} targets and {len(valid.candidates)} lists "
            f"of candidates are not of the same cases"
        )
    there = (valid.candidates == np.asarray(valid.targets)[:, None]).sum(axis=1)
    if (there != 1).any():
        raise InputError(f"valid: list {int((there != 1).argmax())} does not hold its target once; draw the lists anew")


def _optimizer(model: SasRec) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=model.recipe.lr, weight_decay=model.recipe.weight_decay)


def _epoch(
    model: SasRec,
    optimizer: torch.optim.Optimizer,
    rows: np.ndarray,
    epoch: int,
    seed: int,
    count: Callable[[], object],
) -> float:
    """One pass over (n, longest + 1) padded rows; the mean loss over all positions."""
    model.train()
    # All that is random comes from the seed and the epoch's number, so that no state of it has to be kept.
    rng = np.random.default_rng([seed, epoch])
    torch.manual_seed(int(rng.integers(2**63)))
    loss_of = _softmax if model.recipe.loss == "softmax" else _bce
    total = positions = 0
    for number, batch in enumerate(_shuffled(rows, model.recipe.batch, rng)):
        whole = torch.from_numpy(batch).to(model.catalogue.device)
        inputs, targets = whole[:, :-1], whole[:, 1:]
        there = inputs != PADDING
        loss = loss_of(model, model(inputs)[there], targets[there])
        step = epoch * _batches(rows, model.recipe) + number + 1
        for group in optimizer.param_groups:
            group["lr"] = model.recipe.lr * min(1.0, step / WARMUP)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        n = int(there.sum())
        total, positions = total + n * loss.item(), positions + n
        count()
    return total / positions


def _batches(rows: np.ndarray, recipe: Recipe) -> int:
    return -(-len(rows) // recipe.batch)


def _shuffled(rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The rows in batches of `size` in random order, each without the columns in which all of its rows are padded."""
    order, lengths = rng.permutation(len(rows)), (rows != PADDING).sum(axis=1)
    alike = [
        part[np.argsort(lengths[part], kind="stable")]
        for part in np.split(order, range(SORTED * size, len(order), SORTED * size))
    ]
    parts = np.split(np.concatenate(alike), range(size, len(order), size))
    for number in rng.permutation(len(parts)):
        yield rows[parts[number], -lengths[parts[number]].max() :]


def _softmax(model: SasRec, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of (n,) targets, in item numbers, among all items."""
    at_once = ROWS if states.device.type == "cpu" else len(states)
    return _CrossEntropy.apply(states, model.catalogue, targets - 1, at_once)


def _bce(model: SasRec, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean binary cross-entropy of (n,) targets and of as many random items that are not the targets (SASRec)."""
    negatives = torch.randint(1, model.n_items, targets.shape, device=targets.device)
    negatives += negatives >= targets
    scores, others = ((model.items(items) * states).sum(dim=-1) for items in (targets, negatives))
    return -(functional.logsigmoid(scores) + functional.logsigmoid(-others)).mean()


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of states times vectors, with its gradients made on the way.

    torch's own holds the scores of all positions and items several times over, and on a CPU spends more time on moving
    them than on the products: a step took 1.6 times as long (measured with 6,149 items and a width of 64).
    """

    @staticmethod
    def forward(
        context: torch.autograd.function.FunctionCtx,
        states: torch.Tensor,
        vectors: torch.Tensor,
        targets: torch.Tensor,
        at_once: int,
    ) -> torch.Tensor:
        """The loss of (n,) places of targets in (items, width) vectors, for (n, width) states."""
        to_states, to_vectors, total = torch.empty_like(states), torch.zeros_like(vectors), states.new_zeros(())
        for start in range(0, len(targets), at_once):
            part, answers = states[start : start + at_once], targets[start : start + at_once]
            rows = torch.arange(len(answers), device=answers.device)
            scores = part @ vectors.T
            scores -= scores.amax(dim=1, keepdim=True)
            of_answers = scores[rows, answers]
            sums = scores.exp_().sum(dim=1, keepdim=True)
            total += (sums.log()[:, 0] - of_answers).sum()
            scores /= sums
            scores[rows, answers] -= 1
            torch.mm(scores, vectors, out=to_states[start : start + at_once])
            to_vectors.addmm_(scores.T, part)
        context.save_for_backward(to_states / len(targets), to_vectors / len(targets))
        return total / len(targets)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, of_loss: torch.Tensor) -> tuple:
        """The gradients of states and vectors."""
        to_states, to_vectors = context.saved_tensors
        return of_loss * to_states, of_loss * to_vectors, None, None


def _judged(done: _Progress, loss: float, model: SasRec, valid: Valid) -> _Progress:
    """The progress after one more epoch."""
    columns = (valid.candidates == np.asarray(valid.targets)[:, None]).argmax(axis=1)
    found = ranking.metrics(ranking.ranks(score(model, valid.histories, valid.candidates), columns))
    row = {"epoch": len(done.curve) + 1, "loss": loss} | {name: float(of.mean()) for name, of in found.items()}
    if all(row[CHOSEN_BY] > earlier[CHOSEN_BY] for earlier in done.curve):
        best = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
        return _Progress([*done.curve, row], 0, best)
    return _Progress([*done.curve, row], done.since_best + 1, done.best)


def _fingerprint(
    histories: Sequence[Sequence[int]], valid: Valid, n_items: int, recipe: Recipe, seed: int, device: str
) -> str:
    """What tells one training from another."""
    numbers = [[list(map(int, one)) for one in part] for part in (histories, valid.histories, valid.candidates)]
    targets = list(map(int, valid.targets))
    whole = [numbers, targets, n_items, asdict(recipe), seed, torch.device(device).type, torch.__version__]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _keep(scratch: Path | None, of: str, done: _Progress, model: SasRec, optimizer: torch.optim.Optimizer) -> None:
    if scratch is None:
        return
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    tensors |= {f"best.{name}": weight for name, weight in done.best.items()}
    tensors |= {
        f"optimizer.{number}.{name}": value
        for number, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }
    said = {"of": of, "curve": json.dumps(done.curve), "since_best": str(done.since_best)}
    files.write_bytes(scratch / STATE, save({name: one.contiguous() for name, one in tensors.items()}, said))


def _resumed(scratch: Path | None, of: str, model: SasRec, optimizer: torch.optim.Optimizer) -> _Progress | None:
    """The progress of the same training that was killed, if there is one; its model and optimizer are as they were."""
    if scratch is None or not (scratch / STATE).exists():
        return None
    path = scratch / STATE
    try:
        with safe_open(path, "pt") as opened:
            said, names = opened.metadata(), opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole state of a training ({error}); remove it") from error
    if said["of"] != of:
        return None
    model.load_state_dict(_part(tensors, "model"))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _part(tensors, "optimizer").items():
        number, moment = name.split(".", 1)
        moments.setdefault(int(number), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return _Progress(json.loads(said["curve"]), int(said["since_best"]), _part(tensors, "best"))


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
