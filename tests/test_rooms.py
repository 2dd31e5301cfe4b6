"""The rooms of the house: which way they import, that they know no system, and that nothing in them grows too large."""

import ast
import re
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGE = ROOT / "reason4rec"
MODULES = sorted(PACKAGE.rglob("*.py"))
BELOW = {
    "errors": set(),
    "run": {"errors"},
    "data": {"errors", "run"},
    "llm": {"errors", "run"},
    "training": {"errors", "run", "data", "llm"},
    "evaluation": {"errors", "run", "data", "llm"},
    "systems": {"errors", "run", "data", "llm", "training", "evaluation"},
    "front": {"errors", "run", "data", "llm", "training", "evaluation", "systems"},
    "demo": {"errors", "run", "data", "llm", "training", "evaluation", "systems"},
}
SHARED = ("run", "data", "llm", "training", "evaluation")
OF_A_SYSTEM = re.compile(r"\b(Summarizer|Reasoner|Predictor|reason_reward_model|tau|Reason4Rec|TWiCE|GREAM)\b")
LARGE = {
    # Its threads, its lock and what they guard stand together: taken apart, no reader could check them.
    "llm/teacher.py Teacher": 215,
    # The two ways of asking, by token ids and by text, share all that surrounds a request.
    "llm/server.py ServedModel": 179,
    # One command from beginning to end, run once in the life of the demo's model.
    "demo/pretrain.py main": 60,
    # Three models in memory, one after the other, each let go before the next.
    "systems/reason4rec/export.py export": 60,
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else "reason4rec"


def imports_of(path: Path) -> list[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "reason4rec":
            subs = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "reason4rec"
                else [node.module]
            )
            found += subs
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "reason4rec"]
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_rooms_below_it(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    for module in imports_of(path):
        assert room_of(module) in {room, *BELOW[room]}, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.relative_to(PACKAGE).parts[0] in SHARED], ids=name_of)
def test_a_shared_room_knows_no_system_by_name(path):
    assert not OF_A_SYSTEM.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_a_class_and_a_function_fit_in_one_reading(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            most = LARGE.get(f"{name_of(path)} {node.name}", 155 if isinstance(node, ast.ClassDef) else 52)
            assert node.end_lineno - node.lineno + 1 <= most, f"{name_of(path)}: {node.name}"


def test_the_tests_mirror_the_rooms():
    for room in BELOW.keys() - {"errors"}:
        assert list((ROOT / "tests" / room).rglob("test_*.py")), room


def test_a_numbered_script_is_short_and_flat():
    for path in ROOT.glob("[0-9]_*/[0-9]_*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 90, path.name
