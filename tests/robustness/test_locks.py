"""Two runs at once: of one step the second is refused and the first not disturbed; of two steps neither."""

import errno
import fcntl
import json
import os
import signal
import threading
import time
from argparse import Namespace

import pytest
from helpers import files_in, put_toy_dataset, serving, toy_step
from test_kill import SMALL, roots, the_forks, write_three
from test_sft import rows_for

from reason4rec.data import schema
from reason4rec.demo import stand_in
from reason4rec.run import files, locks
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec.artifacts import TEACHER_SUMMARIES
from reason4rec.systems.reason4rec.experts import EXPERTS

DISTILL = "1_Summarizer/1_distilling_aspect_preference_summary.py"
FLAGS = ("--teacher_model", "stand-in", "--limit", "20", "--requests_at_once", "2")


class HeldServer(stand_in.Server):
    """A stand-in that answers only while `open` is set, and says when it was first asked."""

    def __init__(self):
        super().__init__(0)
        self.open, self.reached = threading.Event(), threading.Event()
        server = self

        class Handler(stand_in._Handler):
            def do_POST(self):  # noqa: N802
                server.reached.set()
                assert server.open.wait(60)
                super().do_POST()

        self.RequestHandlerClass = Handler

    def handle_error(self, request, client_address):
        """Says nothing: who asked may have been killed."""


@pytest.fixture
def server():
    with serving(HeldServer()) as server:
        yield server
        server.open.set()


@pytest.fixture
def root(tmp_path):
    put_toy_dataset(tmp_path, summaries=True)
    return tmp_path


def start(root, server, *more, script=DISTILL, flags=FLAGS):
    """A run in a process of its own; its words go to a file of its own beside the root."""
    environment = {"OPENAI_API_KEY": "none-needed", "OPENAI_BASE_URL": server.address}
    log = root.with_name(f"{root.name}.{time.monotonic_ns()}.log")
    process = the_forks().start(script, *roots(root), *flags, *more, env=environment, log=log)
    process.log = log
    return process


def end(process):
    """The exit code and the words of a run."""
    process.join(60)
    return process.exitcode, process.log.read_text()


def lock_of(root):
    return locks.lock_path(root / "data" / "Demo_data" / TEACHER_SUMMARIES.path)


def hidden(root):
    return [name for name in files_in(root) if "/." in name]


def test_the_second_run_of_a_step_is_refused_in_one_line_and_the_first_is_not_disturbed(root, server):
    first = start(root, server)
    assert server.reached.wait(60)
    before = files_in(root / "data")
    code, said = end(start(root, server))
    assert code == 2, said
    complaint = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(complaint) == 1 and "Traceback" not in said
    assert f"{TEACHER_SUMMARIES.path} is being made by another run (process {first.pid} on " in complaint[0]
    assert "wait until it has ended or stop it" in complaint[0]
    assert files_in(root / "data") == before
    server.open.set()
    code, said = end(first)
    assert code == 0, said
    assert len(schema.read(root / "data" / "Demo_data", TEACHER_SUMMARIES)) == 20
    assert not hidden(root)


def test_a_killed_run_leaves_no_lock_that_holds(root, server):
    first = start(root, server)
    assert server.reached.wait(60)
    assert lock_of(root).exists()
    first.kill()
    first.join()
    assert lock_of(root).exists()
    server.open.set()
    code, said = end(start(root, server))
    assert code == 0, said
    assert not hidden(root)


def test_a_lock_that_was_left_beside_a_complete_output_is_removed(root, server):
    server.open.set()
    assert end(start(root, server))[0] == 0
    lock_of(root).write_text("process 1 on a host that is long gone")
    code, said = end(start(root, server))
    assert code == 0 and "complete: " in said
    assert not hidden(root)


def test_a_complete_output_is_seen_while_another_run_makes_it_again(root, server):
    server.open.set()
    assert end(start(root, server))[0] == 0
    server.open.clear()
    server.reached.clear()
    (root / "data" / "Demo_data" / "cache" / "replies.sqlite").unlink()
    first = start(root, server, "--overwrite")
    assert server.reached.wait(60)
    code, said = end(start(root, server))
    assert code == 0 and "complete: " in said
    assert lock_of(root).exists()
    assert end(start(root, server, "--overwrite"))[0] == 2
    server.open.set()
    assert end(first)[0] == 0


def test_two_different_steps_of_a_dataset_run_at_once(root, server):
    first = start(root, server)
    assert server.reached.wait(60)
    code, said = end(start(root, server, script="2_Reasoner/1_sample_train_data.py", flags=()))
    assert code == 0, said
    server.open.set()
    assert end(first)[0] == 0


def test_a_run_that_ends_in_a_complaint_gives_its_output_back(root, server):
    process = the_forks().start(DISTILL, *roots(root), *FLAGS, log=root.with_name("log"))
    process.join(60)
    assert process.exitcode == 2
    assert not hidden(root)


def test_a_second_training_of_an_adapter_is_refused_and_the_first_ends(base, tmp_path):
    server = Namespace(address="http://127.0.0.1:9")
    flags = ("--adapter", "Predictor", "--base_model", base, "--epochs", "1", "--batch_size", "4", "--device", "cpu")
    files.write_pickle(tmp_path / "data" / "Demo_data" / EXPERTS["Predictor"].rows.path, rows_for("Predictor"))
    out = tmp_path / "checkpoints" / "Demo_data" / "Predictor"
    first = start(tmp_path, server, script="reason4rec/systems/reason4rec/train.py", flags=flags)
    until = time.monotonic() + 60
    while not locks.lock_path(out).exists():
        assert time.monotonic() < until and first.exitcode is None, first.log.read_text()
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        code, said = end(start(tmp_path, server, script="reason4rec/systems/reason4rec/train.py", flags=flags))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert code == 2, said
    assert f"error: {out} is being made by another run" in said
    code, said = end(first)
    assert code == 0, said
    assert json.loads((out / "loss_curve.json").read_text())
    assert not hidden(tmp_path)


def step_in(root):
    return toy_step(root, [Artifact(name) for name in SMALL])


def test_an_output_that_another_run_ended_just_now_is_not_made_again(tmp_path, monkeypatch, capsys):
    hold = locks.lock

    def late(path):
        if not path.exists():
            assert the_forks().run(write_three, tmp_path, 0, log=os.devnull)[0] == 0
        return hold(path)

    monkeypatch.setattr(locks, "lock", late)
    assert step_in(tmp_path).done()
    assert "complete: " in capsys.readouterr().out
    assert not hidden(tmp_path)


def test_a_file_system_without_locks_is_noted_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    assert not step_in(tmp_path).done()
    locks.unlock()
    assert "without locks: start no second run" in capsys.readouterr().out
    assert not hidden(tmp_path)


def hold_and_release(path, entries, rounds):
    """Takes an output as often as it can, and notes by which process it is held while it is."""
    for _ in range(rounds):
        if locks.lock(path):
            continue
        try:
            entries.mkdir()
        except FileExistsError:
            os._exit(3)
        entries.rmdir()
        locks.unlock(path)


def test_no_two_processes_hold_an_output_although_its_lock_is_removed_each_time(tmp_path):
    path, entries = tmp_path / "output", tmp_path / "held"
    log = tmp_path / "log"
    running = [the_forks().start(hold_and_release, path, entries, 2_000, log=log) for _ in range(4)]
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * 4, log.read_text()
    assert not locks.lock_path(path).exists()
