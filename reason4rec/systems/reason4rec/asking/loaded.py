"""The experts of a run in memory: each is loaded when it is first asked."""

import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reason4rec.data.history import Entry, History
from reason4rec.llm.prompt import OnDemand
from reason4rec.run.files import adapter
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, TEST_RATINGS, TEST_REASONS
from reason4rec.systems.reason4rec.asking.finished import tokens_of
from reason4rec.systems.reason4rec.asking.questions import Review
from reason4rec.systems.reason4rec.options import Mode
from reason4rec.systems.reason4rec.prompts import as_summary, end_of_summary
from reason4rec.systems.reason4rec.step import ExpertStep

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel

KEPT_SUMMARIES = 10_000  # of reviews that were given with questions


class LoadedExperts:
    """The experts of a run, asked with its settings. Not for several threads at once: a model answers one call.

    Replies to what the dataset holds are kept on disk, as those of the numbered scripts are, and taken from there.
    """

    def __init__(self, step: ExpertStep):
        self.step = step
        self._models: dict[str, LanguageModel] = {}
        self._summaries: OrderedDict[tuple, str] = OrderedDict()

    def check(self) -> None:
        """InputError if an adapter is missing that every question needs."""
        reasoned = self.step[Mode].predictor_mode == "reasoned"
        for name in ("Reasoner", "Predictor") if reasoned else ("Predictor",):
            self._check(name)

    def serve_visitors(self, patience: float) -> None:
        """From now on keeps no reply on disk, however many are asked for, and reads those that are there.

        A model's server that is away is waited for `patience` seconds. Said before the first question.
        """
        self.step.cache.keep, self.step.patience = False, patience

    def model(self, name: str, private: bool = False) -> "LanguageModel":
        """An expert; where it is asked something `private`, one that keeps no reply on disk."""
        if name not in self._models:
            self._check(name)
            with redirect_stdout(sys.stderr):  # what it says is no answer
                self._models[name] = self.step.language_model(name)
        model = self._models[name]
        return replace(model, cache=None) if private else model

    def entries(self, reviews: Sequence[Review]) -> tuple[Entry, ...]:
        """Reviews as entries of a history; the Summarizer writes those summaries that it has not written yet."""
        keys = [(one.title, one.rating, one.text) for one in reviews]
        new = [key for key in dict.fromkeys(keys) if key not in self._summaries]
        if new:
            frame = pd.DataFrame(new, columns=["title", "ratings", "reviews"])
            tokens = tokens_of(self.step, SUMMARIES)
            summarizer = self.model("Summarizer", private=True)
            asked = self.step.summary_prompts(frame)
            replies = summarizer.generate(asked, max_new_tokens=tokens, what="", finish=end_of_summary)
            self._summaries |= zip(new, map(as_summary, replies))
        found = tuple(Entry(title, rating, self._summaries[title, rating, text]) for title, rating, text in keys)
        for key in keys:
            self._summaries.move_to_end(key)
        while len(self._summaries) > KEPT_SUMMARIES:
            self._summaries.popitem(last=False)
        return found

    def predict(
        self, titles: Sequence[str], histories: Sequence[History], private: bool
    ) -> tuple[np.ndarray, list[str]]:
        """(titles,) x 5 probabilities of the ratings 1 to 5, and the reasons."""
        step, mode = self.step, self.step[Mode].predictor_mode
        tokens = tokens_of(step, TEST_REASONS if mode == "reasoned" else TEST_RATINGS)
        reasons = [""] * len(titles)
        if mode == "reasoned":
            asked = step.reason_prompts({"title": titles}, histories)
            reasons = self.model("Reasoner", private).generate(asked, max_new_tokens=tokens, what="")
        question = partial(predictor_modes.question, mode, step.product_class, folder=step.templates)
        prompts = OnDemand(question, titles, histories, reasons)
        probabilities, written = predictor_modes.predict(
            mode, self.model("Predictor", private), prompts, tokens, quiet=True
        )
        return probabilities, reasons if mode == "reasoned" else written

    def _check(self, name: str) -> None:
        artifact = adapter(name)
        path = self.step.path(artifact)
        if not path.exists():
            raise self.step.pipeline.missing(path, artifact)
