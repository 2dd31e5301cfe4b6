"""The modes that a Predictor can have: with the Reasoner's reason, without any, or writing the reason itself.

    reasoned      reads the Reasoner's reason, and answers with the rating (the method)
    direct        reads no reason, and answers with the rating
    one_step      writes a reason, then the rating: one adapter for both
    rating_first  writes the rating, then a reason

The modes but the first are ablations. Source: paper, one-step variants; their wording and details are our decision.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reason4rec.data.history import History
from reason4rec.llm.prompt import Prompt
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.prompts import RATING_PREFIX, RATINGS

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel


WRITES_ITSELF = ("one_step", "rating_first")


def question(mode: str, product_class: str, title: str, history: History, reason: str, folder: Path) -> Prompt:
    """The prompt of a target; only the reasoned mode looks at the reason."""
    prompt = prompts.predictor(product_class, title, history, reason if mode == "reasoned" else None, folder)
    return prompts.with_task(prompt, mode, folder) if mode in WRITES_ITSELF else prompt


def answer(mode: str, rating: float, reason: str) -> str:
    """What an adapter learns to answer for a true rating of 1 to 5; the teacher's reason is in it where it writes."""
    rated = prompts.rating_answer(rating)
    return {"one_step": f"{reason}\n{rated}", "rating_first": f"{rated}\n{reason}"}.get(mode, rated)


def predict(
    mode: str, model: "LanguageModel", asked: Sequence[Prompt], max_new_tokens: int, quiet: bool = False
) -> tuple[np.ndarray, list[str]]:
    """(asked, 5) probabilities of the ratings 1 to 5, and what the model wrote itself (nothing where it does not).

    In one step the probabilities are those after the reason that it wrote, whatever rating it then wrote. A `quiet`
    call shows no bar.
    """
    written = [""] * len(asked)
    if mode in WRITES_ITSELF:
        written = model.generate(asked, max_new_tokens=max_new_tokens, what="" if quiet else "generating")
    what = "" if quiet else "scoring"
    if mode == "rating_first":
        written = [text.partition("\n")[2].strip() for text in written]
    if mode == "one_step":
        written = [text.partition(RATING_PREFIX.strip())[0].strip() for text in written]
        begun = [f"{text}\n" for text in written]
        return rating_probabilities(model, asked, begun, what=what), written
    return rating_probabilities(model, asked, what=what), written


def rating_probabilities(
    model: "LanguageModel",
    asked: Sequence[Prompt],
    reply_prefixes: Sequence[str] | None = None,
    prefix_cache: object | None = None,
    what: str = "scoring",
) -> np.ndarray:
    """(asked, 5) probabilities of the ratings 1 to 5 after `Predicted Rating: `, or after `reply_prefixes` and that."""
    return model.choice_probabilities(asked, RATINGS, RATING_PREFIX, reply_prefixes, what, prefix_cache)
