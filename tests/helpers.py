"""What several tests need: to run a script as a user does, to serve on loopback, and to see what was left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from reason4rec.data import preprocess, schema
from reason4rec.demo import rules, world
from reason4rec.llm.options import Model, Servers
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.run import __main__ as run
from reason4rec.run import cost, files, progress
from reason4rec.run.files import Artifact
from reason4rec.run.pipeline import Pipeline, StepSpec, load
from reason4rec.run.progress import Bar
from reason4rec.run.step import Common, parse
from reason4rec.systems.reason4rec import artifacts
from reason4rec.systems.reason4rec.pipeline import PIPELINE
from reason4rec.systems.reason4rec.step import ExpertStep

ROOT = Path(__file__).parents[1]
OF_THE_CALLER = ("OPENAI_", "REASON4REC_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def run_script(
    path: str, *args: object, env: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess:
    """Runs a script from the root of the clone with this interpreter; keys and proxies of the caller stay out."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(OF_THE_CALLER)}
    environment = kept | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | (env or {})
    command = ["bash" if path.endswith(".sh") else sys.executable, path, *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False, **options
    )


def interruptible() -> None:
    """For `preexec_fn`: a process started in the background of a shell ignores interruptions, and so do its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def complaint(done: subprocess.CompletedProcess) -> str:
    """The message of a run that must have ended in one line and exit code 2."""
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done.stderr[-3000:]
    return lines[-1].removeprefix("error: ")


def complaint_of(capsys: pytest.CaptureFixture, call: Callable[[], object]) -> str:
    """The one line in which a call in this process ends, with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert ended.value.code == 2, lines[-3:]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1].removeprefix("error: ")


class Planned:
    """A dry run of some steps of a system: the lines, and what they were counted with."""

    def __init__(self, system: str, words: Sequence[str]):
        pipeline, words = load(system), ["--system", system, *words]
        given, command = run.parse(pipeline, words)
        steps = run.selected(pipeline, given)
        self.survey = cost.Survey(pipeline, steps, lambda step: run.handed_on(pipeline, step, command, given))
        self.plan = pipeline.plan(self.survey)
        self.assumed = self.plan.assumed

    def lines(self) -> list[cost.Line]:
        return cost.lines(self.survey, self.plan)

    @property
    def notes(self) -> list[str]:
        return self.survey.notes + self.plan.notes

    def text(self) -> str:
        return cost.as_text(self.survey, self.plan)


def toy_step(root: Path, outputs: Sequence[Artifact], *words: object, seed: int = 0) -> ExpertStep:
    """A step of a table of its own, with these outputs and the options of a step that asks an expert."""
    spec = StepSpec("1/1", "1_Toy/1_toy.py", "toy outputs", writes=tuple(outputs), options=(Model, Servers))
    pipeline = Pipeline(
        "toy", [spec], (Common,), facts=lambda options: {}, read=schema.read, step=ExpertStep, default="Demo_data"
    )
    roots = ("--dataset", "Demo_data", "--data_root", root, "--checkpoint_root", root, "--seed", seed)
    return ExpertStep(pipeline, spec, parse(pipeline, spec, [str(word) for word in (*roots, *words)]))


def step_of(name: str, root: Path, *words: object) -> ExpertStep:
    """A step of Reason4Rec on the demo's dataset under a root, with the options given as on a command line."""
    spec = PIPELINE[name]
    roots = ("--dataset", "Demo_data", "--data_root", root / "data", "--checkpoint_root", root / "checkpoints")
    return ExpertStep(PIPELINE, spec, parse(PIPELINE, spec, [str(word) for word in (*roots, *words)]))


def put_toy_dataset(root: Path, summaries: bool = False) -> Path:
    """Puts splits of a small demo world, and summaries of its training reviews, under a data root; their folder."""
    reviews, metadata = world.raw_records(40, 12, seed=5)
    dump, folder = root / "reviews.json.gz", root / "data" / "Demo_data"
    files.write_json_lines(dump, reviews)
    files.write_json_lines(root / "meta.json.gz", metadata)
    splits = preprocess.preprocess(dump, root / "meta.json.gz", root / "scratch", core=1)
    for artifact, part in (
        (schema.TRAIN, splits.train),
        (schema.VALID, splits.valid),
        (schema.TEST, splits.test),
    ):
        files.write_pickle(folder / artifact.path, part)
    if summaries:
        train = splits.train
        train[artifacts.SUMMARY] = [rules.summarize(text) for text in train["reviews"]]
        files.write_pickle(folder / artifacts.SUMMARIES.path, train)
    return folder


class Noted(Prompt):
    """A prompt of which `counted_alive` knows whether it is still in memory."""


class NotedText(str):
    """A text of which `counted_alive` knows whether it is still in memory."""


def counted_alive(texts: Sequence[str], kind: type) -> tuple[OnDemand, list[int]]:
    """Texts or prompts made on demand, and how many earlier ones were in memory as each was made."""
    made: list[weakref.ref] = []
    alive: list[int] = []
    # What there is now need not be looked at each time: with all libraries loaded that takes a minute.
    gc.collect()
    gc.freeze()

    def make(text: str) -> object:
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        made.append(weakref.ref(one := kind(text)))
        return one

    return OnDemand(make, texts), alive


def noted_bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    """The bars that are shown from now on."""
    bars: list[Bar] = []

    class Noted(Bar):
        def __init__(self, *args: object, **options: object):
            super().__init__(*args, **options)
            bars.append(self)

    monkeypatch.setattr(progress, "Bar", Noted)
    return bars


def files_in(folder: Path) -> dict[str, bytes]:
    """The contents of all files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    """Serves in a thread while the block runs."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
