"""Which recommenders rank the cases of a split, and the part of the step that each of them is."""

from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.run.files import adapter
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import recommending
from reason4rec.systems.twice_rec.options import Cases, Models, Prompts, Split

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep


def models(step: "RecommenderStep") -> list[recommending.Model]:
    """The models that are asked for, or all that are trained; InputError for one that is unknown."""
    found = named(step) or recommending.trained(step)
    if not found:
        raise step.pipeline.missing(step.path(a.RECOMMENDER), a.RECOMMENDER)
    return found


def named(step: "RecommenderStep") -> list[recommending.Model]:
    """The models that are asked for by name; InputError for one that is unknown."""
    if unknown := [name for name in step[Models].models if name not in recommending.MODELS]:
        raise InputError(f"--models {unknown[0]}: no such model; there are {', '.join(recommending.MODELS)}")
    return [recommending.MODELS[name] for name in dict.fromkeys(step[Models].models)]


def parts(step: "RecommenderStep") -> list["RecommenderStep"]:
    """The parts of the step, one for each model."""
    return [part_of(step, model) for model in models(step)]


def part_of(step: "RecommenderStep", model: recommending.Model) -> "RecommenderStep":
    """The part of the step in which a model ranks: only its own adapter can put that out of date."""
    split = step[Split].split
    return step.part(
        [a.SEQUENCES, a.ITEMS, a.CANDIDATES, adapter(model.adapter)],
        [a.ranked(model.name, split), a.written(model.name, split)],
        {"task": model.task, "split": split, "cases": step[Cases].cases} | step[Models].recorded(),
        (Prompts, Model),
    )
