"""Which recommenders rank the cases of a split, the part of the step that each is, and whose ranks are there."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from reason4rec.errors import InputError
from reason4rec.llm.options import Model
from reason4rec.run import files
from reason4rec.run.files import Artifact, adapter
from reason4rec.systems.twice_rec import artifacts as a
from reason4rec.systems.twice_rec import recommending, staleness
from reason4rec.systems.twice_rec.options import Cases, Models, Prompts, Split

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.step import RecommenderStep


def models(step: "RecommenderStep") -> list[recommending.Model]:
    """The models that are asked for, or all that are trained and current; InputError as for `chosen`."""
    return chosen(step, named(step), trained, staleness.of_adapter, a.RECOMMENDER)


def chosen(
    step: "RecommenderStep", asked: list, trained: Callable, of_adapter: Callable[..., str], start: Artifact
) -> list:
    """The models `asked` for, or all that are `trained` and current.

    InputError for one that is asked for and out of date by `of_adapter`, and where there is none that is current, with
    what is wrong with the adapter that all `start` from.
    """
    for one in asked:
        if why := of_adapter(step, one.adapter):
            raise InputError(f"--models {one.name}: {one.adapter} {why}")
    if found := asked or trained(step):
        return found
    path = step.path(start)
    if path.exists():
        raise InputError(f"{path} {of_adapter(step, start.path)}")
    raise step.pipeline.missing(path, start)


def trained(step: "RecommenderStep") -> list[recommending.Model]:
    """The models whose adapters are there, in the order of the tables; one out of date is left out, and told."""
    kept = []
    for one in recommending.MODELS.values():
        path = step.path(adapter(one.adapter))
        if not path.exists():
            continue
        if why := staleness.of_adapter(step, one.adapter):
            files.note(path, f"left out: it {why}")
        else:
            kept.append(one)
    return kept


def there(step: "RecommenderStep", split: str) -> list[str]:
    """The models whose ranks of a split are there and current, in the order of the tables; one left out is told."""
    found = []
    for name, model in recommending.MODELS.items():
        path = step.path(a.ranked(name, split))
        if not path.exists():
            continue
        if why := staleness.of_ranks(step, name, model.adapter, split):
            files.note(path, f"left out: {why}")
        else:
            found.append(name)
    return found


def named(step: "RecommenderStep") -> list[recommending.Model]:
    """The models that are asked for by name; InputError for one that is unknown."""
    if unknown := [name for name in step[Models].models if name not in recommending.MODELS]:
        raise InputError(f"--models {unknown[0]}: no such model; there are {', '.join(recommending.MODELS)}")
    return [recommending.MODELS[name] for name in dict.fromkeys(step[Models].models)]


def parts(step: "RecommenderStep") -> list["RecommenderStep"]:
    """The parts of the step, one for each model."""
    return [part_of(step, model, step[Split].split) for model in models(step)]


def part_of(step: "RecommenderStep", model: recommending.Model, split: str) -> "RecommenderStep":
    """The part of the step in which a model ranks a split: only its own adapter can put that out of date."""
    return step.part(
        staleness.rank_inputs(model.adapter),
        [a.ranked(model.name, split), a.written(model.name, split)],
        {"task": model.task, "split": split, "cases": step[Cases].cases} | step[Models].recorded(),
        (Prompts, Model),
    )
