"""A recommender at work: it writes on each case, and weighs the candidates after what it wrote.

The rank is deterministic: that of each candidate's log-probability, as the answer after the greedy rationale. The
released code samples five replies and takes the order of a set. Source: our decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.sequences import Case
from reason4rec.systems.twice_rec.artifacts import BY_REWARD, REWARDS
from reason4rec.systems.twice_rec.catalogue import Item
from reason4rec.systems.twice_rec.prompts import ITEM_ONLY, RATIONALE_FIRST, answer
from reason4rec.systems.twice_rec.replies import ITEM_ID, THINK, TITLE, inner

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.likelihood import LikelihoodReader
    from reason4rec.llm.prompt import Prompt
    from reason4rec.systems.twice_rec.options import Models
    from reason4rec.systems.twice_rec.step import RecommenderStep

END = f"</{ITEM_ID}>"


@dataclass(frozen=True)
class Model:
    """A model of the tables: its name, the adapter that it is, and the task that it is asked."""

    name: str
    adapter: str
    task: str


MODELS = {
    one.name: one
    for one in (
        Model("item_only", "Recommender", ITEM_ONLY),
        Model("recommender", "Recommender", RATIONALE_FIRST),
        *(Model(f"rl_{reward}", BY_REWARD[reward].path, RATIONALE_FIRST) for reward in REWARDS),
    )
}


def end_of_answer(text: str) -> int | None:
    """Where a reply is finished: after the first closing id that stands in no thoughts; None where it is not."""
    start = 0
    if text.lstrip().startswith(f"<{THINK}>") and (start := text.find(f"</{THINK}>")) < 0:
        return None
    place = text.find(END, start)
    return place + len(END) if place >= 0 else None


def write(model: "LanguageModel", prompts: Sequence["Prompt"], options: "Models", seed: int) -> list[list[str]]:
    """The replies to each prompt: the greedy one, and then as many draws as are asked for."""
    # The rationale stands between marks that else would be taken for a model's own thoughts.
    ask = partial(model.generate, prompts, options.max_new_tokens, finish=end_of_answer, thoughts=True)
    greedy = ask(what="recommending")
    drawn = [
        ask(
            temperature=options.draw_temperature,
            seed=seed + draw,
            what=f"draw {draw}",
            top_k=options.draw_top_k,
            top_p=options.draw_top_p,
        )
        for draw in range(1, options.draws + 1)
    ]
    return [list(of_prompt) for of_prompt in zip(greedy, *drawn)]


def before_the_item(reply: str, task: str) -> str:
    """What a reply has before the item that it names: its rationale, whole, in the form of an answer.

    A reply that closes no rationale has what stands before any other tag as its rationale; it is malformed, and is
    counted as such elsewhere.
    """
    if task != RATIONALE_FIRST:
        return ""
    rationale = inner(reply, THINK)
    if rationale is None:
        rationale = reply.replace(f"<{THINK}>", "").partition("<")[0].strip()
    return f"<{THINK}> {rationale} </{THINK}> "


def weigh(
    model: "LikelihoodReader",
    prompts: Sequence["Prompt"],
    lists: Sequence[Sequence[Item]],
    replies: Sequence[str],
    task: str,
) -> list[np.ndarray]:
    """For each prompt the (candidates, 2) log-probabilities of naming each after the reply's rationale, and tokens."""
    begun = [f"{before_the_item(reply, task)}<{TITLE}>" for reply in replies]
    named = [[answer(item).removeprefix(f"<{TITLE}>") for item in of_case] for of_case in lists]
    return model.log_likelihood(prompts, named, begun, what="ranking")


def tables(
    cases: Sequence[Case],
    lists: Mapping[str, Sequence[str]],
    weights: Sequence[np.ndarray],
    replies: Sequence[Sequence[str]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of `artifacts.ranked` and `artifacts.written`."""
    users = [case.user_id for case in cases]
    sizes = [len(lists[user]) for user in users]
    both = np.concatenate(weights)
    weighed = pd.DataFrame(
        {
            "user_id": np.repeat(users, sizes),
            "item_id": [item for user in users for item in lists[user]],
            "log_likelihood": both[:, 0],
            "tokens": both[:, 1].astype(int),
        }
    )
    said = pd.DataFrame(
        [(user, draw, reply) for user, of_user in zip(users, replies) for draw, reply in enumerate(of_user)],
        columns=["user_id", "draw", "reply"],
    )
    return weighed, said


def ranked(
    step: "RecommenderStep",
    model: "LanguageModel",
    cases: Sequence[Case],
    lists: Mapping[str, Sequence[str]],
    task: str,
    options: "Models",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a model writes on cases and how it weighs their candidates after that, as the two tables of `tables`."""
    asked = step.prompts_of(cases, lists, task)
    replies = write(model, asked, options, step.common.seed)
    items = [[step.catalogue[item] for item in lists[case.user_id]] for case in cases]
    return tables(cases, lists, weigh(model, asked, items, [of[0] for of in replies], task), replies)
