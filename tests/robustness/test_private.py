"""What a run makes is the user's alone, and the key of the teacher is nowhere in it."""

import os
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import test_kill
from helpers import ROOT, put_toy_dataset, serving, toy_step
from test_kill import CASES, Case, roots
from test_locks import HeldServer

from reason4rec.demo.stand_in import Server
from reason4rec.run import files, locks, records
from reason4rec.run.files import Artifact
from reason4rec.systems.reason4rec import artifacts

forks, prepared = test_kill.forks, test_kill.prepared
DISTILL = "1_Summarizer/1_distilling_aspect_preference_summary.py"
FLAGS = ("--teacher_model", "stand-in", "--limit", "8", "--retries", "0")
KEY = "sk-XQZW7-recognisable-secret"
DATA = test_kill.DATA
QUICK = {
    "the demo's data": Case("0_Data/3_make_demo_data.py", (), (), (DATA + artifacts.DEMO_REVIEWS.path,)),
    "training rows": Case(
        "2_Reasoner/5_construct_reasoner_train_data.py", (), (), (DATA + artifacts.REASONER_ROWS.path,)
    ),
}


def under_the_usual_umask(script, flags):
    """Runs a script where others may read what is new, unless something is done about it."""
    os.umask(0o022)
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")


def below(root):
    return set(root.rglob("*"))


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *QUICK])
def test_all_that_a_step_makes_is_the_users_alone_and_what_was_there_is_left(name, prepared, base, forks, tmp_path):
    case = (CASES | QUICK)[name]
    root = shutil.copytree(prepared, tmp_path / "root")
    for output in case.writes:
        for path in (root / output, records.record_path(root / output)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if name == "training rows":
        summaries = files.read_pickle(root / DATA / artifacts.SUMMARIES.path)
        reasons = summaries.assign(**{artifacts.TEACHER_REASON: "It fits. "})
        files.write_pickle(root / DATA / artifacts.TEACHER_REASONS.path, reasons)
    before = {path: 0o755 if path.is_dir() else 0o644 for path in below(root)}
    for path, old in before.items():
        path.chmod(old)
    flags = [flag.replace("ROOT", str(root)).replace("BASE", base) for flag in case.flags]
    with serving(Server(0)) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        log = tmp_path / "log"
        code, _ = forks.run(
            under_the_usual_umask, case.script, [*roots(root), *flags], log=log, env=environment, watched=root
        )
    assert code == 0, log.read_text()
    made = below(root) - set(before)
    assert {root / output for output in case.writes} <= made
    assert [path for path in made if mode(path) != (0o700 if path.is_dir() else 0o600)] == []
    assert [path for path in before if path.exists() and mode(path) != before[path]] == []


MADE_FROM = {"inputs": {}, "settings": {}}


@pytest.mark.parametrize("write", [files.write_text, files.write_pickle, files.write_json_lines])
def test_a_file_written_without_a_step_is_the_users_alone_too(tmp_path, write):
    tmp_path.chmod(0o755)
    path = tmp_path / "new" / "newer" / "output"
    files.staged_path(tmp_path / "output").write_text("left by a killed run")
    old = os.umask(0o022)
    try:
        records.write_recorded(path, "text" if write is files.write_text else [{"a": 1}], MADE_FROM)
        write(tmp_path / "output", "text" if write is files.write_text else [{"a": 1}])
    finally:
        os.umask(old)
    for file in (path, records.record_path(path), tmp_path / "output"):
        assert mode(file) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    assert mode(tmp_path) == 0o755


def assert_key_is_not_in(root, *words):
    for path in below(root):
        assert KEY not in str(path)
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    for said in words:
        assert KEY not in said


def asking(root, address, **options):
    """A run that asks the teacher with the key, as a user starts it."""
    environment = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    environment |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": address}
    command = [sys.executable, DISTILL, *roots(root), *FLAGS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)


def test_the_key_is_in_no_file_no_line_and_no_command_of_a_run(tmp_path):
    put_toy_dataset(tmp_path)
    with serving(HeldServer()) as server:
        process = asking(tmp_path, server.address)
        assert server.reached.wait(60)
        command = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert DISTILL in command
        assert_key_is_not_in(tmp_path, command)
        server.open.set()
        said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert_key_is_not_in(tmp_path, *said)


def test_the_key_is_in_no_file_and_no_line_where_the_teacher_refuses_it(tmp_path):
    put_toy_dataset(tmp_path)
    with serving(Server(0, key="another")) as server:
        process = asking(tmp_path, server.address)
        said = process.communicate(timeout=60)
    assert process.returncode == 2 and "OPENAI_API_KEY" in said[1]
    assert_key_is_not_in(tmp_path, *said)


def crash(where, script, flags):
    """Runs a script in which a function of the project fails as only a mistake in the code does."""
    module, name = where
    setattr(sys.modules[module], name, None)
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")


CRASHES = (("reason4rec.llm.cache", "json"), ("reason4rec.llm.teacher", "json"), ("reason4rec.llm.client", "httpx2"))


@pytest.mark.parametrize("where", CRASHES)
def test_the_key_is_in_no_traceback(where, forks, tmp_path):
    put_toy_dataset(tmp_path / "root")
    log = tmp_path / "log"
    with serving(Server(0)) as server:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.address}
        arguments = (where, DISTILL, [*roots(tmp_path / "root"), *FLAGS])
        code, _ = forks.run(crash, *arguments, log=log, env=environment)
    assert code == 1 and "Traceback" in log.read_text()
    assert_key_is_not_in(tmp_path)


def test_a_servers_address_is_recorded_without_its_password(tmp_path):
    address = "http://user:XQZW7@127.0.0.1:8000/v1?key=XQZW7"
    given = ("--base_url", f"{address}, {address}", "--served_model", "mine", "--api", "chat")
    step = toy_step(tmp_path, [Artifact("one.pkl")], *given)
    assert not step.done()
    step.write(Artifact("one.pkl"), [1])
    locks.unlock()
    record = records.read_record(step.outputs[0])
    server = "http://127.0.0.1:8000/v1"
    assert record["made_from"]["execution"] == {"base_url": f"{server},{server}", "served_model": "mine", "api": "chat"}
    assert_key_is_not_in(tmp_path)
    assert b"XQZW7" not in b"".join(path.read_bytes() for path in below(tmp_path) if path.is_file())
