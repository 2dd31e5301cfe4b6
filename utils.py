"""What a numbered script imports: `start`, and the three calls under the names of the paper's repository.

`start` finds the script's row in the table of steps, parses the command line by it, and runs the script's function with
the step. The calls take many prompts at once.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import reason4rec  # noqa: F401 - first, because it says which packages are missing

# isort: split
import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.prompt import Prompt, texts_of
from reason4rec.run.pipeline import of_script
from reason4rec.run.step import main
from reason4rec.systems.reason4rec.predictor_modes import rating_probabilities
from reason4rec.systems.reason4rec.step import ExpertStep

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.teacher import Teacher

Work = Callable[[ExpertStep], None]

__all__ = ["ExpertStep", "chat_with_LLM", "chat_with_gpt", "logits_weighted_predict", "print_refused", "start"]


def start(work: Work, doc: str, show: Work | None = None) -> None:
    """Runs a script's function with its step, unless the step is done; then `show` prints what it made before."""
    main(work, *of_script(Path(work.__code__.co_filename)), doc, show)


def chat_with_LLM(  # noqa: N802
    model: "LanguageModel",
    prompts: Sequence[Prompt],
    max_new_tokens: int = 1024,
    finish: Callable[[str], int | None] | None = None,
) -> list[str]:
    """The greedy replies of a local model to prompts, in their order; `finish` says where one is finished."""
    return model.generate(prompts, max_new_tokens=max_new_tokens, finish=finish)


def logits_weighted_predict(
    model: "LanguageModel", prompts: Sequence[Prompt], prefix_cache: object | None = None, what: str = "scoring"
) -> np.ndarray:
    """(prompts,) expected ratings, 1 to 5: the digits weighted by their probabilities after `Predicted Rating: `."""
    return expected_rating(rating_probabilities(model, prompts, prefix_cache=prefix_cache, what=what))


def chat_with_gpt(
    teacher: "Teacher",
    prompts: Sequence[Prompt],
    temperature: float,
    draw: int = 0,
    quiet: bool = False,
    is_usable: Callable[[str], bool] = bool,
) -> list[str | None]:
    """The teacher's answers to prompts, in their order, None where it refuses one for good.

    Every reply is on disk before the next step needs it. Answers that are not `is_usable` are counted, and where the
    first few dozen are all that, no more is asked.
    """
    return teacher.ask(texts_of(prompts), temperature, draw, quiet, is_usable)


def print_refused(
    rows: pd.DataFrame, prompts: Sequence[Prompt], replies: Iterable[str | None], teacher: "Teacher"
) -> None:
    """Prints a line for each row whose prompt the teacher refuses for good, with the reason."""
    for k, (row, reply) in enumerate(zip(rows.itertuples(), replies, strict=True)):
        if pd.isna(reply):
            tqdm.write(f"refused: user {row.user_id}, item {row.item_id}: {teacher.refused[prompts[k].text]}")
