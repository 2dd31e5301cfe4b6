"""What is out of date: an adapter of other rows or of another recommender, and ranks of other inputs or settings.

Steps are run by hand too, in any order, so that a file can be there whose inputs have changed since. What was put there
by hand has no record, and is taken as it is.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from reason4rec.llm.adapters import adapter_settings
from reason4rec.run import files, records
from reason4rec.run.files import Artifact, adapter
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

    One that a reward trained must come from the recommender that is there, and that one from the rows that are there.
    """
    path, start = step.path(adapter(name)), step.path(a.RECOMMENDER)
    if not path.exists():
        return ""
    if name not in POLICIES:
        return of_rows(step, adapter(name), a.INSTRUCT_ROWS, (a.SEQUENCES, a.ITEMS, a.CANDIDATES))
    if not start.exists():
        return ""
    if why := of_adapter(step, a.RECOMMENDER.path):
        return f"needs {a.RECOMMENDER.path}, which {why}"
    from reason4rec.training.adapters import sha256_of_weights

    if adapter_settings(path).get("started_from") == sha256_of_weights(start):
        return ""
    now = f"another {a.RECOMMENDER.path} than the one that is there"
    return f"was trained from {now}; {step.pipeline.again(adapter(name))}"


def of_rows(step: "RecommenderStep", learner: Artifact, rows: Artifact, made_of: Sequence[Artifact]) -> str:
    """Why an adapter learned others than the `rows` that are there, or these are out of date; empty where neither."""
    record, path = records.read_record(step.path(learner)), step.path(rows)
    if record is None or not path.exists():
        return ""
    if record["made_from"]["inputs"].get(rows.path) != files.sha256(path):
        return f"was trained on other rows than those that are there; {step.pipeline.again(learner)}"
    # Among the targets of other sequences may be what the rows show.
    why = of_inputs(step, rows, made_of)
    return f"learned {rows.path}, which {why}" if why else ""


def of_inputs(step: "RecommenderStep", made: Artifact, inputs: Sequence[Artifact]) -> str:
    """Which of its inputs a file was made with another one of than is there, and what to run; empty where with none."""
    record = records.read_record(step.path(made))
    for one in inputs if record else ():
        if step.path(one).exists() and record["made_from"]["inputs"].get(one.path) != files.sha256(step.path(one)):
            return f"was made with another {one.path} than the one that is there; {step.pipeline.again(made)}"
    return ""


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
    of_both = (records.read_record(step.path(one)) for one in (made, beside))
    here, there = (of["made_from"]["settings"] if of else {} for of in of_both)
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
    why = of_inputs(step, ranks, rank_inputs(name)) or of_settings(step, ranks, first, "the ranks of recommender", OWN)
    return f"it {why}" if why else ""
