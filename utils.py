"""What every numbered script starts with, and the three calls by which it speaks to models.

`main` parses the command line and turns bad input into one line, `Step` knows what is read and written and prints the
closing card. The calls carry the names under which the paper's repository knows them; they take many prompts at once.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from reason4rec.data.catalog import DEMO, DEMO_BASE, Dataset, get
from reason4rec.data.history import History, HistoryIndex
from reason4rec.evaluation.metrics import expected_rating
from reason4rec.llm.adapters import adapter_settings
from reason4rec.llm.base import resolve_device
from reason4rec.llm.prompt import OnDemand, Prompt, texts_of
from reason4rec.run.files import sha256
from reason4rec.run.options import positive
from reason4rec.systems.reason4rec import prompts
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.predictor_modes import rating_probabilities
from reason4rec.systems.reason4rec.steps import (
    Step,
    adapter_path,
    batch_flags,
    form_flags,
    generation_flags,
    main,
    model_flags,
    prompt_flags,
    server_flags,
    teacher_flags,
)

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel
    from reason4rec.llm.teacher import Teacher

__all__ = [
    "Step",
    "adapter_path",
    "batch_flags",
    "chat_with_LLM",
    "chat_with_gpt",
    "dataset_of",
    "form_flags",
    "generation_flags",
    "histories_of",
    "load_expert",
    "logits_weighted_predict",
    "main",
    "model_flags",
    "model_label",
    "positive",
    "prompt_flags",
    "reasons_of",
    "resolve_device",
    "server_flags",
    "summaries_asked",
    "teacher_flags",
    "tell_refused",
]


def dataset_of(args: argparse.Namespace) -> Dataset:
    """The facts of the dataset that a command names."""
    return get(args.dataset, args.data_root)


def load_expert(step: Step, name: str) -> "LanguageModel":
    """An expert as it was trained: its adapter on its base model, with the row length of its training.

    It runs in this process, or at the servers that --base_url names.
    """
    args, adapter = step.args, adapter_path(step.args, name)
    settings = adapter_settings(adapter)
    if args.base_url:
        from reason4rec.llm.server import connect

        served = args.served_model or f"{args.dataset}-{name}"
        return connect(
            args.base_url,
            served,
            adapter,
            settings["max_length"],
            at_once=args.batch_size or 64,
            api=args.api,
            top_logprobs=args.top_logprobs,
            store=step.store,
        )
    # A step that asks no model does not wait for torch.
    from reason4rec.llm.local import load

    return load(
        settings["base_model"],
        adapter,
        device=resolve_device(args.device),
        max_length=settings["max_length"],
        batch_size=args.batch_size,
        store=step.store,
    )


def histories_of(step: Step, targets: pd.DataFrame) -> list[History]:
    """The histories of targets as the experts see them: summaries of earlier training reviews."""
    return HistoryIndex(step.read(SUMMARIES), SUMMARY, step.dataset.history_length).of_rows(targets)


def summaries_asked(step: Step, reviews: pd.DataFrame) -> Sequence[Prompt]:
    """The prompt for the summary of each review, the same for the teacher and the Summarizer."""
    prompt = partial(prompts.summarizer, step.dataset.product_class, folder=step.args.prompts)
    return OnDemand(prompt, reviews["title"], reviews["ratings"], reviews["reviews"])


def reasons_of(reasoner: "LanguageModel", step: Step, titles: Iterable[str], histories: Iterable[History]) -> list[str]:
    """The Reasoner's greedy reasons on new items, from histories without ratings."""
    prompt = partial(prompts.reasoner, step.dataset.product_class, folder=step.args.prompts)
    return chat_with_LLM(reasoner, OnDemand(prompt, titles, histories), step.args.max_new_tokens)


def model_label(args: argparse.Namespace) -> str:
    """The name of our row in a table; it says so where the demo's tiny model made it."""
    adapter = adapter_path(args, "Predictor")
    if not adapter.exists() or adapter_settings(adapter)["base_sha256"] != sha256(Path(DEMO_BASE)):
        return "Reason4Rec"
    return "Reason4Rec (demo model)" if args.dataset == DEMO else "Reason4Rec (demo model: not meaningful)"


def chat_with_LLM(model: "LanguageModel", asked: Sequence[Prompt], max_new_tokens: int = 1024) -> list[str]:  # noqa: N802
    """The greedy replies of a local model to prompts, in their order."""
    return model.generate(asked, max_new_tokens=max_new_tokens)


def logits_weighted_predict(
    model: "LanguageModel", asked: Sequence[Prompt], heads: object | None = None, what: str = "scoring"
) -> np.ndarray:
    """(asked,) expected ratings, 1 to 5: the digits weighted by their probabilities after `Predicted Rating: `."""
    return expected_rating(rating_probabilities(model, asked, heads=heads, what=what))


def chat_with_gpt(
    teacher: "Teacher", asked: Sequence[Prompt], temperature: float, draw: int = 0, quiet: bool = False
) -> list[str | None]:
    """The teacher's replies to prompts, in their order, None where it refuses one for good.

    Every reply is on disk before the next step needs it.
    """
    return teacher.ask(texts_of(asked), temperature, draw, quiet)


def tell_refused(
    rows: pd.DataFrame, asked: Sequence[Prompt], replies: Iterable[str | None], teacher: "Teacher"
) -> None:
    """Names those of the rows whose prompt the teacher refuses for good, and why, in a line each."""
    for k, (row, reply) in enumerate(zip(rows.itertuples(), replies, strict=True)):
        if pd.isna(reply):
            tqdm.write(f"refused: user {row.user_id}, item {row.item_id}: {teacher.refused[asked[k].text]}")
