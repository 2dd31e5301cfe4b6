"""The teacher's rationales: for which cases, by which prompts, and which replies are kept."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from reason4rec.data.sequences import Case
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.systems.twice_rec import prompts
from reason4rec.systems.twice_rec.options import Prompts, RationaleTargets
from reason4rec.systems.twice_rec.replies import NOT_IN_FORM, rationale_of

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep

TEMPERATURE = 0.0  # our decision: one rationale for each case


def targets(step: "RecommenderStep") -> list[Case]:
    """The training cases that get a rationale: all, or as many as are asked for, drawn at random."""
    return step.drawn("train", step[RationaleTargets].rationale_targets)


def prompts_of(step: "RecommenderStep", cases: Sequence[Case]) -> Sequence[Prompt]:
    """The teacher's prompt for each case."""
    shown = step[Prompts]
    ask = partial(prompts.teacher, step.catalogue, fields=shown.fields, cut=shown.cut, folder=shown.folder)
    return OnDemand(ask, [case.history for case in cases], [case.target.item_id for case in cases])


def is_in_form(reply: str) -> bool:
    """Whether a reply has a rationale and a verdict in the form that is asked for."""
    return rationale_of(reply).refused != NOT_IN_FORM
