"""A generator at work: it lists items for each case by a beam search along their semantic ids.

In the reasoned mode the thoughts are written greedily up to the answer, and the beams follow them, so that a list is
the same each time. The released code draws ten whole replies instead; those are there too (`--draws`), and are no
list. Items of the history are no answers of a search along the ids. Source: beams as in the released code, along a
trie; the rest is our decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reason4rec.data.sequences import Case
from reason4rec.run import files
from reason4rec.run.files import adapter
from reason4rec.systems.gream import artifacts as a
from reason4rec.systems.gream import staleness
from reason4rec.systems.gream.options import LISTED
from reason4rec.systems.gream.prompts import DIRECT, REASONED
from reason4rec.systems.gream.replies import CLOSE_ANSWER, CLOSE_THINK, OPEN_ANSWER, OPEN_THINK

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.beams import Beam, BeamSearcher
    from reason4rec.llm.prompt import Prompt
    from reason4rec.llm.trie import Trie
    from reason4rec.systems.gream.options import Models
    from reason4rec.systems.gream.step import GeneratorStep


@dataclass(frozen=True)
class Model:
    """A model of the tables: its name, the adapter that it is, and the mode that it is asked in.

    One that is `positionwise` has the mask of the released code: any token that some id has at a position. As there,
    its lists keep what the user has; the evaluation leaves that out and counts it. So all of its beams are kept.
    """

    name: str
    adapter: str
    mode: str
    positionwise: bool = False


def _models() -> list[Model]:
    adapters = {"generator": a.GENERATOR, "shuffled": a.SHUFFLED, **a.BY_ADVANTAGE}
    both = [Model(f"{name}_{mode}", of.path, mode) for name, of in adapters.items() for mode in (DIRECT, REASONED)]
    return [both[0], Model("generator_positionwise", a.GENERATOR.path, DIRECT, positionwise=True), *both[1:]]


MODELS = {one.name: one for one in _models()}


def end_of_thoughts(text: str) -> int | None:
    """Where the thoughts of a reply are finished: after the tag that opens its answer; None where they are not.

    An answer in thoughts is none, as long as they are not closed.
    """
    place, thought = text.find(OPEN_ANSWER), text.find(OPEN_THINK)
    if 0 <= thought < place:
        closed = text.find(CLOSE_THINK, thought)
        place = text.find(OPEN_ANSWER, closed) if closed >= 0 else -1
    return place + len(OPEN_ANSWER) if place >= 0 else None


def end_of_answer(text: str) -> int | None:
    """Where a whole reply is finished: after the tag that closes its answer; None where it is not."""
    opened = end_of_thoughts(text)
    place = -1 if opened is None else text.find(CLOSE_ANSWER, opened)
    return place + len(CLOSE_ANSWER) if place >= 0 else None


def before_the_answer(reply: str) -> str:
    """What the beams follow: a reply up to its answer, with the tags that it lacks."""
    if (end := end_of_thoughts(reply)) is not None:
        return reply[:end]
    text = reply.rstrip()
    if CLOSE_THINK not in text:
        text += f"\n{CLOSE_THINK}" if OPEN_THINK in text else f"{OPEN_THINK}\n{CLOSE_THINK}"
    return f"{text}\n\n{OPEN_ANSWER}"


def recommended(
    step: "GeneratorStep", model: "BeamSearcher", cases: Sequence[Case], of: Model, options: "Models"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a model lists for cases, and what it wrote before, as the tables of `artifacts.ranked` and `written`."""
    asked = step.prompts_of(cases, {}, of.mode)
    replies: list[list[str]] = [[""] for _ in cases]
    begun = None
    if of.mode == REASONED:
        replies = write(model, asked, options, step.common.seed)
        begun = [before_the_answer(one[0]) for one in replies]
    item_ids = [item.item_id for item in step.catalogue]
    trie = trie_of(step, model, of)
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    seen = [[] if of.positionwise else [place[event.item_id] for event in case.history] for case in cases]
    found = model.beams(asked, trie, options.beams, begun, seen, "recommending", options.length_penalty)
    # Of a list that keeps the history, the evaluation leaves that out before it takes the best.
    kept = found if of.positionwise else [beams[:LISTED] for beams in found]
    return tables(cases, kept, trie, item_ids, replies)


def trie_of(step: "GeneratorStep", model: "BeamSearcher", of: Model) -> "Trie":
    """The answers that a model may write, in the order of the catalogue: those that the rows of its mode end with."""
    from reason4rec.llm.trie import of_texts

    end = CLOSE_ANSWER if of.mode == REASONED else ""
    texts = [f"{step.id_texts[item.item_id]}{end}" for item in step.catalogue]
    return of_texts(model.tokenizer, texts, of.positionwise)


def write(model: "LanguageModel", asked: Sequence["Prompt"], options: "Models", seed: int) -> list[list[str]]:
    """The thoughts on each prompt, written greedily, and then as many whole replies as are to be drawn."""
    most, temperature = options.max_new_tokens, options.draw_temperature
    greedy = model.generate(asked, most, what="reasoning", finish=end_of_thoughts, thoughts=True)
    drawn = [
        model.generate(asked, most, temperature, seed + draw, f"draw {draw}", end_of_answer, thoughts=True)
        for draw in range(1, options.draws + 1)
    ]
    return [list(of_prompt) for of_prompt in zip(greedy, *drawn)]


def tables(
    cases: Sequence[Case],
    found: Sequence[Sequence["Beam"]],
    trie: "Trie",
    item_ids: Sequence[str],
    replies: Sequence[Sequence[str]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lists, in which a beam that is no item has no id, and the replies.

    A list with nothing in it is a row without an id, so that every case stands in the table.
    """
    nothing: list[Beam] = [((), float("nan"))]
    listed = [
        (case.user_id, place, item_ids[trie.places[path]] if path in trie.places else None, score)
        for case, beams in zip(cases, found, strict=True)
        for place, (path, score) in enumerate(beams or nothing, start=1)
    ]
    said = [
        (case.user_id, draw, reply)
        for case, of_case in zip(cases, replies, strict=True)
        for draw, reply in enumerate(of_case)
    ]
    return (
        # Else pandas would write a number in the place of an id that is missing.
        pd.DataFrame(listed, columns=list(a.LIST_COLUMNS), dtype=object).astype(
            {"user_id": "str", "place": int, "score": float}
        ),
        pd.DataFrame(said, columns=["user_id", "draw", "reply"]).astype({"reply": "str"}),
    )


def trained(step: "GeneratorStep") -> list[Model]:
    """The models whose adapters are there, in the order of the tables.

    One whose adapter is out of date is left out, which is printed, and so is a mode that was not learned.
    """
    found = {one.adapter: step.path(adapter(one.adapter)) for one in MODELS.values()}
    stale = {name: staleness.of_adapter(step, name) for name, path in found.items() if path.exists()}
    for name, why in stale.items():
        if why:
            files.note(found[name], f"left out: it {why}")
    modes = (DIRECT, REASONED) if step.learned_to_reason else (DIRECT,)
    return [one for one in MODELS.values() if stale.get(one.adapter) == "" and one.mode in modes]
