"""Time writing and scoring in batches beside a plain loop over single prompts, and check that both find the same.

    python tests/benchmarks/inference.py --prompts 256 --targets 24

The demo's tiny model on a CPU, in 4 bits. Writing: the Summarizer's prompts. Scoring: the twelve predictor prompts that
distillation may ask about one target, one without a reason, one with the first reason and ten with hinted ones. The
loop does what the released code is said to do: one prompt at a time, the weights unpacked at every token, and the
logits of every position. Each way runs twice, in turn, and the faster run counts.
"""

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import pandas as pd
import torch
import transformers

from reason4rec.data.history import HistoryIndex
from reason4rec.demo import rules, stand_in, world
from reason4rec.llm.bases import load_base
from reason4rec.llm.local import LocalModel, load
from reason4rec.llm.prompt import Prompt
from reason4rec.llm.tokens import chat_ids, choice_ids, plain_ids
from reason4rec.run.markdown import table
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

BASE = ROOT / "reason4rec" / "demo" / "base"
CLASS = "Album"
DRAWS = 12
NEW_TOKENS = 96
ROUNDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256, help="prompts to write replies to")
    parser.add_argument("--targets", type=int, default=24, help="targets to score twelve prompts of")
    args = parser.parse_args()

    model = load(str(BASE), None, "cpu")
    plain = LocalModel(load_base(str(BASE), "cpu").eval(), model.tokenizer, "plain")
    reviews = made_up()
    asked = [prompts.summarizer(CLASS, r.title, r.ratings, r.reviews) for r in reviews.head(args.prompts).itertuples()]
    scored = twelve_each(reviews, args.targets)

    rows = []
    loop, ours = in_turn(lambda: write_one_by_one(plain, asked), lambda: model.generate(asked, NEW_TOKENS))
    same = sum(one == other for one, other in zip(loop.found, ours.found, strict=True))
    if same < len(asked):
        raise SystemExit(f"{len(asked) - same} of {len(asked)} texts differ")
    tokens = sum(len(plain_ids(model.tokenizer, text)) + 1 for text in ours.found)
    rows += lines("writing", len(asked), f"{tokens:,} written", loop, ours)

    loop, ours = in_turn(
        lambda: score_one_by_one(plain, scored),
        lambda: model.choice_probabilities(scored, RATINGS, RATING_PREFIX, what=""),
    )
    difference = float(np.abs(np.array(loop.found) - ours.found).max())
    if difference > 1e-4:
        raise SystemExit(f"the probabilities differ by {difference}")
    tokens = sum(len(chat_ids(model.tokenizer, prompt.text)) for prompt in scored)
    rows += lines("scoring 1 + 1 + 10", len(scored), f"{tokens:,} read", loop, ours)

    print(table(["what", "prompts", "tokens", "way", "seconds", "CPU seconds", "prompts/s", "ratio"], rows))
    print(
        f"\nThe same {same} texts; probabilities at most {difference:.1e} apart. {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{datetime.date.today()}."
    )


class Timed:
    """What a way found, and its seconds by the clock and by the processor."""

    def __init__(self, way: Callable[[], object]):
        clock, cpu = time.perf_counter(), time.process_time()
        self.found = way()
        self.seconds, self.cpu = time.perf_counter() - clock, time.process_time() - cpu


def in_turn(*ways: Callable[[], object]) -> list[Timed]:
    """The fastest of some runs of each way, which take turns so that a busy machine slows them alike."""
    runs = [[Timed(way) for way in ways] for _ in range(ROUNDS)]
    return [min(of_way, key=lambda timed: timed.cpu) for of_way in zip(*runs)]


def lines(what: str, n: int, tokens: str, loop: Timed, ours: Timed) -> list[list[str]]:
    return [
        [
            what,
            f"{n:,}",
            tokens,
            way,
            f"{t.seconds:.1f}",
            f"{t.cpu:.1f}",
            f"{n / t.seconds:.1f}",
            f"{loop.cpu / t.cpu:.1f}",
        ]
        for way, t in (("loop", loop), ("ours", ours))
    ]


def made_up() -> pd.DataFrame:
    """Reviews of a demo world with the summaries that its rule gives."""
    frame = world.as_frame(*world.raw_records(120, 40, seed=11))
    return frame.assign(summary=frame["reviews"].map(rules.summarize))


def twelve_each(reviews: pd.DataFrame, targets: int) -> list[Prompt]:
    """For each of the last targets: a prompt without a reason, and one with each of eleven reasons of the stand-in."""
    last = reviews.tail(targets)
    asked = []
    for target, history in zip(last.itertuples(), HistoryIndex(reviews, "summary").of_rows(last)):
        request = prompts.reasoner(CLASS, target.title, history).text
        reasons = [None, *(stand_in.answer(request, 1.0, draw) for draw in range(DRAWS - 1))]
        asked += [prompts.predictor(CLASS, target.title, history, reason) for reason in reasons]
    return asked


def write_one_by_one(model: LocalModel, asked: list[Prompt]) -> list[str]:
    texts = []
    for prompt in asked:
        ids = torch.tensor([chat_ids(model.tokenizer, prompt.text)])
        with torch.inference_mode():
            output = model.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
            )
        texts.append(model.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


def score_one_by_one(model: LocalModel, asked: list[Prompt]) -> list[list[float]]:
    columns = choice_ids(model.tokenizer, RATINGS, RATING_PREFIX)
    found = []
    for prompt in asked:
        ids = chat_ids(model.tokenizer, prompt.text) + plain_ids(model.tokenizer, RATING_PREFIX)
        with torch.inference_mode():
            logits = model.model(torch.tensor([ids])).logits
        found.append(logits[0, -1, columns].float().softmax(-1).tolist())
    return found


if __name__ == "__main__":
    main()
