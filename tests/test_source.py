"""What no source file may hold: hard-coded machines, keys and paths; and rules of the numbered scripts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reason4rec.llm.local import LocalModel

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path for folder in ROOT.glob("[0-3]_*") for path in folder.glob("[0-9]_*.py"))
SHELLS = sorted(path for folder in ROOT.glob("[0-3]_*") for path in folder.glob("[0-9]_*.sh"))
CODE = [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *(ROOT / "reason4rec").rglob("*.py"), *SCRIPTS, *SHELLS]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_gpu_number_key_or_home_folder_stands_in_the_source(path):
    text = path.read_text(encoding="utf-8")
    for pattern in (r"CUDA_VISIBLE_DEVICES", r"cuda:\d", r"\bsk-\w{8}", r"[\"'](/home|/root|/data|/mnt|/Users)\b"):
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("path", [*SCRIPTS, *SHELLS], ids=name_of)
def test_a_numbered_script_runs_from_the_root_and_knows_the_common_flags(path):
    command = [sys.executable, str(path.relative_to(ROOT))] if path.suffix == ".py" else ["bash", name_of(path)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": "/nonexistent"}
    shown = subprocess.run([*command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for flag in ("--dataset", "--data_root", "--seed", "--limit", "--overwrite"):
        assert flag in shown.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_numbered_script_says_what_it_does_how_to_run_it_and_what_it_writes(path):
    text = path.read_text(encoding="utf-8")
    documentation = text.split('"""')[1]
    assert f"    python {name_of(path)}" in documentation
    assert "Writes " in documentation
    assert len(text.splitlines()) <= 100


def test_prompts_go_to_the_device_of_the_model():
    class Model:
        device = "meta"

    class Tokenizer:
        pad_token_id = 0

    ids, mask = LocalModel(Model(), Tokenizer(), "name")._padded([bytes(8), bytes(4)])
    assert ids.device.type == mask.device.type == "meta"


def test_every_test_that_readme_names_is_there():
    named = re.findall(r"`tests/(test_\w+)\.py::(test_\w+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"), (file, test)
