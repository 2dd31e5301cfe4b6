"""How much a run of Reason4Rec would read and write: rows and tokens of its prompts, counted or assumed.

Where the splits are there, rows are counted as the steps draw them; elsewhere from the counts that the paper states.
Tokens are those of the real prompts, filled for a sample of the rows. What is not known is assumed, with its origin.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

import numpy as np
import pandas as pd

from reason4rec.data import schema
from reason4rec.data.history import WARM, Entry, History, HistoryIndex
from reason4rec.data.schema import TEST, TRAIN
from reason4rec.errors import InputError
from reason4rec.llm.options import Writing
from reason4rec.llm.prompt import Prompt
from reason4rec.run.cost import Survey
from reason4rec.run.files import Artifact
from reason4rec.systems.counting import CHAT_TOKENS, Counting
from reason4rec.systems.reason4rec import facts, prompts, targets
from reason4rec.systems.reason4rec.artifacts import (
    NOT_SUMMARISED,
    REASON,
    REASON_TARGETS,
    REWARD_TARGETS,
    SUMMARIES,
    SUMMARY,
    TEACHER_REASON,
    TEACHER_REASONS,
    TEACHER_SUMMARIES,
    TEACHER_SUMMARY,
    TEST_REASONS,
)
from reason4rec.systems.reason4rec.options import Histories, PredictorRows, SummarizerRows, SummaryTargets, Targets
from reason4rec.systems.reason4rec.reinforced.options import Reinforcement
from reason4rec.training.options import Training

SAMPLE = 1_000  # rows whose prompts are filled and counted
DEMO_WORLD = "reason4rec.demo.world"  # by name: the demo stands above the systems

# What is taken where nothing can be counted: a value and where it comes from.
ASSUMED = {
    "tokens of a review": (293, "1,156 characters, measured in train of the cut of Digital Music in docs/data.md"),
    "tokens of a title": (5, "18 characters, measured there"),
    "tokens of a summary": (80, "our guess for three lines of keywords"),
    "tokens of a reason": (170, "our guess for one paragraph"),
    "share of reviews that may be targets": (0.51, "measured in both real dumps of docs/data.md"),
    "user's entries, test row": (2, "between 0.7 and 2.6, measured in both real dumps of docs/data.md"),
    "item's entries, test row": (8, "between 6.9 and 8.8, measured there"),
    "targets with an accepted reason": (0.625, "7.5k of 12,000 on Music_data, third party"),
    "targets accepted without a hint": (0.4, "our guess"),
    "hinted reasons until one is accepted": (3, "our guess; ten are asked for where none is"),
}


@dataclass(frozen=True)
class Target:
    """A row whose prompt is counted. A text that is not known is empty, and its tokens are assumed."""

    title: str
    rating: float
    review: str
    history: History


class Rows(Counting):
    """How many rows each step of a run would have; `assumed` and `notes` collect what a reader has to know."""

    def __init__(self, survey: Survey):
        step, training = survey.step("1/4"), survey.step("1/3")[Training]
        super().__init__(survey, step.adapters, training.base_model, ASSUMED)
        self.dataset, self.common, self.folder = step.dataset, step.common, step.folder
        self.history_length = step[Histories].history_length
        self.max_new_tokens, self.max_length = step[Writing].max_new_tokens, training.max_length
        self.train, self.test = self._splits()

    @property
    def on_disk(self) -> bool:
        """Whether the splits are there."""
        return all(part.within(self.folder).exists() for part in (TRAIN, self._asked))

    @property
    def _asked(self) -> Artifact:
        """The rows that the last steps ask about."""
        return self.survey.step("2/7").on(TEST)

    def _splits(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        if self.on_disk:
            return schema.read(self.folder, TRAIN).reset_index(drop=True), schema.read(self.folder, self._asked)
        if self.common.dataset == facts.DEMO:
            train, valid, test = _demo_splits(self.common.seed)
            return train, test if self._asked is TEST else valid
        if self.dataset.paper:
            return None, None
        raise InputError(
            f"{self.folder / TRAIN.path} or {self.folder / self._asked.path} is missing: 0_Data/2_preprocess.py writes "
            f"both; only {', '.join(name for name, known in facts.KNOWN.items() if known.paper)} can be told without"
        )

    def _limited(self, rows: int) -> int:
        return min(rows, self.common.limit or rows)

    @cached_property
    def n_train(self) -> int:
        """Training reviews."""
        return self.dataset.paper["interactions"] * 8 // 10 if self.train is None else len(self.train)

    @cached_property
    def n_test(self) -> int:
        """Test rows that are asked about."""
        total = self.dataset.paper.get("interactions", 0)
        return self._limited(total - total * 9 // 10 if self.test is None else len(self.test))

    @cached_property
    def n_summaries(self) -> int:
        """Reviews that the teacher summarises."""
        return min(self._limited(self.n_train), self.survey.step("1/1")[SummaryTargets].summary_targets or self.n_train)

    @cached_property
    def n_summarizer(self) -> int:
        """Rows that the Summarizer learns from."""
        return min(self.n_summaries, self.survey.step("1/2")[SummarizerRows].summarizer_rows or self.n_summaries)

    @cached_property
    def histories(self) -> pd.DataFrame | None:
        """The reviews that histories show, those of step 1/4, with summaries as far as there are any."""
        if self.survey.usable(SUMMARIES):
            return schema.read(self.folder, SUMMARIES).reset_index(drop=True)
        if self.train is None:
            return None
        reviews = self.train.assign(**{SUMMARY: ""}).reset_index(drop=True)
        if limit := self.common.limit:
            asked = self.test.head(limit)
            needed = targets.shown_in_trial(reviews, asked, self.history_length, limit)
            reviews.loc[~reviews.index.isin(needed), SUMMARY] = NOT_SUMMARISED
        return reviews

    @cached_property
    def _index(self) -> HistoryIndex:
        return targets.index_of(self.histories, self.history_length)

    @cached_property
    def n_histories(self) -> int:
        """Reviews that the Summarizer summarises."""
        if self.histories is not None:
            return int((self.histories[SUMMARY] != NOT_SUMMARISED).sum())
        if not self.common.limit:
            return self.n_train
        entries = self.assume("user's entries, test row") + self.assume("item's entries, test row")
        return min(self.n_train, round(self.n_test * entries))

    @cached_property
    def drawn(self) -> tuple[pd.DataFrame | int, pd.DataFrame | int]:
        """The targets of the reward model, and those of the Reasoner and the Predictor; their numbers in want of rows.

        Drawn as step 2/1 draws them.
        """
        if self.survey.usable(REWARD_TARGETS) and self.survey.usable(REASON_TARGETS):
            return schema.read(self.folder, REWARD_TARGETS), schema.read(self.folder, REASON_TARGETS)
        step = self.survey.step("2/1")
        options = step[Targets]
        sizes = (options.reward_targets, options.reason_targets)
        if self.histories is None:
            eligible = int(self.n_histories * self.assume("share of reviews that may be targets"))
            return targets.numbers(sizes, eligible, self.common.limit)
        limit, seed = self.common.limit, step.common.seed
        return targets.draw(self.histories, sizes, options.min_history, limit, seed, options.sampling)[:2]

    def n_drawn(self, which: int) -> int:
        """How many targets the reward model (0) or the Reasoner and the Predictor (1) get."""
        rows = self.drawn[which]
        return self._limited(rows if isinstance(rows, int) else len(rows))

    @cached_property
    def n_reinforced(self) -> int:
        """Targets that step 2/8 trains the Reasoner on: those with a history that the Predictor has not learned."""
        options = self.survey.step("2/8")[Reinforcement]
        if self.histories is None:
            eligible = int(self.n_histories * self.assume("share of reviews that may be targets"))
        else:
            wanted, reviews = (len(self.histories), 0), self.histories
            found = targets.draw(reviews, wanted, options.min_history, None, self.common.seed)[0]
            eligible = len(targets.with_summaries(reviews, found, self.history_length))
        return self._limited(min(options.rl_targets, max(0, eligible - self.n_drawn(1))))

    @cached_property
    def n_accepted(self) -> int:
        """Targets with an accepted reason."""
        if self.survey.usable(TEACHER_REASONS):
            return self._limited(len(schema.read(self.folder, TEACHER_REASONS)))
        return round(self.n_drawn(1) * self.assume("targets with an accepted reason"))

    @cached_property
    def n_predictor(self) -> int:
        """Targets that the Predictor learns from."""
        every = self.survey.step("3/1")[PredictorRows].predictor_rows == "all"
        return self.n_drawn(1) if every else self.n_accepted


class Texts(Rows):
    """How many tokens the prompts of a run would have."""

    def _mean_of(self, artifact: Artifact, column: str) -> float | None:
        """Mean tokens of a column of an output, if that is there."""
        if not (self.folder / artifact.path).exists():
            return None
        frame = schema.read(self.folder, artifact)
        texts = _some(frame[frame[column] != NOT_SUMMARISED])[column].tolist()
        if not texts:
            return None
        found = mean(self.count(texts))
        self.notes.append(f"{column}: {found:,.0f} tokens, the mean of {len(texts):,} rows of {artifact.path}")
        return found

    @cached_property
    def summary(self) -> float:
        """Tokens of a summary."""
        found = self._mean_of(SUMMARIES, SUMMARY) or self._mean_of(TEACHER_SUMMARIES, TEACHER_SUMMARY)
        return found or self.assume("tokens of a summary")

    @cached_property
    def reason(self) -> float:
        """Tokens of a reason."""
        found = self._mean_of(TEST_REASONS, REASON) or self._mean_of(TEACHER_REASONS, TEACHER_REASON)
        return found or self.assume("tokens of a reason")

    def targets(self, rows: pd.DataFrame | int | None, tested: bool = False) -> list[Target]:
        """A sample of rows with their histories; one row of the assumed kind where there are none."""
        if not isinstance(rows, pd.DataFrame) or self.histories is None:
            return [Target("", 4.0, "", self._assumed_history(tested))]
        rows = _some(rows)
        histories = self._index.of_rows(rows)
        columns = (rows[name].tolist() for name in ("title", "ratings", "reviews"))
        return [Target(*row, history) for *row, history in zip(*columns, histories)]

    def _assumed_history(self, tested: bool) -> History:
        most = self.history_length
        if tested:
            user, item = (int(self.assume(f"{side} entries, test row")) for side in ("user's", "item's"))
        else:
            paper = self.dataset.paper
            user, item = (_entries_shown(paper["interactions"] / paper[side], most) for side in ("users", "items"))
            item = max(item, WARM - user)
            origin = "a review stands anywhere among those of its user and item, whose mean numbers are the paper's"
            self.assumed["entries of user and item, target"] = (f"{user} and {item}", origin)
        return History((Entry("", 4.0, ""),) * min(user, most), (Entry("", 4.0, ""),) * min(item, most), 4.0, 4.0)

    def lengths(self, targets: Sequence[Target], fill: Callable[[Target], Prompt], reasons: int = 0) -> np.ndarray:
        """Tokens of the prompts of targets in the chat format; `reasons` of an assumed length are not in the text."""
        found = np.array(self.count([fill(target).text.strip() for target in targets]), dtype=float) + CHAT_TOKENS
        entries = np.array([len(target.history.user) + len(target.history.item) for target in targets])
        if not targets[0].title:
            found += self.assume("tokens of a title") * (1 + entries)
        if entries.any() and not self.survey.usable(SUMMARIES):
            found += min(self.summary, self.max_new_tokens) * entries
        return found + self.reason * reasons

    def reviews(self) -> np.ndarray:
        """Tokens of the Summarizer's prompts."""
        if self.train is None:
            targets, blank = [Target("", 4.0, "", NO_HISTORY)], self.assume("tokens of a review")
        else:
            columns = (_some(self.train)[name].tolist() for name in ("title", "ratings", "reviews"))
            targets, blank = [Target(*row, NO_HISTORY) for row in zip(*columns)], 0
        product = self.dataset.product_class
        return self.lengths(targets, lambda t: prompts.summarizer(product, t.title, t.rating, t.review)) + blank

    def reasoning(self, targets: Sequence[Target], hinted: bool = False) -> np.ndarray:
        """Tokens of the prompts that ask for a reason."""
        product = self.dataset.product_class
        return self.lengths(
            targets, lambda t: prompts.reasoner(product, t.title, t.history, t.rating if hinted else None)
        )

    def rating(self, targets: Sequence[Target], reason: str | None = "reason") -> np.ndarray:
        """Tokens of the prompts that ask for a rating from a `reason`, a `review` in its place, or (None) neither."""
        product, of_reason = self.dataset.product_class, int(reason == "reason")
        texts = {None: lambda t: None, "review": lambda t: t.review, "reason": lambda t: ""}[reason]
        found = self.lengths(
            targets, lambda t: prompts.predictor(product, t.title, t.history, texts(t)), reasons=of_reason
        )
        blank = reason == "review" and self.train is None
        return found + (self.assume("tokens of a review") if blank else 0)

    @cached_property
    def answer(self) -> float:
        """Tokens of an answer with a rating."""
        return self.count([prompts.rating_answer(4.0)])[0]

    @cached_property
    def prefix(self) -> float:
        """Tokens that a rating comes after."""
        return self.count([prompts.RATING_PREFIX])[0]

    @cached_property
    def accepted(self) -> list[Target]:
        """A sample of the targets with an accepted reason, or of all where none is yet."""
        there = self.survey.usable(TEACHER_REASONS)
        return self.targets(schema.read(self.folder, TEACHER_REASONS) if there else self.drawn[1])


NO_HISTORY = History((), (), None, None)


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if len(frame) <= SAMPLE else frame.sample(n=SAMPLE, random_state=42)


def _entries_shown(reviews: float, most: int) -> int:
    """Mean entries of a history of which a review stands anywhere among that many; rounded up."""
    return math.ceil(mean(min(most, earlier) for earlier in range(max(1, round(reviews)))))


def _demo_splits(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train, valid and test of the demo's world as steps 0/3 and 0/2 make them, before the 5-core filter."""
    # By name, so that a dry run of other datasets does not load the engine of the preprocessing.
    from reason4rec.data import preprocess

    world = importlib.import_module(DEMO_WORLD)
    return preprocess.split(world.as_frame(*world.raw_records(world.USERS, world.ITEMS, seed)))
