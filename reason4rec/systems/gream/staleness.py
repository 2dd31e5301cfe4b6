"""What is out of date: an adapter that was trained from others than those that are there, and a list of such a one.

Steps are run by hand too, in any order, so that a file can be there whose inputs have changed since. What was put there
by hand has no record, and is taken as it is.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.llm.adapters import adapter_settings
from reason4rec.run import files, records
from reason4rec.run.files import Artifact, adapter
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.twice_rec.artifacts import ITEMS, SEQUENCES

if TYPE_CHECKING:
    from reason4rec.systems.gream.step import GeneratorStep

POLICIES = frozenset(of.path for of in a.BY_ADVANTAGE.values())


def list_inputs(name: str) -> Sequence[Artifact]:
    """What the list of an adapter of this name is made from."""
    return (SEQUENCES, ITEMS, a.SEMANTIC_IDS, a.BASE, adapter(name))


def of_base(step: "GeneratorStep", name: str) -> str:
    """Why an adapter does not go on the base that is there, and what to run; empty where it does, or either lacks."""
    path, base = step.path(adapter(name)), step.path(a.BASE)
    if not (path.exists() and base.exists()) or adapter_settings(path).get("base_sha256") == files.sha256(base):
        return ""
    return f"was trained on another {a.BASE.path} than the one that is there; {step.pipeline.again(adapter(name))}"


def of_adapter(step: "GeneratorStep", name: str) -> str:
    """Why an adapter is out of date, and what to run; empty where it is not, or is not there.

    One that a reward trained must come from the generator that is there, the one with shuffled rows from its rows.
    """
    one, rows, start = adapter(name), step.path(a.INSTRUCT_ROWS), step.path(a.GENERATOR)
    path = step.path(one)
    if not path.exists():
        return ""
    if name in POLICIES and start.exists():
        from reason4rec.training.adapters import sha256_of_weights

        if adapter_settings(path).get("started_from") != sha256_of_weights(start):
            return f"was trained from another {a.GENERATOR.path} than the one that is there; {step.pipeline.again(one)}"
    record = records.read_record(path) if one == a.SHUFFLED and rows.exists() else None
    if record and record["made_from"]["inputs"].get(a.INSTRUCT_ROWS.path) != files.sha256(rows):
        return f"was trained on other rows than those that are there; {step.pipeline.again(one)}"
    return of_base(step, name)


def of_list(step: "GeneratorStep", listed: Artifact, name: str) -> str:
    """Why the list of an adapter is out of date, and what to run; empty where it is not, or was put there by hand."""
    path = step.path(adapter(name))
    record = records.read_record(step.path(listed))
    if record is None:
        return ""
    if not path.exists():
        return f"its {path.name} is not there; run {step.pipeline.script_of(adapter(name))}"
    if why := of_adapter(step, name):
        return f"its {path.name} {why}"
    for one in list_inputs(name):
        if step.path(one).exists() and record["made_from"]["inputs"].get(one.path) != files.sha256(step.path(one)):
            return f"was made with another {one.path} than the one that is there; {step.pipeline.again(listed)}"
    return ""
