"""The reasoned rows: for which targets, what is kept of the teacher's four steps, and what is learned from them.

Paper: curriculum activation; the teacher knows the target, and reasons as if it did not. Targets, the removal of the
fourth step and the form of a row are those of the released code; which texts are refused is our decision.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Event
from reason4rec.errors import InputError
from reason4rec.llm.answers import answer_of
from reason4rec.llm.prompt import OnDemand, Prompt, training_row
from reason4rec.systems.gream import prompts
from reason4rec.systems.gream.pasts import Past, window
from reason4rec.systems.gream.prompts import CUT, FOLDER, REASONED, SEQREC
from reason4rec.systems.gream.texts import NO_ANSWER, NOT_IN_FORM, TOKENS, tells
from reason4rec.systems.twice_rec.catalogue import Catalogue
from reason4rec.systems.twice_rec.hindsight import hindsight
from reason4rec.systems.twice_rec.replies import ANY_TAG

TEMPERATURE = 0.0  # our decision: one text for each target
FIRST = 4  # place of the first target in a sequence: the shortest history has as many items; released code
MOST_WORDS = 300  # of the steps 1 to 3
NO_CONNECTION = "no connection"
STEPS = 3  # that are kept
_STEP = re.compile(r"\bStep[ \t]*(\d)\b", re.IGNORECASE)
_LINE = re.compile(r"^[ \t#>*_]*Step[ \t]*(\d)[ \t*_]*[:.)][ \t*_]*", re.IGNORECASE | re.MULTILINE)
_NONE = re.compile(r"[\s*_\"']*none[\s*_\"'.!]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """An item of a user's training part that is reasoned towards: its place in the sequence, and the history before."""

    user_id: str
    position: int
    history: tuple[Event, ...]
    item_id: str


def targets(pasts: Sequence[Past], most: int | None = None, seed: int = 0) -> list[Target]:
    """The targets from the fifth item of each training part on, in their order; `most` of them drawn at random.

    A history has 4 to 20 items. Nothing of the validation and the test is in them.
    """
    found = [
        Target(past.user_id, place, window(past.events, place), past.events[place].item_id)
        for past in pasts
        for place in range(FIRST, len(past.events))
    ]
    if most is None or most >= len(found):
        return found
    drawn = np.random.default_rng(seed).choice(len(found), most, replace=False)
    return [found[place] for place in sorted(drawn.tolist())]


def prompts_of(chosen: Sequence[Target], items: Catalogue, cut: int = CUT, folder: Path = FOLDER) -> Sequence[Prompt]:
    """The teacher's prompt for each target."""
    ask = partial(prompts.reasoning, items, cut=cut, folder=folder)
    return OnDemand(ask, [one.history for one in chosen], [one.item_id for one in chosen])


def steps_of(reply: str | None, title: str, history: Iterable[str] = ()) -> tuple[str, str]:
    """The first three steps of a teacher's reply, a line each, and why they are refused: empty where they are not.

    They go up to the last full stop before the last mention of step 4. Refused are replies of another form, steps with
    tags, of more than 300 words, with a phrase of hindsight, or with the title of the target, unless an item of the
    history has it too; and an answer of none, by which a teacher says that nothing leads to the target.
    """
    text = answer_of(reply or "")
    if not text:
        return "", NO_ANSWER
    if _NONE.fullmatch(text):
        return "", NO_CONNECTION
    fourth = [found.start() for found in _STEP.finditer(text) if found[1] == str(STEPS + 1)]
    kept = text[: text.rfind(".", 0, fourth[-1]) + 1] if fourth else ""
    labels = list(_LINE.finditer(kept))
    if [found[1] for found in labels] != [str(number) for number in range(1, STEPS + 1)] or labels[0].start():
        return "", NOT_IN_FORM
    ends = [found.start() for found in labels[1:]] + [len(kept)]
    bodies = [" ".join(kept[found.end() : end].split()) for found, end in zip(labels, ends)]
    if not all(bodies):
        return "", NOT_IN_FORM
    return "\n".join(f"Step {number}: {body}" for number, body in enumerate(bodies, 1)), _why(bodies, title, history)


def is_in_form(reply: str) -> bool:
    """Whether a reply has the four steps, or says that nothing leads to the target."""
    return steps_of(reply, "")[1] not in (NO_ANSWER, NOT_IN_FORM)


def reasonings(
    chosen: Sequence[Target], replies: Iterable[str | None], items: Catalogue
) -> tuple[list[tuple[str, str, int, str]], Counter[str]]:
    """What is kept, as user, item, position in the sequence and the three steps, and how many replies came to what."""
    rows, counts = [], Counter()
    for one, reply in zip(chosen, replies, strict=True):
        past = [items[event.item_id].title for event in one.history]
        text, why = steps_of(reply, items[one.item_id].title, past)
        counts["kept" if not why else why if why == NO_CONNECTION else f"refused, {why}"] += 1
        if not why:
            rows.append((one.user_id, one.item_id, one.position, text))
    return rows, counts


def rows(
    kept: pd.DataFrame,
    pasts: Sequence[Past],
    ids: Mapping[str, str],
    seed: int,
    folder: Path = FOLDER,
    restates: bool = True,
) -> list[dict]:
    """The reasoned rows, one for each of the table of `reasonings`, with a wording of seqrec drawn at random.

    Nothing may be cut from their prompts, since the answer repeats the history where it `restates` it. InputError
    where an item does not stand at its position in the training part of its user.
    """
    rng, past_of = np.random.default_rng(seed), {past.user_id: past for past in pasts}
    found = []
    for one in kept.itertuples(index=False):
        past = past_of.get(one.user_id)
        place = int(one.position)
        if past is None or not 0 < place < len(past.events) or past.events[place].item_id != one.item_id:
            raise InputError(
                f"gream/reasonings.pkl: item {one.item_id} is not at place {place} of the training part of user "
                f"{one.user_id}; run GREAM/4_distil_reasonings.py again"
            )
        history = [ids[event.item_id] for event in window(past.events, place)]
        wording = int(rng.integers(len(prompts.wordings(SEQREC, folder))))
        asked = replace(prompts.next_item(history, REASONED, wording, folder, restates), optional=())
        answer = prompts.reasoned_answer(one.reasoning, history, ids[one.item_id], folder, restates)
        found.append(training_row(asked, answer))
    return found


def _why(bodies: Sequence[str], title: str, history: Iterable[str]) -> str:
    text = " ".join(bodies)
    if ANY_TAG.search(text) or TOKENS.search(text):
        return "has tags"
    if len(text.split()) > MOST_WORDS:
        return f"more than {MOST_WORDS} words"
    if found := hindsight(text):
        return f"hindsight: {found[0]}"
    return "names the target" if tells(text, title, history) else ""
