"""Which models recommend for the cases of a split, and the part of the step that each of them is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import recommending, staleness
from reason4rec.systems.gream.options import Models, Questions, Restating
from reason4rec.systems.twice_rec.options import Cases, Split
from reason4rec.systems.twice_rec.ranking_runs import chosen

if TYPE_CHECKING:
    from reason4rec.systems.gream.step import GeneratorStep


def models(step: "GeneratorStep") -> list[recommending.Model]:
    """The models that are asked for, or all that are trained and current; InputError as for `chosen`."""
    return chosen(step, named(step), recommending.trained, staleness.of_adapter, a.GENERATOR)


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
    direct = model.mode == recommending.DIRECT
    if direct:  # which writes nothing before its list
        options = {name: options[name] for name in ("beams", "length_penalty")}
    if model.positionwise:
        options["kept"] = "all beams"
    return step.part(
        staleness.list_inputs(model.adapter),
        [a.ranked(model.name, split), a.written(model.name, split)],
        {"mode": model.mode, "positionwise": model.positionwise, "split": split, "cases": step[Cases].cases} | options,
        (Questions, Model) if direct else (Questions, Restating, Model),
    )


def recommend(step: "GeneratorStep", models: Sequence[recommending.Model]) -> None:
    """Lets models recommend for the cases of the step's split, one after the other, but those that have done so."""
    from reason4rec.llm.bases import free

    step.check_prompts()
    cases, options = step.judged_cases(step[Split].split), step[Models]
    for model in models:
        part = part_of(step, model)
        if part.done():
            continue
        generator = part.language_model(model.adapter)
        tables = recommending.recommended(part, generator, cases, model, options)
        for path, table in zip(part.outputs, tables):
            part.write(path, table)
        part.summary(len(cases), len(tables[0]), model=model.name, prompts_shortened=generator.shortened)
        del generator
        free()
