"""Training the collaborative model of a dataset, its card, and what it says of any item."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case, cases, numbered, training_parts
from reason4rec.errors import InputError
from reason4rec.evaluation import ranking
from reason4rec.llm.base import resolve_device
from reason4rec.run import files, markdown
from reason4rec.run.records import write_record
from reason4rec.systems.twice_rec import collaborative
from reason4rec.systems.twice_rec.artifacts import FOLDER, SASREC
from reason4rec.systems.twice_rec.options import Collaborative
from reason4rec.systems.twice_rec.popularity import GATES, beats, popularity
from reason4rec.systems.twice_rec.rewards import MATCH
from reason4rec.systems.twice_rec.sasrec_recipe import Recipe

if TYPE_CHECKING:
    from reason4rec.systems.twice_rec.sasrec import SasRec
    from reason4rec.systems.twice_rec.step import RecommenderStep

LEAST_BATCHES = 28  # of an epoch


def recipe_of(step: "RecommenderStep") -> Recipe:
    """How the model is trained: on few users in smaller batches and with more patience, since an epoch has few steps.

    Else it ends on the plateau where it has learned the popularity of the items and nothing more (seen on the demo).
    """
    options, recipe = step[Collaborative], Recipe()
    recipe = replace(recipe, epochs=options.epochs_most, loss=options.sasrec_loss)
    users = step.sequences["user_id"].nunique()
    if users >= LEAST_BATCHES * recipe.batch:
        return recipe
    while recipe.batch > 1 and users < LEAST_BATCHES * recipe.batch:
        recipe = replace(recipe, batch=recipe.batch // 2)
    return replace(recipe, patience=2 * recipe.patience)


def settings(step: "RecommenderStep") -> Mapping[str, object]:
    """All that decides the weights beside the sequences and lists."""
    return {"recipe": asdict(recipe_of(step))}


def train(step: "RecommenderStep") -> "tuple[SasRec, dict, np.ndarray]":
    """The trained model, its card, and how often each item was chosen in the training part.

    A model that does not beat that count on the validation is told: no reward may weigh by it.
    """
    from reason4rec.systems.twice_rec import sasrec, sasrec_training

    item_ids = [item.item_id for item in step.catalogue]
    whole = numbered(step.sequences, item_ids)
    training = training_parts(whole)
    counts = popularity(training, len(item_ids))
    shown, targets = {}, {}
    for split in ("valid", "test"):
        lists, of_split = step.candidates(split), cases(step.sequences, split)
        place = {item: number for number, item in enumerate(item_ids, start=1)}
        shown[split] = np.array([[place[item] for item in lists[case.user_id]] for case in of_split])
        targets[split] = np.array([lists[case.user_id].index(case.target.item_id) for case in of_split])
    step.scratch = (files.staged_path(step.folder / FOLDER / "sasrec"),)
    model, curve = sasrec_training.train(
        training,
        sasrec_training.Valid(training, np.array([one[-2] for one in whole]), shown["valid"]),
        len(item_ids),
        recipe_of(step),
        step.common.seed,
        resolve_device(step[Collaborative].device),
        step.scratch[0],
    )
    histories = {"valid": training, "test": [one[:-1] for one in whole]}
    metrics = {
        split: {
            "SASRec": _means(sasrec.score(model, histories[split], shown[split]), targets[split]),
            "popularity": _means(counts[shown[split] - 1], targets[split]),
        }
        for split in shown
    }
    card = {
        "dataset": step.common.dataset,
        "users": len(whole),
        "items": len(item_ids),
        "candidates": int(shown["test"].shape[1]),
        "epochs": len(curve),
        "item_share": round(sasrec.means_and_share(model, histories["test"])[1], 4),
        "metrics": metrics,
        "beats_popularity": beats(metrics["valid"]["SASRec"], metrics["valid"]["popularity"]),
        "curve": curve,
    }
    return model, card, counts


def check_beats_popularity(step: "RecommenderStep") -> None:
    """InputError where the model does not beat popularity, by its card, so that no reward may weigh by it."""
    path = step.path(SASREC)
    of_split = json.loads((path / "card.json").read_text(encoding="utf-8")).get("metrics", {}).get("valid")
    if of_split and not beats(of_split["SASRec"], of_split["popularity"]):
        values = ", ".join(f"{name} {of_split['SASRec'][name]} to {of_split['popularity'][name]}" for name in GATES)
        raise InputError(
            f"{path} does not beat popularity on valid ({values}): it knows no user's taste and would teach none; take "
            f"--reward {MATCH}, or make the sequences of more users"
        )


def _means(scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    values = ranking.metrics(ranking.ranks(scores, targets))
    return {name: round(float(value.mean()), 4) for name, value in values.items()}


def scores(step: "RecommenderStep", model: "SasRec", counts: np.ndarray) -> pd.DataFrame:
    """The table of what the model says of all candidates."""
    lists = {split: step.candidates(split) for split in ("train", "valid", "test")}
    item_ids = [item.item_id for item in step.catalogue]
    return collaborative.table(model, step.sequences, item_ids, lists, counts)


def catalogue_logits(step: "RecommenderStep", of: Sequence[Case]) -> np.ndarray:
    """(cases, items) logits of every item of the catalogue after the histories of cases."""
    from reason4rec.systems.twice_rec import sasrec

    place = {item.item_id: number for number, item in enumerate(step.catalogue, start=1)}
    histories = [np.array([place[event.item_id] for event in case.history]) for case in of]
    return sasrec.catalogue_scores(sasrec.load(step.path(SASREC)), histories)


def save(step: "RecommenderStep", model: "SasRec", card: dict) -> None:
    """Writes the model with its card and its record, whole or not at all."""
    from reason4rec.systems.twice_rec import sasrec

    out = step.outputs[0]
    files.check_place(out)
    staged = files.staged_path(out)
    shutil.rmtree(staged, ignore_errors=True)
    sasrec.save(model, staged)
    files.write_text(staged / "card.json", json.dumps(card, indent=1))
    write_record(out, step.provenance | {"execution": step.execution()}, files.sha256(staged))
    files.take_place(out)


def as_text(card: dict) -> str:
    """The card for a terminal."""
    rows = [
        [split, name, *(f"{value:.4f}" for value in of.values())]
        for split, by_model in card["metrics"].items()
        for name, of in by_model.items()
    ]
    header = ["split", "model", *card["metrics"]["test"]["SASRec"]]
    beaten = (
        "" if card["beats_popularity"] else "\nnote: it does not beat popularity on valid: no reward may weigh by it"
    )
    return (
        f"{markdown.table(header, rows)}\n"
        f"The item alone explains {card['item_share']:.0%} of the variance of the logits over the catalogue.{beaten}"
    )
