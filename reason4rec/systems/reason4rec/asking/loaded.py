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
from reason4rec.llm.cache import key_of
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.llm.tokens import encode
from reason4rec.run.files import adapter
from reason4rec.systems.reason4rec import predictor_modes
from reason4rec.systems.reason4rec.artifacts import SUMMARIES, TEST_RATINGS, TEST_REASONS
from reason4rec.systems.reason4rec.asking.finished import reasoner_of, tokens_of
from reason4rec.systems.reason4rec.asking.questions import Review
from reason4rec.systems.reason4rec.options import Mode
from reason4rec.systems.reason4rec.prompts import as_summary, end_of_summary
from reason4rec.systems.reason4rec.step import ExpertStep

if TYPE_CHECKING:
    from reason4rec.llm.base import LanguageModel

KEPT_SUMMARIES = 10_000  # of reviews that were given with questions; of the reviews themselves nothing is kept

TOKENS_OF_A_RATING = 8  # that stand after a prompt: `Predicted Rating: ` and the digit


class LoadedExperts:
    """The experts of a run, asked with its settings. Not for several threads at once: a model answers one call.

    Replies to what the dataset holds are kept on disk, as those of the numbered scripts are, and taken from there.
    """

    def __init__(self, step: ExpertStep):
        self.step = step
        self._models: dict[str, LanguageModel] = {}
        self._summaries: OrderedDict[str, str] = OrderedDict()

    def check(self) -> None:
        """InputError if an adapter is missing that every question needs."""
        reasoned = self.step[Mode].predictor_mode == "reasoned"
        for name in (reasoner_of(self.step), "Predictor") if reasoned else ("Predictor",):
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

    def entries(self, reviews: Sequence[Review]) -> list[Entry]:
        """Reviews as entries of a history; the Summarizer writes those summaries that it has not written yet."""
        keys = [key_of(title=one.title, rating=one.rating, text=one.text) for one in reviews]
        new = {key: one for key, one in zip(keys, reviews) if key not in self._summaries}
        if new:
            rows = [(one.title, one.rating, one.text) for one in new.values()]
            asked = self.step.summary_prompts(pd.DataFrame(rows, columns=["title", "ratings", "reviews"]))
            summarizer, tokens = self.model("Summarizer", private=True), tokens_of(self.step, SUMMARIES)
            replies = summarizer.generate(asked, max_new_tokens=tokens, what="", finish=end_of_summary)
            self._summaries |= zip(new, map(as_summary, replies))
        found = [Entry(one.title, one.rating, self._summaries[key]) for key, one in zip(keys, reviews)]
        for key in keys:
            self._summaries.move_to_end(key)
        while len(self._summaries) > KEPT_SUMMARIES:
            self._summaries.popitem(last=False)
        return found

    def predict(
        self, titles: Sequence[str], histories: Sequence[History], private: bool
    ) -> tuple[np.ndarray, list[str], list[bool]]:
        """(titles,) x 5 probabilities of the ratings 1 to 5, the reasons, and which prompts lost reviews to fit."""
        step, mode = self.step, self.step[Mode].predictor_mode
        tokens = tokens_of(step, TEST_REASONS if mode == "reasoned" else TEST_RATINGS)
        reasons, cut = [""] * len(titles), [False] * len(titles)
        if mode == "reasoned":
            asked = step.reason_prompts({"title": titles}, histories)
            reasoner = self.model(reasoner_of(step), private)
            before = reasoner.shortened
            reasons = reasoner.generate(asked, max_new_tokens=tokens, what="")
            cut = _cut(reasoner, asked, tokens) if reasoner.shortened > before else cut
        question = partial(predictor_modes.question, mode, step.product_class, folder=step.templates)
        prompts, predictor = OnDemand(question, titles, histories, reasons), self.model("Predictor", private)
        before = predictor.shortened
        probabilities, written = predictor_modes.predict(mode, predictor, prompts, tokens, quiet=True)
        if predictor.shortened > before:
            after = tokens if mode in predictor_modes.WRITES_ITSELF else TOKENS_OF_A_RATING
            cut = [one or other for one, other in zip(cut, _cut(predictor, prompts, after))]
        return probabilities, reasons if mode == "reasoned" else written, cut

    def _check(self, name: str) -> None:
        artifact = adapter(name)
        path = self.step.path(artifact)
        if not path.exists():
            raise self.step.pipeline.missing(path, artifact)


def _cut(model: "LanguageModel", prompts: Sequence[Prompt], after: int) -> list[bool]:
    """Which prompts lose something where so many tokens come after them."""
    return [encode(model.tokenizer, prompt, model.max_length - after)[1] > 0 for prompt in prompts]
