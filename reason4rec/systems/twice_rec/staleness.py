"""What is out of date beside what records tell: an adapter of another recommender, and ranks of other settings."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from reason4rec.llm.adapters import adapter_settings
from reason4rec.run import records
from reason4rec.run.files import Artifact, adapter
from reason4rec.run.staleness import why_old
from reason4rec.systems.twice_rec import artifacts as a

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

POLICIES = frozenset(of.path for of in a.BY_REWARD.values())
# Settings that ranks to be compared need not share.
OWN = frozenset({"task", "draws", "draw_temperature", "draw_top_k", "draw_top_p"})


def rank_inputs(name: str) -> Sequence[Artifact]:
    """What the ranks of an adapter of this name are made from."""
    return (a.SEQUENCES, a.ITEMS, a.CANDIDATES, adapter(name))


def of_adapter(step: "RecommenderStep", name: str) -> str:
    """Why an adapter is out of date, and what to run; empty where it is not, or is not there.

    One that a reward trained must come from the recommender that is there, also where it has no record.
    """
    if why := why_old(step.pipeline, step.path, adapter(name)):
        return why
    path, start = step.path(adapter(name)), step.path(a.RECOMMENDER)
    if name not in POLICIES or not (path.exists() and start.exists()):
        return ""
    if why := of_adapter(step, a.RECOMMENDER.path):
        return f"needs {a.RECOMMENDER.path}, which {why}"
    from reason4rec.training.adapters import sha256_of_weights

    if adapter_settings(path).get("started_from") == sha256_of_weights(start):
        return ""
    now = f"another {a.RECOMMENDER.path} than the one that is there"
    return f"was trained from {now}; {step.pipeline.again(adapter(name))}"


def of_maker(step: "RecommenderStep", made: Artifact, name: str, of_adapter: Callable[..., str]) -> str:
    """Why the adapter of this name, which made a file, is out of date by `of_adapter`, or that it is not there.

    Empty where it is neither, or the file was put there by hand.
    """
    path = step.path(adapter(name))
    if records.read_record(step.path(made)) is None:
        return ""
    if not path.exists():
        return f"its {path.name} is not there; run {step.pipeline.script_of(adapter(name))}"
    why = of_adapter(step, name)
    return f"its {path.name} {why}" if why else ""


def of_settings(step: "RecommenderStep", made: Artifact, beside: Artifact, what: str, own: Collection[str]) -> str:
    """Which setting a file does not share with the one that it stands `beside`, and what to run; empty where none.

    `what` names that one, and `own` the settings that need not be shared.
    """
    here, there = (records.settings_of(step.path(one)) for one in (made, beside))
    for setting in sorted(here.keys() & there.keys() - own):
        if here[setting] != there[setting]:
            return f"was made with another {setting} than {what}; {step.pipeline.again(made)}"
    return ""


def of_ranks(step: "RecommenderStep", model: str, name: str, split: str) -> str:
    """Why the ranks of a model, with the adapter of this name, are out of date, and what to run; empty where not.

    They must have the settings of those of the supervised recommender, beside which they stand.
    """
    ranks, first = a.ranked(model, split), a.ranked("recommender", split)
    if why := of_maker(step, ranks, name, of_adapter):
        return why
    why = why_old(step.pipeline, step.path, ranks)
    why = why or of_settings(step, ranks, first, "the ranks of recommender", OWN)
    return f"it {why}" if why else ""
