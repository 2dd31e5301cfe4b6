"""Every long step killed with SIGKILL again and again: it goes on, pays for nothing twice and ends as if unbroken.

A killed run is a fork of a process that has imported all libraries, so that a kill costs a second and not ten. A third
of the kills are at a moment drawn over the time of an unbroken run, the others where they hurt: before the k-th file
is opened for writing, moved or removed, or as the k-th request reaches the teacher or its reply has left. Half of the
runs start beside the complete output of other settings. REASON4REC_KILLS sets how many kills a step must survive.
"""

import functools
import io
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import ROOT, files_in, serving, toy_step
from test_sft import rows_for
from tqdm import tqdm

from reason4rec.data import preprocess, schema
from reason4rec.demo import rules, stand_in, world
from reason4rec.llm import base as base_module
from reason4rec.run import files, locks
from reason4rec.run import records as records_module
from reason4rec.systems.reason4rec import artifacts, distillation
from reason4rec.systems.reason4rec.experts import EXPERTS

KILLS = int(os.environ.get("REASON4REC_KILLS", "20"))
AT_ONCE = 2
PRELOADED = (
    "test_kill",
    "trl.trainer.sft_trainer",
    "transformers.models.llama.modeling_llama",
    "bitsandbytes",
    "reason4rec.systems.reason4rec.train",
    "reason4rec.llm.local",
    "openai.resources.chat.completions",
    "duckdb",
)
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
LEFT = ("*.part", "*.lock", "*.training", "*.preprocess", "*-journal", "*-wal", "*-shm", "*.tmp")


@dataclass(frozen=True)
class Fuse:
    """Where a run is to be killed: before the `event`-th change of a file, or after some `seconds`, or not at all."""

    event: int = 0
    seconds: float = 0.0


class CountingServer(stand_in.Server):
    """A stand-in that notes each request, takes its time, and may kill who asks, before or after it answers."""

    def __init__(self):
        super().__init__(0)
        self.asked, self.fatal, self.answers_first, self.victim = [], 0, False, None
        self.noting = threading.Lock()
        server = self

        class Handler(stand_in._Handler):
            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                with server.noting:
                    server.asked.append((request["messages"][-1]["content"], request["temperature"], request["seed"]))
                    fatal, victim = len(server.asked) == server.fatal, server.victim
                time.sleep(0.003)
                self.rfile, connection = io.BytesIO(body), self.rfile
                if fatal and not server.answers_first:
                    victim()
                super().do_POST()
                self.rfile = connection
                if fatal and server.answers_first:
                    victim()

        self.RequestHandlerClass = Handler

    def handle_error(self, request, client_address):
        """Says nothing: who asked was killed."""


def _child(call, args, environment, log, fuse, changes, watched):
    """What a fork does: its output goes to a file; it counts its changes of files and dies before the fatal one."""
    with Path(log).open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    # So that a few targets are several blocks, and several windows of whole batches.
    distillation.BLOCK, base_module.WINDOW = 4, 8
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "REASON4REC_")) or "PROXY" in name.upper()]:
        del os.environ[name]
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", **environment}
    tqdm.set_lock(threading.RLock())  # its own lock between processes would outlive a kill
    writing = os.O_WRONLY | os.O_RDWR

    def count(event, given):
        if event in CHANGES or (event == "open" and given[2] & writing and str(given[0]).startswith(watched)):
            changes.value += 1
            if changes.value == fuse.event:
                os.write(1, f"\nkilled before {event} {given[0]}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    if callable(call):
        call(*args)
    else:
        sys.argv = [call, *args]
        runpy.run_path(call, run_name="__main__")


class Forks:
    """Runs scripts, or functions of this module, in forks of a process that has imported everything."""

    def __init__(self):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))

    def start(self, call, *args, log, env=None, fuse=None, watched=""):
        changes = self.context.Value("i", 0, lock=False)
        arguments = [arg if callable(call) else str(arg) for arg in args]
        given = (call, arguments, env or {}, str(log), fuse or Fuse(), changes, str(watched))
        process = self.context.Process(target=_child, args=given, daemon=True)
        process.changes = changes
        process.start()
        return process

    def wait(self, process, fuse):
        """The exit code of a run, below 0 for a signal, and its changes of files."""
        process.join(fuse.seconds or 120)
        process.kill()
        process.join()
        code, changes = process.exitcode, process.changes.value
        process.close()
        return code, changes

    def run(self, call, *args, **options):
        """Runs to the end or to the fuse; what `wait` returns."""
        return self.wait(self.start(call, *args, **options), options.get("fuse") or Fuse())


@functools.cache
def the_forks():
    """The process that forks, one for all tests; it and this one must find the modules of the tests."""
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    forks = Forks()
    forks.run(print, log=os.devnull)
    if kept is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = kept
    return forks


@pytest.fixture(scope="session")
def forks():
    return the_forks()


@pytest.fixture
def server():
    with serving(CountingServer()) as server:
        yield server


def train_all(base, root):
    """One short training, whose adapter stands for those of all experts."""
    sys.argv = ["finetune", "--adapter", "reason_reward_model", *roots(root), "--base_model", base, "--epochs", "1"]
    runpy.run_path("reason4rec/systems/reason4rec/train.py", run_name="__main__")


def roots(root):
    return ["--dataset", "Demo_data", "--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]


@pytest.fixture(scope="session")
def prepared(base, forks, tmp_path_factory):
    """A toy dataset with everything that any step reads."""
    root = tmp_path_factory.mktemp("kill") / "root"
    folder = root / "data" / "Demo_data"
    reviews, metadata = world.raw_records(24, 12, seed=3)
    dumps = root / "reviews.json.gz", root / "meta.json.gz"
    for path, records in zip(dumps, (reviews, metadata)):
        files.write_json_lines(path, records)
    splits = preprocess.preprocess(*dumps, root / "scratch", core=1)
    train, test = splits.train.head(36), splits.test.head(12).reset_index(drop=True)
    files.write_pickle(folder / schema.TRAIN.path, train)
    files.write_pickle(folder / schema.TEST.path, test)
    train = train.assign(**{artifacts.SUMMARY: [rules.summarize(text) for text in train["reviews"]]})
    files.write_pickle(folder / artifacts.SUMMARIES.path, train)
    files.write_pickle(folder / artifacts.REASON_TARGETS.path, train.tail(10).reset_index(drop=True))
    test[artifacts.REASON] = [f"Item {title} will do." for title in test["title"]]
    files.write_pickle(folder / artifacts.TEST_REASONS.path, test)
    files.write_pickle(folder / artifacts.REWARD_ROWS.path, rows_for("reason_reward_model"))
    files.write_pickle(folder / artifacts.PREDICTOR_ROWS.path, rows_for("Predictor"))
    log = root.with_name("log")
    code, _ = forks.run(train_all, base, root, log=log)
    assert code == 0, log.read_text()
    for name in EXPERTS.keys() - {"reason_reward_model"}:
        shutil.copytree(root / "checkpoints/Demo_data/reason_reward_model", root / "checkpoints/Demo_data" / name)
    return root


@dataclass(frozen=True)
class Case:
    """A step to be killed: its script, its flags, those that give another output, what it writes, if it asks."""

    script: str
    flags: tuple[str, ...]
    other: tuple[str, ...]
    writes: tuple[str, ...]
    asks: bool = False


DATA, ADAPTERS = "data/Demo_data/", "checkpoints/Demo_data/"
TEACHER = ("--teacher_model", "stand-in", "--requests_at_once", str(AT_ONCE))
MODEL = ("--device", "cpu", "--batch_size", "4")
CASES = {
    "preprocessing": Case(
        "0_Data/2_preprocess.py",
        ("--core", "1", "--reviews", "ROOT/reviews.json.gz", "--metadata", "ROOT/meta.json.gz"),
        ("--limit", "90"),
        tuple(DATA + a.path for a in (schema.TRAIN, schema.VALID, schema.TEST, schema.DATA_CARD)),
    ),
    "teacher summaries": Case(
        "1_Summarizer/1_distilling_aspect_preference_summary.py",
        TEACHER,
        ("--limit", "6"),
        (DATA + artifacts.TEACHER_SUMMARIES.path,),
        asks=True,
    ),
    "training": Case(
        "reason4rec/systems/reason4rec/train.py",
        ("--adapter", "Predictor", "--base_model", "BASE", "--epochs", "2", "--batch_size", "4", "--device", "cpu"),
        ("--limit", "4"),
        (ADAPTERS + "Predictor",),
    ),
    "summaries": Case(
        "1_Summarizer/4_summarizer_generation.py",
        (*MODEL, "--max_new_tokens", "8"),
        ("--limit", "2"),
        (DATA + artifacts.SUMMARIES.path,),
    ),
    "distillation": Case(
        "2_Reasoner/4_distilling_possible_reason.py",
        (*TEACHER, *MODEL, "--tau", "-0.02"),
        ("--limit", "5"),
        (DATA + artifacts.TEACHER_REASONS.path,),
        asks=True,
    ),
    "reasons": Case(
        "2_Reasoner/7_generate_reason_for_test.py",
        (*MODEL, "--max_new_tokens", "8"),
        ("--limit", "3"),
        (DATA + artifacts.TEST_REASONS.path,),
    ),
    "predictions": Case(
        "3_Predictor/3_generate_predict_for_test.py",
        MODEL,
        ("--limit", "3"),
        (DATA + artifacts.TEST_RATINGS.path,),
    ),
}


class Bench:
    """Roots on which one step is run, whole or killed, and what it is measured against."""

    def __init__(self, case, prepared, base, forks, server, folder):
        self.case, self.base, self.forks, self.server, self.folder = case, base, forks, server, folder
        self.landed, self.log = Counter(), folder / "log"
        self.fresh = folder / "fresh"
        shutil.copytree(prepared, self.fresh)
        for name in case.writes:
            for path in (self.fresh / name, records_module.record_path(self.fresh / name)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        self.other = self.copy(self.fresh, "other")
        self.end(self.other, *case.other)
        self.asked_for_other = set(server.asked)
        self.whole = self.copy(self.fresh, "whole")
        server.asked.clear()
        self.changes, self.seconds = self.end(self.whole)
        self.asked = Counter(server.asked)
        self.expected = self.tree(self.whole)
        assert (set(self.asked.values()) == {1}) == case.asks

    def copy(self, root, name):
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        return shutil.copytree(root, target)

    def run(self, root, *more, fuse=None):
        """Runs the step until it ends, its fuse has burnt or the server kills it; its exit code and its changes."""
        flags = [flag.replace("ROOT", str(root)).replace("BASE", self.base) for flag in self.case.flags]
        address = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": self.server.address}
        options = {"env": address, "log": self.log, "fuse": fuse or Fuse(), "watched": root}
        process = self.forks.start(self.case.script, *roots(root), *flags, *more, **options)
        self.server.victim = process.kill
        return self.forks.wait(process, options["fuse"])

    def end(self, root, *more):
        """Runs the step to its end; its changes of files and its seconds."""
        started = time.perf_counter()
        code, changes = self.run(root, *more)
        assert code == 0, self.log.read_text(errors="replace")[-5_000:]
        return changes, time.perf_counter() - started

    def tree(self, root):
        """All files below a root, the content of all but the store of replies."""
        return {name: b"" if name.endswith(".sqlite") else content for name, content in files_in(root).items()}

    def outputs(self, root):
        """The contents of the outputs that are there."""
        paths = {name: root / name for name in self.case.writes if (root / name).exists()}
        return {name: files_in(path) if path.is_dir() else path.read_bytes() for name, path in paths.items()}


def killed_often(bench, name):
    """Lives of a run: killed one to five times and then run to its end, until it was killed often enough."""
    draw, killed, lives, case = random.Random(name), 0, 0, bench.case
    changes = draw.sample(range(1, bench.changes + 1), bench.changes)
    kinds = ("change", "last changes", "moment") + (("request",) * 2 if case.asks else ())
    while killed < KILLS:
        lives += 1
        beside_another = lives % 2 == 0
        root = bench.copy(bench.other if beside_another else bench.fresh, "cut")
        before = bench.outputs(root)
        bench.server.asked.clear()
        deaths = 0
        for _ in range(draw.randint(1, 5)):
            kind, fuse = draw.choice(kinds), Fuse()
            if kind == "change":
                fuse = Fuse(event=changes[bench.landed[kind] % len(changes)])
            elif kind == "last changes":
                fuse = Fuse(event=draw.randint(max(1, bench.changes - 40), bench.changes))
            elif kind == "moment":
                fuse = Fuse(seconds=draw.uniform(0.02, bench.seconds))
            else:
                bench.server.fatal = len(bench.server.asked) + draw.randint(1, max(1, len(bench.asked) // 2))
                bench.server.answers_first = draw.random() < 0.5
            code, _ = bench.run(root, fuse=fuse)
            bench.server.fatal = 0
            if code == 0:
                break
            assert code == -signal.SIGKILL, bench.log.read_text(errors="replace")[-5_000:]
            deaths += 1
            bench.landed[kind] += 1
            for output, content in bench.outputs(root).items():
                whole = bench.outputs(bench.whole)[output]
                # A folder cannot be exchanged in one move, so an adapter's old one may be half gone, never half there.
                assert content in (before.get(output), whole) or records_module.is_staged(root / output), (
                    f"{output} is half"
                )
        killed += deaths
        bench.end(root)
        if lives == 1:
            bench.end(root)
        assert_as_unbroken(bench, root)
        asked, kept = Counter(bench.server.asked), bench.asked_for_other if beside_another else set()
        assert set(asked) - kept == set(bench.asked) - kept
        # The replies that were under way at a kill never arrived, so they are asked for again.
        assert asked.total() - len(asked) <= AT_ONCE * deaths
        assert not kept & set(asked)
    return killed, lives


def assert_as_unbroken(bench, root):
    found = bench.tree(root)
    assert found.keys() == bench.expected.keys()
    assert [name for name in found if found[name] != bench.expected[name]] == []
    assert [path for pattern in LEFT for path in root.rglob(pattern)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_step_that_is_killed_at_any_moment_ends_as_an_unbroken_one(name, prepared, base, forks, server, tmp_path):
    bench = Bench(CASES[name], prepared, base, forks, server, tmp_path)
    killed, lives = killed_often(bench, name)
    print(f"{name}: {killed} kills in {lives} lives: {dict(bench.landed)}")


SMALL = {"one.pkl": [{"a": "x" * 9_000}], "two.json": {"b": 2}, "three.jsonl.gz": [{"c": 3}]}


def write_three(root, seed):
    """A step of three small outputs."""
    step = toy_step(root, [files.Artifact(name) for name in SMALL], seed=seed)
    if not step.done():
        for name, content in SMALL.items():
            step.write(files.Artifact(name), [*content, seed] if name == "one.pkl" else content)
    locks.unlock()


@pytest.mark.slow
@pytest.mark.parametrize("beside_another", [False, True])
def test_outputs_are_whole_or_absent_after_a_kill_at_every_change_of_a_file_and_a_second_one(
    beside_another, forks, tmp_path
):
    options = {"log": tmp_path / "log", "watched": tmp_path}
    unbroken, other, root = tmp_path / "unbroken", tmp_path / "other", tmp_path / "root"
    code, changes = forks.run(write_three, unbroken, 0, **options)
    assert code == 0 and changes > 20
    other.mkdir()
    if beside_another:
        assert forks.run(write_three, other, 1, **options)[0] == 0
    draw = random.Random(int(beside_another))
    for events in [(first, draw.randint(1, 12)) for first in range(1, changes + 1)]:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(other, root)
        for event in events:
            code, _ = forks.run(write_three, root, 0, fuse=Fuse(event=event), **options)
            assert code in (0, -signal.SIGKILL), events
        assert forks.run(write_three, root, 0, **options)[0] == 0
        assert files_in(root) == files_in(unbroken), events
