"""The rows of the six tasks that tie semantic ids to texts and to what users choose. Paper: alignment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from reason4rec.errors import InputError
from reason4rec.llm.prompt import training_row
from reason4rec.systems.gream import prompts
from reason4rec.systems.gream.pasts import Past, window
from reason4rec.systems.gream.prompts import CUT, FOLDER, FROM_ITEM, FUSION, PREFERENCE, SEARCH, SEQREC, TASKS, TO_ITEM
from reason4rec.systems.gream.replies import without_tokens
from reason4rec.systems.gream.texts import UserTexts
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.prompts import short

PASSES = 3  # released code
FUSION_ROWS = 50_000  # of a pass; released code
AN_ITEM = 2  # wordings of each item, of item2index and of index2item; released code
_ENDS = " .,;:!?-–—|"


@dataclass(frozen=True)
class Material:
    """What rows are made from.

    `pasts` are the training parts of the users, `items` the catalogue with the descriptions to learn, `ids` the
    semantic id of each item as text, and `users` the texts on each user. `cut` is in characters of a description.
    InputError where an item has no semantic id.
    """

    pasts: Sequence[Past]
    items: Catalogue
    ids: Mapping[str, str]
    users: Mapping[str, UserTexts] = field(default_factory=dict)
    cut: int = CUT
    folder: Path = FOLDER

    def __post_init__(self) -> None:
        if absent := next((item.item_id for item in self.items if item.item_id not in self.ids), None):
            raise InputError(f"item {absent}: no semantic id; run GREAM/3_semantic_ids.py again")

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """What can be said of each item: its semantic id, its title and, where it has one, its description."""
        return {item.item_id: self._of(item.item_id) for item in self.items}

    def _of(self, item_id: str) -> dict[str, str]:
        item = self.items[item_id]
        title = without_tokens(item.title).strip() or prompts.NONE
        found = {"item": self.ids[item_id], "title": title.rstrip(_ENDS) or title}
        if description := without_tokens(short(item.description, self.cut)).strip():
            found |= {"description": description, "both": f"{found['title']}\n\n{description}"}
        return found

    def history(self, past: Past, end: int) -> dict[str, list[str]]:
        """The history of the target at place `end`, in semantic ids and in titles."""
        shown = [self.texts[event.item_id] for event in window(past.events, end)]
        return {"history": [one["item"] for one in shown], "titles": [f'"{one["title"]}"' for one in shown]}


def alignment(
    material: Material,
    passes: int = PASSES,
    fusion_rows: int = FUSION_ROWS,
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
) -> list[list[dict]]:
    """The rows of each pass, in the order of the tasks; wordings and choices are drawn anew in each pass."""
    makers: dict[str, Callable[[np.random.Generator], Iterator[dict]]] = {
        SEQREC: lambda rng: _sequential(material, rng),
        TO_ITEM: lambda rng: _of_items(material, TO_ITEM, rng),
        FROM_ITEM: lambda rng: _of_items(material, FROM_ITEM, rng),
        FUSION: lambda rng: _fused(material, fusion_rows, rng),
        SEARCH: lambda rng: _searched(material, rng),
        PREFERENCE: lambda rng: _preferred(material, rng),
    }
    found = []
    for number in range(passes):
        rng = np.random.default_rng([seed, number])
        found.append([row for task in tasks for row in makers[task](rng)])
    return found


def rows_a_pass(pasts: Sequence[Past], n_items: int, fusion_rows: int = FUSION_ROWS) -> dict[str, int]:
    """How many rows a pass has of each task, where every item has a description and every user all texts."""
    places = sum(len(past.events) - 1 for past in pasts)
    users, of_items = len(pasts), AN_ITEM * n_items
    counts = (places, of_items, of_items, min(fusion_rows, places), users, users)
    return dict(zip(TASKS, counts, strict=True))


def _sequential(material: Material, rng: np.random.Generator) -> Iterator[dict]:
    """A row for each item of a training part but the first."""
    for past, place in _places(material.pasts):
        yield _row(material, SEQREC, _at(material, past, place), rng)


def _fused(material: Material, most: int, rng: np.random.Generator) -> Iterator[dict]:
    """Rows for places drawn at random, in their order, that have texts on one side and semantic ids on the other."""
    places = list(_places(material.pasts))
    for drawn in sorted(rng.choice(len(places), min(most, len(places)), replace=False).tolist()):
        yield _row(material, FUSION, _at(material, *places[drawn]), rng)


def _of_items(material: Material, task: str, rng: np.random.Generator) -> Iterator[dict]:
    """AN_ITEM rows for each item, of different wordings where there are as many."""
    for values in material.texts.values():
        yield from (_asked(material, one, values) for one in _drawn(material, task, values, rng, AN_ITEM))


def _searched(material: Material, rng: np.random.Generator) -> Iterator[dict]:
    """A row for each user that leads to the last item of the training part; none where there are no texts on a user."""
    for past in material.pasts:
        said = material.users.get(past.user_id, UserTexts())
        values = _at(material, past, len(past.events) - 1) | said.drawn(rng)
        if said.wishes() or said.preferences():
            yield _row(material, SEARCH, values, rng)


def _preferred(material: Material, rng: np.random.Generator) -> Iterator[dict]:
    """A row for each user whose preferences are known, from the history before the last item of the training part."""
    for past in material.pasts:
        said = material.users.get(past.user_id, UserTexts())
        if said.preferences():
            yield _row(material, PREFERENCE, _at(material, past, len(past.events) - 1) | said.drawn(rng), rng)


def _places(pasts: Sequence[Past]) -> Iterator[tuple[Past, int]]:
    return ((past, place) for past in pasts for place in range(1, len(past.events)))


def _at(material: Material, past: Past, place: int) -> dict[str, str | list[str]]:
    return material.texts[past.events[place].item_id] | material.history(past, place)


def _drawn(
    material: Material, task: str, values: prompts.Values, rng: np.random.Generator, count: int
) -> list[prompts.Wording]:
    """Different wordings of a task, drawn evenly from those whose fields all have a value."""
    usable = [one for one in prompts.wordings(task, material.folder) if one.needs <= values.keys()]
    if not usable:
        raise InputError(
            f"{material.folder / task}.txt: no wording without the fields that are missing here (there are "
            f"{', '.join(sorted(values))}); add one"
        )
    if count == 1:
        return [usable[rng.integers(len(usable))]]  # many times as fast as a choice
    return [usable[k] for k in rng.choice(len(usable), count, replace=len(usable) < count)]


def _row(material: Material, task: str, values: prompts.Values, rng: np.random.Generator) -> dict:
    return _asked(material, _drawn(material, task, values, rng, 1)[0], values)


def _asked(material: Material, wording: prompts.Wording, values: prompts.Values) -> dict:
    return training_row(prompts.ask(wording, values, folder=material.folder), prompts.answer(wording, values))
