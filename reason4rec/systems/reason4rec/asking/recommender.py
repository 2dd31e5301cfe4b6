"""The experts of a finished run, ready to be asked about a user and an item."""

import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property
from math import isfinite
from typing import Self

from reason4rec.data.catalog import DEMO, STARS
from reason4rec.data.fields import number
from reason4rec.data.history import History
from reason4rec.errors import InputError
from reason4rec.evaluation.metrics import expected_rating, median_rating
from reason4rec.systems.reason4rec.asking.finished import step_of_finished_run, trial_of
from reason4rec.systems.reason4rec.asking.known import Known, known_in
from reason4rec.systems.reason4rec.asking.loaded import LoadedExperts
from reason4rec.systems.reason4rec.asking.past import Past
from reason4rec.systems.reason4rec.asking.questions import Answer, NothingLeft, Question, Review, checked
from reason4rec.systems.reason4rec.asking.shortlist import NAME, SHORTLIST, Shortlister
from reason4rec.systems.reason4rec.step import ExpertStep


class Recommender:
    """The three experts of a finished run and what they know of its users and items; safe to use from many threads.

    It answers with the settings of the run: the same rows get the same numbers as from the numbered scripts. Histories
    come from the training reviews alone. `load` makes one; `known` are the users and items.
    """

    def __init__(self, step: ExpertStep):
        self.step = step
        self.experts = LoadedExperts(step)
        self.past = Past(step)
        self.known: Known = known_in(self.past.train, self.past.later)
        self.experts.check()
        self.model = step.label
        self._always = _notes_of(step)
        # A model answers one call at a time; several questions are to be asked in one.
        self._lock = threading.RLock()

    @classmethod
    def load(cls, dataset: str, **options: object) -> Self:
        """The experts of a dataset's finished run.

        `options` are those of `3_Predictor/3_generate_predict_for_test.py` by their names, such as `device`,
        `data_root`, `checkpoint_root`, `base_url` or `prompts`; what is not given is as it was in the run. Weights are
        loaded when they are first needed. InputError names an option or a file that is wrong or missing.
        """
        return cls(step_of_finished_run(dataset, options))

    def explain(self, user_id: str | None = None, item_id: str | None = None, **more: object) -> Answer:
        """The experts' rating of one item by one user, with the reason and the histories that it rests on.

        `more` has other fields of `Question`: `user_reviews` of a new user, `title` and `item_reviews` of a new item,
        `before`. InputError for a user or an item that is not known, with the nearest ids.
        """
        known = {one.name for one in fields(Question)}
        for name in more:
            if name not in known:
                raise InputError(f"{name}: a question has no such field; it has {', '.join(sorted(known))}")
        return self.explain_all([Question(user_id=user_id, item_id=item_id, **more)])[0]

    def explain_all(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to many questions, in their order; they go through the models together."""
        questions = [checked(question, self.known) for question in questions]
        found: dict[int, Answer] = {}
        with self._lock:
            for private in (False, True):  # of private ones nothing is kept on disk
                places = [k for k, question in enumerate(questions) if question.is_private == private]
                found |= zip(places, self._answers([questions[k] for k in places], private))
        return [found[k] for k in range(len(questions))]

    def rank(
        self, user_id: str | None = None, item_ids: Sequence[str] = (), user_reviews: Sequence[Review] | None = None
    ) -> list[Answer]:
        """The answers for several items and one user, the highest rating first; an item that is named twice, once."""
        return ranked(self.explain_all(self.to_rank(user_id, item_ids, user_reviews)))

    def to_rank(
        self, user_id: str | None, item_ids: Sequence[str], user_reviews: Sequence[Review] | None
    ) -> list[Question]:
        """The questions whose answers `rank` puts in order."""
        if isinstance(item_ids, str) or not item_ids:
            raise InputError("item_ids: expected a list with at least one item's id")
        return [
            Question(user_id=user_id, item_id=item, user_reviews=user_reviews)
            for item in dict.fromkeys(map(self.known.item, item_ids))
        ]

    def recommend(
        self,
        user_id: str | None = None,
        k: int = 10,
        user_reviews: Sequence[Review] | None = None,
        shortlist: int = SHORTLIST,
    ) -> list[Answer]:
        """At most `k` items that the user has not reviewed, by the experts' rating, the highest first.

        The experts are asked about a `shortlist` that a cheap model makes of the catalogue, which the notes say.
        """
        if not 1 <= k <= shortlist:
            raise InputError(f"k {k}: expected a number from 1 to {shortlist}, the length of the shortlist")
        questions, note = self.to_recommend(user_id, user_reviews, shortlist)
        return ranked(self.explain_all(questions), k, note)

    def to_recommend(
        self, user_id: str | None, user_reviews: Sequence[Review] | None, shortlist: int = SHORTLIST
    ) -> tuple[list[Question], str]:
        """The questions about a shortlist whose answers `recommend` puts in order, and the note that says so.

        NothingLeft where the user has reviewed every item.
        """
        user = checked(Question(user_id=user_id, title="any", user_reviews=user_reviews), self.known)
        rated = self.past.rated(user, self.known)
        had = set(rated) | self.past.had.get(user.user_id, set())
        items = self._shortlister.best(rated, had, shortlist)
        if not items:
            raise NothingLeft("nothing is left to recommend: the user has reviewed every item")
        of = len(self._shortlister.items.keys() - had)
        note = f"one of {len(items)} items that {NAME} chose of the {of:,} that have training reviews"
        return self.to_rank(user.user_id, items, user.user_reviews), note

    @cached_property
    def _shortlister(self) -> Shortlister:
        return Shortlister(self.past.train, self.step.common.seed)

    def _answers(self, questions: Sequence[Question], private: bool) -> list[Answer]:
        if not questions:
            return []
        titles = [one.title if one.item_id is None else self.known.titles[one.item_id] for one in questions]
        histories = self.past.histories(questions, self.experts.entries)
        probabilities, reasons, cut = self.experts.predict(titles, histories, private)
        ratings, medians = expected_rating(probabilities).tolist(), median_rating(probabilities).tolist()
        rows = zip(questions, titles, histories, cut, ratings, medians, map(tuple, probabilities.tolist()), reasons)
        return [self._answer(*row) for row in rows]

    def _answer(self, question: Question, title: str, history: History, cut: bool, *said: object) -> Answer:
        known = (history.user, history.item, history.user_average, history.item_average)
        counts = (history.user_count, history.item_count)
        notes = [*self._always, *_notes_on(history)]
        first = self.past.first_reviews.get((question.user_id, question.item_id))
        if first is not None and (question.before is None or first < question.before):
            notes.append("the user's own review of this item is among those that were read")
        if cut:
            notes.append("not all that is shown fitted into the models' prompts: the oldest reviews were left out")
        return Answer(question.user_id, question.item_id, title, *said, *known, *counts, self.model, tuple(notes))


def ranked(answers: Sequence[Answer], most: int | None = None, note: str = "") -> list[Answer]:
    """Answers, the highest rating first and an unusable one last, at most so many; with a further note for each."""
    ordered = sorted(answers, key=lambda one: (not isfinite(one.rating), -one.rating))[:most]
    return [replace(answer, notes=(*answer.notes, note)) if note else answer for answer in ordered]


def _notes_on(history: History) -> list[str]:
    """What a reader has to know of an answer that rests on a history."""
    notes = []
    if not history.user_count:
        notes.append("no earlier review by this user is known: the answer rests on the item alone")
    if not history.item_count:
        notes.append("no earlier review of this item is known: the answer rests on the user alone")
    return notes


def _notes_of(step: ExpertStep) -> tuple[str, ...]:
    """What holds of every answer of a run."""
    notes = ["the demo's users, items and reviews are made up"] if step.common.dataset == DEMO else []
    if limit := trial_of(step):
        notes.append(
            f"a trial run with --limit {limit}: only reviews that its rows need are shown, averages are of all"
        )
    if step.dataset.scale != STARS:
        low, high = map(number, step.dataset.scale)
        notes.append(f"1 stands for {low} and 5 for {high} of the dataset's own scale")
    return tuple(notes)
