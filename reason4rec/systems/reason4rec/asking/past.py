"""What a run knows of earlier reviews: histories of questions, and what each user has reviewed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from reason4rec.data import schema
from reason4rec.data.history import Entry, History
from reason4rec.data.schema import TEST, TRAIN, VALID
from reason4rec.systems.reason4rec.artifacts import NOT_SUMMARISED, SUMMARIES, SUMMARY
from reason4rec.systems.reason4rec.asking.known import Known
from reason4rec.systems.reason4rec.asking.questions import Question, Review
from reason4rec.systems.reason4rec.options import Histories
from reason4rec.systems.reason4rec.step import ExpertStep
from reason4rec.systems.reason4rec.targets import index_of

NOBODY = ""  # no user and no item has this id
EVER = 2**62  # later than every review, in unix seconds


class Past:
    """The reviews of a run: `train` are the training reviews with summaries, `later` those of the other splits."""

    def __init__(self, step: ExpertStep):
        self._folder = step.folder
        self.train = step.read(SUMMARIES)
        self.later = [schema.read(step.folder, one) for one in (VALID, TEST) if step.path(one).exists()]
        self.length = step[Histories].history_length
        self.index = index_of(self.train, self.length)

    @cached_property
    def had(self) -> dict[str, set[str]]:
        """The items that each user has reviewed in any split."""
        found: dict[str, set[str]] = defaultdict(set)
        # A run may have been handed on with a part of its training reviews.
        whole = [schema.read(self._folder, TRAIN)] if (self._folder / TRAIN.path).exists() else []
        for frame in (self.train, *whole, *self.later):
            for user, item in zip(frame["user_id"].tolist(), frame["item_id"].tolist()):
                found[user].add(item)
        return found

    def rated(self, user: Question, known: Known) -> dict[str, float]:
        """The ratings of a user, by the items that training reviews are about."""
        if user.user_reviews is None:
            of_user = self.train[self.train["user_id"] == user.user_id]
            return dict(zip(of_user["item_id"].tolist(), of_user["ratings"].tolist()))
        pairs = [(one.item_id or known.item_called(one.title), one.rating) for one in user.user_reviews]
        return {item: rating for item, rating in pairs if known.items.get(item)}

    @cached_property
    def first_reviews(self) -> dict[tuple[str, str], int]:
        """The time of the first training review with a summary of each user on each item."""
        read = self.train[self.train[SUMMARY] != NOT_SUMMARISED]
        ordered = read.sort_values("unixReviewTime", ascending=False, kind="stable")
        pairs = zip(ordered["user_id"].tolist(), ordered["item_id"].tolist())
        return dict(zip(pairs, ordered["unixReviewTime"].tolist()))

    def histories(
        self, questions: Sequence[Question], entries_of: Callable[[Sequence[Review]], Sequence[Entry]]
    ) -> list[History]:
        """What is known before each question: of the dataset, and of what was given with it.

        `entries_of` makes entries of given reviews, of all questions in one call.
        """
        found: list[History] = []
        sides: list[tuple[int, str, Sequence[Review]]] = []
        for place, one in enumerate(questions):
            before = EVER if one.before is None else one.before
            found.append(self.index.of(one.user_id or NOBODY, one.item_id or NOBODY, before))
            if one.user_reviews is not None:
                sides.append((place, "user", one.user_reviews))
            if one.title is not None:
                sides.append((place, "item", [replace(review, title=one.title) for review in one.item_reviews]))
        shown = [list(reviews)[-self.length :] if self.length else [] for _, _, reviews in sides]
        # The summaries of all of them are written together.
        entries = iter(entries_of([review for reviews in shown for review in reviews]))
        for (place, side, reviews), of_side in zip(sides, shown):
            mean = sum(one.rating for one in reviews) / len(reviews) if reviews else None
            values = {side: tuple(next(entries) for _ in of_side), f"{side}_average": mean}
            found[place] = replace(found[place], **values, **{f"{side}_count": len(reviews)})
        return found
