"""The commands in the docs of TWiCE-Rec: each names a script that is there, with options that it has."""

import re
import shlex

import pytest
from helpers import ROOT

from reason4rec.run.__main__ import parse as parse_run
from reason4rec.run.step import parse
from reason4rec.systems.twice_rec import report
from reason4rec.systems.twice_rec.pipeline import PIPELINE

PAGE = (ROOT / "docs" / "twice_rec.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("command", [one for one in COMMANDS if "TWiCE_Rec/" in one or "run_all.sh" in one])
def test_a_command_can_be_given_as_it_stands(command):
    _, script, *options = shlex.split(command)
    if script == "run_all.sh":
        given, _ = parse_run(PIPELINE, options)
        assert given
    else:
        parse(PIPELINE, PIPELINE.of_script(ROOT / script), options)


def test_the_docs_name_every_step():
    for step in PIPELINE:
        if step.script.startswith("TWiCE_Rec/"):
            assert step.script.removeprefix("TWiCE_Rec/") in PAGE, step.name


def test_the_tables_are_those_of_the_published_results():
    assert report.with_tables(PAGE) == PAGE, "run python -m reason4rec.systems.twice_rec.report"


def test_a_script_is_short_and_flat():
    for path in (ROOT / "TWiCE_Rec").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 90, path.name
