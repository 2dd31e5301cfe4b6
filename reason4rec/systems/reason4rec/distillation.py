"""Reward-filtered reasons: keep those of the teacher's reasons that bring the reward model nearer to the rating.

    score = |rating - prediction with the reason| - |rating - prediction of the baseline|, accepted below tau

First one unhinted reason for every target, then, for those still without one, up to ten reasons hinted with the true
rating, one round at a time. A hinted reason that gives the rating away is skipped. A target without an accepted
reason is dropped. Source: paper, preference matching; released code.

Targets go through this in blocks: while the reward model scores one block, the teacher writes for others. A block's
prompts are scored together, round by round, so that the batches do not depend on which reply comes first.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
from tqdm import tqdm

from reason4rec.llm.teacher import BatchPending
from reason4rec.systems.reason4rec.reward_filter import HINTED_DRAWS, Accepted, gives_away, score

BLOCK = 32  # targets

Ask = Callable[[Sequence[int], int], Sequence[str | None]]
Predict = Callable[[Sequence[int], Sequence[str | None]], np.ndarray]


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
    """The accepted reason of each target, None for a dropped one, and what happened.

    `ask(targets, draw)` gives the teacher's reason for each of the targets (positions), unhinted for draw 0 and
    hinted from 1 to `draws`, None where it gives none; it is called from several threads, for as many blocks as keep
    `requests_at_once` requests in flight. `predict_in(block)` gives the function that predicts ratings of the block's
    targets with reasons (None: the direct form), which is called by one thread at a time. `baseline` is what stands in
    the place of a reason in the prediction that reasons must nearly reach. The counter holds `accepted on draw K`,
    `gave the rating away` and `dropped`. `give_up()` is called when a thread fails or the run is interrupted, to end
    what the others wait for. NotYet, when all that can be asked was, if the teacher's replies are still to come.
    """
    accepted: list[Accepted | None] = [None] * len(ratings)
    counts: Counter = Counter()
    model, stop = threading.Lock(), threading.Event()

    def filter_block(block: range) -> None:
        predict = predict_in(block)
        pending, reached = list(block), None
        for draw in range(1 + draws):
            if not pending or stop.is_set():
                break
            asked = list(zip(pending, ask(pending, draw), strict=True))
            given = [(target, reason) for target, reason in asked if reason is not None]
            usable = [(target, reason) for target, reason in given if draw == 0 or not gives_away(reason)]
            targets, reasons = [target for target, _ in usable], [reason for _, reason in usable]
            with model:
                counts["gave the rating away"] += len(given) - len(usable)
                if reached is None:
                    both = predict([*block, *targets], [*(baseline[k] for k in block), *reasons])
                    reached, predictions = dict(zip(block, both)), both[len(block) :]
                else:
                    predictions = predict(targets, reasons) if targets else np.empty(0)
                scores = score(ratings[targets], predictions, np.array([reached[k] for k in targets]))
                for (target, reason), value in zip(usable, scores, strict=True):
                    if value < tau:
                        accepted[target] = Accepted(reason, float(value), draw)
                        counts[f"accepted on draw {draw}"] += 1
            pending = [target for target in pending if accepted[target] is None]
        with model:
            counts["dropped"] += len(pending)
            bar.update(len(block))

    at_once = blocks_at_once(requests_at_once)
    blocks = [range(start, min(start + BLOCK, len(ratings))) for start in range(0, len(ratings), BLOCK)]
    with tqdm(total=len(ratings), desc="distilling", unit="target") as bar, ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(filter_block, block) for block in blocks]
        try:
            not_yet = None
            for future in as_completed(futures):
                try:
                    future.result()
                except BatchPending as error:
                    not_yet = error
            if not_yet:
                raise not_yet
        except BaseException as error:
            if not isinstance(error, BatchPending):
                give_up()
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return accepted, counts
