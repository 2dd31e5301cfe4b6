"""What is out of date beside what records tell: adapters of another base or generator, and lists of other settings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.llm.adapters import adapter_settings
from reason4rec.run import files
from reason4rec.run.files import Artifact, adapter
from reason4rec.run.staleness import why_old
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream.prompts import DIRECT
from reason4rec.systems.twice_rec import staleness
from reason4rec.systems.twice_rec.artifacts import ITEMS, SASREC, SEQUENCES

if TYPE_CHECKING:
    from reason4rec.systems.gream.step import GeneratorStep

POLICIES = frozenset(of.path for of in a.BY_ADVANTAGE.values())
OWN = {"mode", "positionwise", "draws", "draw_temperature"}  # settings that lists to be compared need not share


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

    It must go on the base that is there, and one that a reward trained come from the generator that is there, also
    where it has no record.
    """
    one, start = adapter(name), step.path(a.GENERATOR)
    path = step.path(one)
    if why := why_old(step.pipeline, step.path, one):
        return why
    if name in POLICIES and path.exists() and start.exists():
        from reason4rec.training.adapters import sha256_of_weights

        if why := of_adapter(step, a.GENERATOR.path):
            return f"needs {a.GENERATOR.path}, which {why}"
        if adapter_settings(path).get("started_from") != sha256_of_weights(start):
            return f"was trained from another {a.GENERATOR.path} than the one that is there; {step.pipeline.again(one)}"
    return of_base(step, name)


def of_list(step: "GeneratorStep", listed: Artifact, name: str) -> str:
    """Why the list of an adapter is out of date, and what to run; empty where it is not, or was put there by hand."""
    return staleness.of_maker(step, listed, name, of_adapter) or why_old(step.pipeline, step.path, listed)


def of_settings(step: "GeneratorStep", name: str, mode: str, split: str) -> str:
    """Why the list of a model is not of the settings of those that it is compared with; empty where it is.

    These are the generator's in the direct mode, and in that of the model.
    """
    listed, firsts = a.ranked(name, split), [f"generator_{one}" for one in dict.fromkeys((DIRECT, mode))]
    found = (
        staleness.of_settings(step, listed, a.ranked(first, split), f"the list of {first}", OWN) for first in firsts
    )
    return next(filter(None, found), "")


def of_sasrec(step: "GeneratorStep") -> str:
    """Why SASRec is out of date, and what to run; empty where it is not, or was put there by hand."""
    return why_old(step.pipeline, step.path, SASREC)
