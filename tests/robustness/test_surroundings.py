"""What surrounds a command: the interpreter, the terminal, a pipe that is closed, an interruption."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers import ROOT, complaint, interruptible, put_toy_dataset, run_script, step_of

from reason4rec.errors import InputError
from reason4rec.run.commands import guarded

SCRIPTS = ["0_Data/2_preprocess.py", "2_Reasoner/1_sample_train_data.py", "3_Predictor/7_reason_quality.py"]


@pytest.fixture
def bare(tmp_path):
    """An interpreter without any package."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("command", ["run_all.sh", "1_Summarizer/3_summarizer_train.sh", *SCRIPTS])
def test_an_interpreter_without_the_packages_was_a_traceback_and_hung(bare, command):
    first = "bash" if command.endswith(".sh") else str(bare)
    done = subprocess.run(
        [first, command], cwd=ROOT, env=os.environ | {"PYTHON": str(bare)}, capture_output=True, text=True, timeout=60
    )
    said = complaint(done)
    assert "pandas" in said and "requirements.txt" in said and len(said) < 300


def test_a_program_that_imports_the_package_is_not_ended_by_it(bare, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "try:\n    import reason4rec\nexcept ImportError as error:\n    print('caught', error)\n"
    )
    done = subprocess.run([bare, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("caught") and "pandas" in done.stdout


def test_output_that_the_terminal_cannot_encode_ended_in_a_traceback(tmp_path):
    put_toy_dataset(tmp_path)
    folder = (tmp_path / "data" / "Demo_data").rename(tmp_path / "data" / "Müsik")
    (folder / "dataset.json").write_text('{"name": "Müsik", "product_class": "Album", "tau": 0.1}')
    words = ("--dataset", "Müsik", "--data_root", folder.parent, "--model", "global_mean")
    env = {"PYTHONIOENCODING": "ascii"}
    done = run_script("3_Predictor/5_baselines.py", *words, env=env)
    assert done.returncode == 0, done.stderr
    assert "M\\xfcsik" in done.stdout


@pytest.mark.parametrize("command", ["bash run_all.sh --help", f"{sys.executable} 3_Predictor/4_evaluate.py --help"])
def test_a_reader_that_has_enough_is_no_error(command):
    env = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        f"{command} | head -1", shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("usage:") and done.stderr == ""


@pytest.mark.parametrize(
    ("words", "python", "said"),
    [
        ((), sys.executable, "name one directory"),
        (("docs",), sys.executable, "docs holds something else"),
        (("README.md",), sys.executable, "README.md holds something else"),
        (("{new}",), "no-such-python", "no-such-python is not Python"),
    ],
)
def test_where_no_environment_with_vllm_can_be_made_nothing_is_made(tmp_path, words, python, said):
    new = tmp_path / "vllm"
    given = [word.format(new=new) for word in words]
    done = run_script("tests/servers/make_vllm.sh", *given, env={"PYTHON": python})
    # Other processors than x86-64 with AVX-512 are refused first.
    assert said in complaint(done) or "AVX-512" in done.stderr
    assert not new.exists()


@pytest.mark.parametrize("command", ["run_all.sh", "3_Predictor/7_reason_quality.py"])
def test_an_interruption_while_libraries_are_loaded_is_no_traceback(command, tmp_path):
    words = ["bash" if command.endswith(".sh") else sys.executable, command, "--data_root", str(tmp_path)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    env = os.environ | {"PYTHON": sys.executable}
    process = subprocess.Popen(words, cwd=ROOT, env=env, preexec_fn=interruptible, **pipes)
    loaded, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 30
    # pydantic is among the first libraries that are loaded.
    while time.monotonic() < deadline and process.poll() is None and "pydantic" not in loaded.read_text():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (130, -signal.SIGINT), said
    assert "Traceback" not in said and "interrupted" in said


def test_a_step_that_needs_time_to_end_was_killed_a_quarter_second_after_an_interruption(tmp_path):
    done, begun = tmp_path / "done", tmp_path / "begun"
    step = (
        "import pathlib, time\ntry:\n"
        f"    pathlib.Path({str(begun)!r}).touch(); time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    )
    call = f"run_command([sys.executable, '-c', {step!r}], os.environ)"
    program = f"import os, sys; from reason4rec.run.commands import run_command; {call}"
    options = {"cwd": ROOT, "preexec_fn": interruptible, "start_new_session": True, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", program], **options)
    deadline = time.monotonic() + 30
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(30)
    assert done.exists()


def test_the_authors_validation_rows_would_have_been_written_over(tmp_path):
    folder = put_toy_dataset(tmp_path)
    (folder / "raw_data" / "valid.pkl").rename(folder / "raw_data" / "val.pkl")
    step = step_of("0/2", tmp_path)
    assert folder / "raw_data" / "valid.pkl" in step.outputs and folder / "raw_data" / "val.pkl" not in step.outputs


def test_a_missing_file_of_the_users_own_was_answered_with_where_public_ones_are(tmp_path):
    words = ("--dataset", "Mine", "--data_root", tmp_path, "--reviews", tmp_path / "mine.csv", "--product_class", "x")
    said = complaint(run_script("0_Data/2_preprocess.py", *words))
    assert "mine.csv" in said and "1_download" not in said


def test_the_name_of_a_known_dataset_that_is_misspelt_gets_a_suggestion(tmp_path):
    said = complaint(run_script("3_Predictor/4_evaluate.py", "--dataset", "Music_dta", "--data_root", tmp_path))
    assert "did you mean Music_data?" in said


def test_a_complaint_filled_the_screen(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fails():
        raise InputError(f"first words {'and more ' * 100}last words")

    with pytest.raises(SystemExit) as ended:
        guarded(fails)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(line) <= 300 and line.startswith("error: first words")
    (whole,) = tmp_path.iterdir()
    assert str(whole) in line and whole.read_text().endswith("last words\n")


def test_a_path_that_cannot_be_written_is_not_answered_with_a_full_disk(tmp_path):
    put_toy_dataset(tmp_path)
    (tmp_path / "data" / "Demo_data" / "predictions").write_text("a file where a folder belongs")
    words = ("--dataset", "Demo_data", "--data_root", tmp_path / "data", "--model", "global_mean")
    said = complaint(run_script("3_Predictor/5_baselines.py", *words))
    assert "predictions" in said and "free the disk" not in said
