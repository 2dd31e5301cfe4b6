"""The reward filter on many targets at once: while the reward model scores some, the teacher writes for others.

Targets go through the filter in blocks. A block's prompts are scored together, round by round, so that the batches do
not depend on which reply comes first.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from reason4rec.data import schema
from reason4rec.errors import Pending
from reason4rec.run import files, records
from reason4rec.run.progress import progress
from reason4rec.systems.reason4rec.artifacts import REASON_TARGETS, TEACHER_REASONS
from reason4rec.systems.reason4rec.reward_filter import HINTED_DRAWS, Accepted, Ask, Predict, first_accepted

BLOCK = 32  # targets


def blocks_at_once(requests_at_once: int) -> int:
    """How many blocks are in work, so that one is scored while the others keep that many requests in flight."""
    return 1 + -(-requests_at_once // BLOCK)


def filter_reasons(
    ratings: np.ndarray,
    baseline: Sequence[str | None],
    tau: float,
    ask: Ask,
    predict_in: Callable[[Sequence[int]], Predict],
    draws: int = HINTED_DRAWS,
    requests_at_once: int = 1,
    give_up: Callable[[], None] = lambda: None,
) -> tuple[list[Accepted | None], Counter]:
    """The accepted reason of each target, None for a dropped one, and how often what happened.

    The rule and `baseline` are those of `first_accepted`. `ask` is called from several threads, for as many blocks as
    keep `requests_at_once` requests in flight. `predict_in(block)` gives the function that predicts for the block's
    targets, which one thread at a time calls. `give_up()` is called when a thread fails or the run is interrupted, to
    end what the others wait for. Pending, when all that can be asked was, if replies of the teacher are still to come.
    """
    accepted: list[Accepted | None] = [None] * len(ratings)
    total: Counter = Counter()
    model, stop = threading.Lock(), threading.Event()

    def ask_on(targets: Sequence[int], draw: int) -> Sequence[str | None]:
        if stop.is_set():
            raise CancelledError
        return ask(targets, draw)

    def filter_block(block: range) -> None:
        predict = predict_in(block)

        def predict_alone(targets: Sequence[int], reasons: Sequence[str | None]) -> np.ndarray:
            with model:
                return predict(targets, reasons)

        found, counts = first_accepted(block, ratings, baseline, tau, draws, ask_on, predict_alone)
        with model:
            total.update(counts)
            for target, one in found.items():
                accepted[target] = one
            bar.update(len(block))

    blocks = [range(start, min(start + BLOCK, len(ratings))) for start in range(0, len(ratings), BLOCK)]
    with progress("distilling", len(ratings), "target") as bar:
        _in_threads(filter_block, blocks, blocks_at_once(requests_at_once), stop, give_up)
    return accepted, total


def _in_threads(
    work: Callable[[range], None],
    blocks: Sequence[range],
    at_once: int,
    stop: threading.Event,
    give_up: Callable[[], None],
) -> None:
    """Does the work on all blocks; one that waits for replies does not keep the others from being asked."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(work, block) for block in blocks]
        try:
            pending = None
            for future in as_completed(futures):
                try:
                    future.result()
                except Pending as error:
                    pending = error
            if pending:
                raise pending
        except BaseException as error:
            if not isinstance(error, Pending):
                give_up()
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def counts_of(folder: Path) -> dict[str, int]:
    """The `targets` of a run, those with an `accepted` reason, and the `unhinted` of these; nothing where not known."""
    source = folder / REASON_TARGETS.path
    if not ((folder / TEACHER_REASONS.path).exists() and source.exists()):
        return {}
    reasons, targets = schema.read(folder, TEACHER_REASONS), len(schema.read(folder, REASON_TARGETS))
    if record := records.read_record(folder / TEACHER_REASONS.path):
        made_from = record["made_from"]
        if made_from["inputs"].get(source.name, "") not in ("", files.sha256(source)):
            return {}  # the targets were drawn anew since
        targets = min(targets, made_from["settings"].get("limit") or targets)
    unhinted = {"unhinted": int((reasons["accepted_draw"] == 0).sum())} if "accepted_draw" in reasons else {}
    return {"targets": targets, "accepted": len(reasons)} | unhinted
