"""The evaluation of a run: its cases, the models that score all items, and what the generators listed and drew."""

from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.run import files
from reason4rec.run.files import Artifact
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import evaluation, full_ranking, recommending, replies, staleness
from reason4rec.systems.gream.full_ranking import POPULARITY
from reason4rec.systems.gream.options import Evaluation
from reason4rec.systems.gream.prompts import REASONED
from reason4rec.systems.twice_rec.artifacts import SASREC
from reason4rec.systems.twice_rec.options import Split
from reason4rec.systems.twice_rec.popularity import popularity

if TYPE_CHECKING:
    from reason4rec.systems.gream.evaluation import Judged
    from reason4rec.systems.gream.full_ranking import Ranked
    from reason4rec.systems.gream.step import GeneratorStep


def judged(step: "GeneratorStep", split: str) -> "tuple[Judged, dict[str, Ranked], float]":
    """The cases of a split, the lists of the models that score all items, and the shrinkage of item-kNN.

    That is chosen on the validation cases, also for cases of the test.
    """
    cases, item_ids = step.judged_cases(split), [item.item_id for item in step.catalogue]
    training = full_ranking.training_part(step.sequences, item_ids)
    shrink = full_ranking.best_shrink(training, step.cases("valid"), item_ids)
    sasrec = next((step.path(one) for one in trained_beside(step)), None)
    baselines = full_ranking.baselines(training, cases, item_ids, shrink, sasrec)
    return evaluation.Judged(cases, item_ids, popularity(training, len(item_ids))), baselines, shrink


def trained_beside(step: "GeneratorStep") -> list[Artifact]:
    """SASRec, where it is there and current; one that is left out is printed."""
    if not (path := step.path(SASREC)).exists():
        return []
    if why := staleness.of_sasrec(step):
        files.note(path, f"left out: it {why}")
        return []
    return [SASREC]


def there(step: "GeneratorStep", split: str) -> list[str]:
    """The models whose lists are there and current; one that is left out is printed."""
    found = []
    for name, model in recommending.MODELS.items():
        path = step.path(listed := a.ranked(name, split))
        if not path.exists():
            continue
        why = staleness.of_list(step, listed, model.adapter) or staleness.of_settings(step, name, model.mode, split)
        if why:
            files.note(path, f"left out: {why}")
        else:
            found.append(name)
    return found


def evaluate(step: "GeneratorStep") -> dict:
    """All tables of the evaluation of a split."""
    split = step[Split].split
    on, baselines, shrink = judged(step, split)
    found = there(step, split)
    lists = {name: (step.read(a.ranked(name, split)), str(step.path(a.ranked(name, split)))) for name in found}
    draws = {}
    for name in found:
        if recommending.MODELS[name].mode == REASONED and len(drawn := drawn_by(step, name, split)):
            draws[name] = (drawn, str(step.path(a.written(name, split))))
    settings = {"split": split, "shrink": shrink}
    against = step[Evaluation].against or POPULARITY
    return evaluation.evaluate(on, baselines, lists, draws, against, step.common.seed, settings)


def drawn_by(step: "GeneratorStep", name: str, split: str) -> pd.DataFrame:
    """The items that the drawn replies of a model answer with, None where that is none."""
    frame = step.read(a.written(name, split))
    frame = frame[frame["draw"] > 0]
    items = [step.ids.item_of(replies.read(text).answer) for text in frame["reply"]]
    return frame[["user_id", "draw"]].assign(item_id=pd.Series(items, frame.index, dtype=object))
