"""README's commands, run as they stand at toy size, so that they cannot drift from the code."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import serving

from reason4rec.data import schema
from reason4rec.demo import stand_in, world
from reason4rec.run import files
from reason4rec.systems.reason4rec import artifacts

ROOT = Path(__file__).parents[1]
STEP = re.compile(r"[0-3]_\w+/\d_\w+\.(py|sh)")
NOT_HERE = ("git ", "cd ", "export ", "source ")
pytestmark = pytest.mark.slow


def readme_commands():
    """The commands in README's bash blocks and step tables, each once, in their order."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    lines = [line.strip() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"\| `((?:bash|python) [^`]+)`", text)
    return list(dict.fromkeys(line for line in lines if line and not line.startswith(("#", *NOT_HERE))))


def is_toy_step(command):
    found = STEP.search(command)
    elsewhere = (
        "4_import_published",
        "5_summary_quality",
        "1_download",
        "3_make_demo_data",
        "8_reasoner_rl",  # of a finished run
        "--batch_",
        "--base_url",
        "--dry_run",
        "My_data",
        "--config",
    )
    return bool(found) and not any(word in command for word in elsewhere)


COMMANDS = readme_commands()
STEPS = sorted({STEP.search(c)[0]: c for c in reversed(COMMANDS) if is_toy_step(c)}.items())


def run(words, root, limit=600, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **variables}
    words = [sys.executable if words[0] == "python" else words[0], *words[1:]]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)


def toy_flags(script, root):
    flags = ["--data_root", str(root / "data"), "--checkpoint_root", str(root / "checkpoints")]
    if script.startswith("0_Data"):
        return flags
    flags += ["--limit", "16"]
    if "baselines" in script:
        flags += ["--model", "gradient_boosting"]
    if "ablations" in script:
        flags += ["--variants", "without_reasoner", "--teacher_model", "stand-in", "--max_new_tokens", "96"]
    if script.endswith(".sh"):
        flags += ["--base_model", "reason4rec/demo/base", "--device", "cpu", "--epochs", "1"]
    if "distilling" in script:
        flags += ["--teacher_model", "stand-in"]
    if "summarizer_generation" in script or "reason_for_test" in script or "predictor_train_data" in script:
        flags += ["--max_new_tokens", "96", "--device", "cpu"]
    return flags


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder in which README's commands for Music_data ran in order on toy reviews, and what each printed."""
    root = tmp_path_factory.mktemp("readme")
    reviews, metadata = world.raw_records(150, 40, seed=7)
    dumps = root / "data" / "Music_data" / "raw"
    files.write_json_lines(dumps / "reviews_Digital_Music_5.json.gz", reviews)
    files.write_json_lines(dumps / "meta_Digital_Music.json.gz", metadata)
    server = stand_in.Server(0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    printed = {}
    for script, command in STEPS:
        words = [
            str(root / "data" / word.removeprefix("0_Data/")) if word.startswith("0_Data/Music_data/") else word
            for word in shlex.split(command)
        ]
        if "--variants" in words:
            # One variant is enough here: the docs show a sweep of nine.
            del words[words.index("--variants") :]
        done = run(
            [*words, *toy_flags(script, root)], root, OPENAI_API_KEY="none-needed", OPENAI_BASE_URL=server.address
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        printed[script] = done.stdout
    server.shutdown()
    server.server_close()
    return root, printed


def test_readme_names_every_step():
    steps = {
        f"{path.parent.name}/{path.name}"
        for folder in ROOT.glob("[0-3]_*")
        for path in folder.glob("[0-9]_*.*")
        if path.suffix in (".py", ".sh")
    }
    named = {found[0] for command in COMMANDS if (found := STEP.search(command))}
    assert named == steps


def test_the_commands_for_a_real_dataset_lead_to_its_table(music):
    root, printed = music
    assert len(printed) == 21
    rows = json.loads((root / "data/Music_data" / artifacts.METRICS.path).read_text())["table"]
    models = {row["model"] for row in rows}
    assert "Reason4Rec (demo model: not meaningful)" in models
    assert "global mean, all rows" in models
    test = schema.read(root / "data/Music_data", schema.TEST)
    assert {row["n"] for row in rows if row["rows"] == "all"} == {16, len(test)}


def test_every_command_ends_with_a_card(music):
    for script, output in music[1].items():
        assert re.search(r"^\[\w+\] rows in", output, re.MULTILINE), script


def test_the_reward_rows_hold_the_real_reviews(music):
    folder = music[0] / "data" / "Music_data"
    targets = schema.read(folder, artifacts.REWARD_TARGETS)
    rows = schema.read(folder, artifacts.REWARD_ROWS)
    assert len(rows) == len(targets)
    for row, review, rating in zip(rows, targets["reviews"], targets["ratings"]):
        assert review in row["messages"][0]["content"]
        assert row["messages"][1]["content"] == f"Predicted Rating: {rating:.1f}"


def test_the_two_samples_are_disjoint(music):
    folder = music[0] / "data" / "Music_data"
    key = ["user_id", "item_id", "unixReviewTime"]
    first, second = (schema.read(folder, a)[key] for a in (artifacts.REWARD_TARGETS, artifacts.REASON_TARGETS))
    assert first.merge(second, on=key).empty


def test_no_rating_is_shown_to_the_reasoner(music):
    folder = music[0] / "data" / "Music_data"
    for row in schema.read(folder, artifacts.REASONER_ROWS):
        assert not re.search(r"\d\.\d", row["messages"][0]["content"])


def test_every_kind_of_ablation_runs_and_stands_in_the_table(music):
    """Those that differ in their steps; REASON4REC_ALL=1 adds those that run the same steps in another form."""
    root, _ = music
    names = ["without_summarizer", "one_step"]
    if os.environ.get("REASON4REC_ALL"):
        names += ["rating_first", "draws_0"]
    with serving(stand_in.Server(0)) as server:
        done = run(
            [
                *("python", "3_Predictor/6_ablations.py", "--dataset", "Music_data"),
                *toy_flags("3_Predictor/6_ablations.py", root)[:6],
                *("--teacher_model", "stand-in", "--max_new_tokens", "64", "--variants", *names),
            ],
            root,
            limit=1_200,
            OPENAI_API_KEY="none-needed",
            OPENAI_BASE_URL=server.address,
        )
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
    rows = json.loads((root / "data/Music_data" / artifacts.ABLATIONS.path).read_text())
    # The fixture ran one before.
    assert [row["variant"] for row in rows] == ["full", *sorted([*names, "without_reasoner"])]
    assert {row["all"]["n"] for row in rows} == {16}
    by_name = {row["variant"]: row for row in rows}
    if "draws_0" in by_name:
        assert by_name["draws_0"]["accepted"] == by_name["draws_0"]["unhinted"] <= by_name["full"]["accepted"]
    evaluated = run(
        ["python", "3_Predictor/4_evaluate.py", "--dataset", "Music_data", "--data_root", str(root / "data")], root
    )
    assert evaluated.returncode == 0, evaluated.stderr
    models = {
        row["model"] for row in json.loads((root / "data/Music_data" / artifacts.METRICS.path).read_text())["table"]
    }
    assert {name.replace("_", " ") for name in names} <= models


def test_going_on_from_the_authors_files_ended_without_an_evaluation_for_want_of_valid(music, tmp_path):
    """Option 2, whole: only the four published pickles are there, and no record of ours."""
    root, _ = music
    folder = tmp_path / "data" / "Music_data"
    for artifact in (schema.TRAIN, schema.TEST, artifacts.SUMMARIES, artifacts.TEACHER_REASONS):
        content = (root / "data/Music_data" / artifact.path).read_bytes()
        (folder / artifact.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / artifact.path).write_bytes(content)
    done = run(
        [
            *("bash", "run_all.sh", "--dataset", "Music_data", "--from", "2/5"),
            *("--data_root", str(tmp_path / "data"), "--checkpoint_root", str(tmp_path / "checkpoints")),
            *("--base_model", "reason4rec/demo/base", "--device", "cpu", "--epochs", "1"),
            *("--limit", "16", "--max_new_tokens", "96"),
        ],
        root,
    )
    assert done.returncode == 0, done.stderr
    assert "left out: user_item_bias, matrix_factorization, gradient_boosting" in done.stdout
    models = {row["model"] for row in json.loads((folder / artifacts.METRICS.path).read_text())["table"]}
    assert {"Reason4Rec (demo model: not meaningful)", "prompt averages"} <= models
    assert not models & {"user + item bias", "matrix factorization", "gradient boosting"}
    assert (folder / artifacts.CASE_STUDY.path).exists()
    again = run(
        [
            *("python", "2_Reasoner/4_distilling_possible_reason.py", "--dataset", "Music_data"),
            *("--data_root", str(tmp_path / "data"), "--checkpoint_root", str(root / "checkpoints")),
        ],
        root,
    )
    assert again.returncode == 0
    assert "was put there by hand" in again.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if not is_toy_step(c) and c.startswith(("python", "bash"))])
def test_every_other_command_of_readme_is_understood(command):
    words = shlex.split(command)
    if words[1] == "tests/run.sh":
        assert (ROOT / words[1]).is_file()
        return
    done = run([*words, "--help"], ROOT)
    assert done.returncode == 0, done.stderr


def test_requirements_files_that_readme_installs_exist():
    for command in COMMANDS:
        for name in re.findall(r"-r (\S+)", command):
            assert (ROOT / name).is_file()
