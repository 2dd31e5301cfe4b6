"""Which models recommend for the cases of a split, and the part of the step that each of them is."""

from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.run.files import adapter
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import recommending
from reason4rec.systems.gream.options import Models, Prompts
from reason4rec.systems.twice_rec.artifacts import ITEMS, SEQUENCES
from reason4rec.systems.twice_rec.options import Cases, Split

if TYPE_CHECKING:
    from reason4rec.systems.gream.step import GeneratorStep


def models(step: "GeneratorStep") -> list[recommending.Model]:
    """The models that are asked for, or all that are trained; InputError for one that is unknown."""
    found = named(step) or recommending.trained(step)
    if not found:
        raise step.pipeline.missing(step.path(a.GENERATOR), a.GENERATOR)
    return found


def named(step: "GeneratorStep") -> list[recommending.Model]:
    """The models that are asked for by name; InputError for one that is unknown."""
    if unknown := [name for name in step[Models].models if name not in recommending.MODELS]:
        raise InputError(f"--models {unknown[0]}: no such model; there are {', '.join(recommending.MODELS)}")
    return [recommending.MODELS[name] for name in dict.fromkeys(step[Models].models)]


def parts(step: "GeneratorStep") -> list["GeneratorStep"]:
    """The parts of the step, one for each model."""
    return [part_of(step, model) for model in models(step)]


def part_of(step: "GeneratorStep", model: recommending.Model) -> "GeneratorStep":
    """The part of the step in which a model recommends: only its own adapter can put that out of date."""
    split, options = step[Split].split, step[Models].recorded()
    if model.mode == recommending.DIRECT:  # which writes nothing before its list
        options = {name: options[name] for name in ("beams", "width", "length_penalty")}
    return step.part(
        [SEQUENCES, ITEMS, a.SEMANTIC_IDS, a.BASE, adapter(model.adapter)],
        [a.ranked(model.name, split), a.written(model.name, split)],
        {"mode": model.mode, "positionwise": model.positionwise, "split": split, "cases": step[Cases].cases} | options,
        (Prompts, Model),
    )
