"""Measure the memory of each step over more and more rows, with models that answer at once.

    python tests/benchmarks/memory.py --rows 10000 30000 100000

Everything but the computing of replies is the steps' own: reading, histories, prompts, token ids, batches, the store of
replies, writing. The teacher and the model give one text, or five equal probabilities. Each line is one process; what
grows is its peak beyond its libraries and its model, and `a row` is the slope between the fewest and the most rows.
`input` and `output` are the sizes of the tables in memory.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import re
import runpy
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {"OPENAI_API_KEY": "none-needed", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import pandas as pd

from reason4rec.data.schema import TEST, TRAIN
from reason4rec.run import files
from reason4rec.systems.reason4rec import facts
from reason4rec.systems.reason4rec.artifacts import (
    PREDICTOR_ROWS,
    REASON,
    REASON_TARGETS,
    REWARD_ROWS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARIZER_ROWS,
    SUMMARY,
    TEACHER_REASON,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
    TEACHER_SUMMARY,
    TEST_RATINGS,
    TEST_REASONS,
)

DATASET = "Benchmark"
BASE = ROOT / "reason4rec" / "demo" / "base"
WORDS = "warm guitar sound on a long record that I play at night with the band and the old songs again".split()
SUMMARY_TEXT = (
    "Positive Aspects: sound, songs, band\nNegative Aspects: length\nUser Preference Elements: guitar, long records"
)
REVIEW_WORDS, REASON_WORDS = 100, 60
STEPS = {  # script, what it writes, its model's adapter
    "1/1": ("1_Summarizer/1_distilling_aspect_preference_summary.py", TEACHER_SUMMARIES, None),
    "1/2": ("1_Summarizer/2_construct_summarizer_train_data.py", SUMMARIZER_ROWS, None),
    "1/4": ("1_Summarizer/4_summarizer_generation.py", SUMMARIES, "Summarizer"),
    "2/1": ("2_Reasoner/1_sample_train_data.py", (REWARD_TARGETS, REASON_TARGETS), None),
    "2/2": ("2_Reasoner/2_construct_reward_train_data.py", REWARD_ROWS, None),
    "2/4": ("2_Reasoner/4_distilling_possible_reason.py", TEACHER_REASONS, "reason_reward_model"),
    "2/7": ("2_Reasoner/7_generate_reason_for_test.py", TEST_REASONS, "Reasoner"),
    "3/1": ("3_Predictor/1_construct_predictor_train_data.py", PREDICTOR_ROWS, "Reasoner"),
    "3/3": ("3_Predictor/3_generate_predict_for_test.py", TEST_RATINGS, "Predictor"),
}
COLUMNS = ("step", "rows", "input MB", "output MB", "peak grew MB", "bytes a row", "seconds", "CPU seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for step in args.steps:
        first = None
        for rows in args.rows:
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=measure, args=(sender, step, rows))
            child.start()
            sender.close()
            before, after, *sizes = receiver.recv()
            child.join()
            grown = after - before
            first = first or (rows, grown)
            slope = f"{(grown - first[1]) * 2**20 / (rows - first[0]):,.0f}" if rows > first[0] else ""
            in_mb, out_mb, seconds, cpu = sizes
            cells = (step, f"{rows:,}", f"{in_mb:.0f}", f"{out_mb:.0f}", f"{grown:.0f}", slope)
            print(f"| {' | '.join((*cells, f'{seconds:.0f}', f'{cpu:.0f}'))} |", flush=True)


def measure(sender: "multiprocessing.connection.Connection", step: str, rows: int) -> None:
    """Sends the peaks before and after a step in MB, the sizes of its tables in MB, its seconds and CPU seconds."""
    script, outputs, adapter = STEPS[step]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    answer_at_once(adapter is not None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        facts.write(facts.Dataset(DATASET, "Album", tau=0.1), root / "data")
        # In a process of their own: what they leave in this one's heap would be used again and not count.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            size = pool.submit(put_tables, root / "data" / DATASET, rows, outputs).result()
        put_adapter(root / "checkpoints" / DATASET, adapter)
        flags = ["--dataset", DATASET, "--data_root", str(root / "data")]
        flags += ["--checkpoint_root", str(root / "checkpoints"), "--device", "cpu"][: 4 if adapter else 2]
        sys.argv = [script, *flags, *(["--teacher_model", "stand-in"] if step in ("1/1", "2/4") else [])]
        os.chdir(ROOT)
        # Libraries and model were loaded: forget that peak.
        Path("/proc/self/clear_refs").write_text("5")
        before, started, cpu = peak(), time.perf_counter(), time.process_time()
        words = io.StringIO()
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit:
                sys.exit(words.getvalue())
        measured = time.perf_counter() - started, time.process_time() - cpu
        most = peak()
        written = sum(size_of(files.read_pickle(root / "data" / DATASET / output.path)) for output in outputs)
        sender.send((before, most, size, written, *measured))


def answer_at_once(model: bool) -> None:
    """Puts fixed answers in the place of the teacher's and, where there is one, of the model's."""
    from reason4rec.llm.answers import Reply
    from reason4rec.llm.teacher import Teacher

    reason = " ".join(WORDS * 3)
    answers = iter(range(10**9))

    def reply(_teacher, content):
        text = SUMMARY_TEXT if b"Read one review" in content else f"{next(answers)} {reason}"
        return Reply(text, "", 100, 50, "stand-in")

    Teacher._request = reply
    if not model:
        return
    from reason4rec.llm.local import LocalModel, load

    through = LocalModel._answers

    def answers_of(self, total, rows_of, settings, what, batches):
        self.__dict__["stub"] = None if "choices" in settings else reason
        return through(self, total, rows_of, settings, what, batches)

    def at_once(self, _answer, batch):
        if self.__dict__["stub"] is None:
            return [np.random.default_rng(len(row.ids)).dirichlet(np.ones(5)).tolist() for row in batch], 0
        return [f"{next(answers)} {reason}" for _ in batch], 0

    LocalModel._answers, LocalModel._halving = answers_of, at_once
    load(str(BASE), None, "cpu")


def put_tables(folder: Path, rows: int, outputs: tuple[files.Artifact, ...]) -> float:
    """Writes all tables but the outputs with so many rows; MB of the input."""
    train = reviews(rows, 0)
    train[SUMMARY] = train[TEACHER_SUMMARY] = [f"{SUMMARY_TEXT} {k}" for k in range(rows)]
    targets = train.drop(columns=[SUMMARY, TEACHER_SUMMARY])
    test = reviews(rows, 10**6)
    text = " ".join(WORDS * 3)[: REASON_WORDS * 5]
    reasons = [f"{text} {k}" for k in range(rows)]
    tables = {
        TRAIN: targets,
        TEST: test,
        TEACHER_SUMMARIES: train,
        SUMMARIES: train,
        REWARD_TARGETS: targets,
        REASON_TARGETS: targets,
        TEACHER_REASONS: targets.assign(**{TEACHER_REASON: reasons}),
        TEST_REASONS: test.assign(**{REASON: reasons}),
    }
    for artifact, table in tables.items():
        if artifact not in outputs:
            files.write_pickle(folder / artifact.path, table)
    return size_of(train)


def reviews(rows: int, start: int) -> pd.DataFrame:
    """Made-up reviews, twelve a user and eighteen an item."""
    draw = np.random.default_rng(rows + start)
    words = np.array(WORDS)
    return pd.DataFrame(
        {
            "user_id": [f"user{k}" for k in draw.integers(rows // 12, size=rows)],
            "item_id": [f"item{k}" for k in draw.integers(rows // 18, size=rows)],
            "title": [f"Record {k}" for k in range(rows)],
            "ratings": draw.integers(1, 6, size=rows).astype(float),
            "reviews": [" ".join(words[draw.integers(len(words), size=REVIEW_WORDS)]) for _ in range(rows)],
            "unixReviewTime": start + np.arange(rows),
        }
    )


def put_adapter(folder: Path, name: str | None) -> None:
    """An untrained adapter, whose answers nobody reads."""
    if name is None:
        return
    from peft import LoraConfig, get_peft_model

    from reason4rec.llm.bases import load_base

    model = get_peft_model(load_base(str(BASE), "cpu"), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(folder / name)
    settings = {"base_model": str(BASE), "max_length": 4096}
    files.write_text(folder / name / "settings.json", json.dumps(settings))


def size_of(content: pd.DataFrame | list[dict]) -> float:
    """MB of a table, or of the texts of training rows, in memory."""
    if isinstance(content, pd.DataFrame):
        return content.memory_usage(deep=True).sum() / 2**20
    return sum(sys.getsizeof(message["content"]) for row in content for message in row["messages"]) / 2**20


def peak() -> float:
    """MB of memory that this process took at most."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


if __name__ == "__main__":
    main()
