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


def test_every_test_that_the_docs_name_is_there():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    named = re.findall(r"`tests/([\w/]*test_\w+)\.py::(test_\w+)`", pages)
    assert len(named) > 15
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"), (file, test)


def test_every_link_between_the_pages_leads_somewhere():
    for page in (ROOT / "README.md", ROOT / "0_Data" / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        anchors = {
            re.sub(r"[^\w -]", "", line[2:].strip().lower()).replace(" ", "-")
            for line in re.findall(r"(?m)^##? .*", text)
        }
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists(), (page.name, target)
            if anchor and not path:
                assert anchor in {one.strip("-") for one in anchors}, (page.name, target)


def test_readme_fits_in_one_reading():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_help_waited_for_torch():
    """It did from every script, once a system's table imported what trains."""
    script = ROOT / "3_Predictor" / "5_baselines.py"
    done = subprocess.run([sys.executable, "-X", "importtime", script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "pandas" in imported
    assert not imported & {"torch", "transformers", "peft", "trl", "sklearn", "datasets"}
