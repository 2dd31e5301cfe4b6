"""The table of steps: what follows from it, and that a new step is one row and one script."""

import json
import os
import pickle
import re
import subprocess
import sys

import pytest
from helpers import ROOT

from reason4rec.errors import InputError
from reason4rec.run.__main__ import parse, shown
from reason4rec.run.files import Artifact
from reason4rec.run.pipeline import Pipeline, StepSpec, load, systems
from reason4rec.systems.reason4rec.pipeline import PIPELINE

A, B, C, D = (Artifact(name) for name in "abcd")


def table(*steps, **more):
    given = {"common": (), "facts": lambda options: {}, "read": None, "step": None, "default": "Toy_data"} | more
    return Pipeline("toy", steps, **given)


def names(steps):
    return " ".join(step.name for step in steps)


TOY = table(
    StepSpec("1/1", "one.py", "first", writes=(A,)),
    StepSpec("1/2", "two.py", "reads what a later row writes", reads=(A,), reads_if_there=(D,), writes=(B,)),
    StepSpec("1/3", "three.py", "third", reads=(A,), writes=(C, D)),
    StepSpec("2/1", "four.py", "last", reads=(B, C)),
)


def test_steps_run_in_the_order_of_the_table_but_for_what_reads_what_another_writes():
    assert names(TOY) == "1/1 1/3 1/2 2/1"
    assert names(TOY.select("1/3", "1/2")) == "1/3 1/2"
    assert names(TOY.select(only=["2/1", "1/1"])) == "1/1 2/1"


def test_a_range_against_the_order_is_refused_and_so_is_an_unknown_step():
    with pytest.raises(InputError, match="--from 1/2 runs after --to 1/3"):
        TOY.select("1/2", "1/3")
    for given in ({"first": "9/9"}, {"last": "2/2"}, {"only": ["0/0"]}):
        with pytest.raises(InputError, match="no step .*: steps are 1/1, 1/3, 1/2, 2/1"):
            TOY.select(**given)


def test_steps_that_wait_for_each_other_or_share_a_name_are_no_table():
    with pytest.raises(ValueError, match="wait for each other"):
        table(StepSpec("1/1", "", "", reads=(A,), writes=(B,)), StepSpec("1/2", "", "", reads=(B,), writes=(A,)))
    with pytest.raises(ValueError, match="one name"):
        table(StepSpec("1/1", "", ""), StepSpec("1/1", "", ""))


def test_a_change_puts_out_of_date_what_reads_it_directly_or_through_others():
    assert names(TOY.downstream([TOY["1/3"]])) == "1/3 2/1"
    assert names(TOY.downstream([TOY["1/1"]])) == "1/1 1/3 1/2 2/1"
    assert names(TOY.upstream(B)) == "1/1 1/2"
    assert names(TOY.upstream(B, there=[A])) == "1/2"


def test_the_producer_of_a_missing_file_is_named(tmp_path):
    assert str(TOY.missing(tmp_path / "c", C)) == f"{tmp_path / 'c'} is missing: three.py writes it"


def test_every_system_has_a_table_whose_scripts_are_there():
    assert systems() == ["gream", "reason4rec", "twice_rec"]
    for system in systems():
        for spec in load(system):
            assert (ROOT / spec.script).is_file()
    with pytest.raises(InputError, match="no such system; there are gream, reason4rec, twice_rec"):
        load("nothing")


def test_each_numbered_script_has_one_row_and_says_in_its_first_lines_what_the_row_says():
    scripts = {str(path.relative_to(ROOT)) for path in ROOT.glob("[0-9]_*/[0-9]_*.*") if path.suffix in (".py", ".sh")}
    assert sorted(spec.script for spec in PIPELINE) == sorted(scripts)
    for spec in PIPELINE:
        head = (ROOT / spec.script).read_text().partition("sys.path")[0]
        assert spec.script in head
        for artifact in spec.writes:
            assert artifact.path in head, (spec.script, artifact.path)
        assert f"{spec.script.split('/')[0][0]}/{re.search(r'/([0-9])_', spec.script)[1]}" == spec.name


SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
import toy_system
from reason4rec.run.step import main

def run(step):
    scale, rows = step[toy_system.Scale].scale, step.read(toy_system.ROWS)
    step.write(toy_system.LENGTHS, [{{"length": len(row["text"]) * scale}} for row in rows])
    step.summary(1, 1)

main(run, toy_system.PIPELINE, toy_system.PIPELINE.of_script(Path(__file__)), "Measure texts.")
"""

SYSTEM = """
from dataclasses import dataclass
from pathlib import Path
from reason4rec.run.files import Artifact, read_pickle
from reason4rec.run.options import Options, option
from reason4rec.run.pipeline import Pipeline, StepSpec
from reason4rec.run.step import Common, Step

HERE = Path(__file__).parent
ROWS, LENGTHS = Artifact("rows.pkl"), Artifact("lengths.json")

@dataclass(frozen=True)
class Scale(Options):
    "lengths"

    scale: int = option(1, "how many times as long")

PIPELINE = Pipeline(
    "toy",
    [StepSpec("1/1", str(HERE / "1_lengths.py"), "lengths of texts", (ROWS,), (LENGTHS,), (Scale,))],
    common=(Common,),
    facts=lambda options: {},
    read=lambda folder, artifact: read_pickle(folder / artifact.path),
    step=Step,
    default="Toy_data",
)
"""


def test_a_new_step_is_one_row_and_one_script(tmp_path):
    """It has options, help, records, staleness, a place in a run, and messages, and nothing else had to be written."""
    (tmp_path / "toy_system.py").write_text(SYSTEM)
    (tmp_path / "1_lengths.py").write_text(SCRIPT.format(root=str(ROOT), tests=str(tmp_path)))

    def script(*words):
        command = [sys.executable, str(tmp_path / "1_lengths.py"), "--dataset", "Toy_data", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    folder = tmp_path / "data" / "Toy_data"
    missing = script("--data_root", "data")
    assert missing.returncode == 2
    assert "data/Toy_data/rows.pkl is missing" in missing.stderr
    folder.mkdir(parents=True)
    (folder / "rows.pkl").write_bytes(pickle.dumps([{"text": "four"}], protocol=5))
    first = script("--data_root", "data", "--scale", 3)
    assert first.returncode == 0, first.stderr
    assert json.loads((folder / "lengths.json").read_text()) == [{"length": 12}]
    assert "complete:" in script("--data_root", "data", "--scale", 3).stdout
    assert "out of date (scale changed)" in script("--data_root", "data", "--scale", 2).stdout
    assert "did you mean --scale?" in script("--scal", 2).stderr
    assert "how many times as long" in script("--help").stdout
    record = json.loads((folder / "lengths.json.json").read_text())["made_from"]
    assert record["settings"] == {"scale": 2, "seed": 42, "limit": None}
    assert record["origins"] == {"scale": "command line"}


@pytest.mark.parametrize(
    ("system", "step", "words", "command"),
    [
        ("reason4rec", "3/9", ("--history_length", "5"), "python 3_Predictor/9_diagnosis.py"),
        ("twice_rec", "T/12", ("--cases", "20"), "python TWiCE_Rec/12_compare_rewards.py"),
        ("gream", "G/12", ("--cases", "20"), "python GREAM/12_compare_parts.py"),
    ],
)
def test_what_a_run_told_to_run_next_lacked_the_options_of_the_run(system, step, words, command):
    pipeline = load(system)
    given, found = parse(pipeline, ["--system", system, "--dataset", "My_data", *words, "--overwrite", "--to", step])
    told = shown(pipeline, pipeline[step], found, given)
    assert told == f"{command} --dataset=My_data {words[0]}={words[1]}"
