"""A question to the experts, and their answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from reason4rec.data.history import Entry
from reason4rec.errors import InputError
from reason4rec.systems.reason4rec.asking.known import Known
from reason4rec.systems.reason4rec.prompts import RATINGS

LONGEST_TEXT = 50_000  # characters of a given review or title; prompts are cut at the model's length anyhow
MOST_REVIEWS = 1_000  # given of one user or item


class NothingLeft(InputError):  # noqa: N818
    """There is no item to recommend to a user who has reviewed them all."""


@dataclass(frozen=True)
class Review:
    """A review that is given with a question: the title of the item, the rating (1 to 5), the text.

    `time` in unix seconds orders reviews; those of one time stand in the order in which they are given. `item_id` says
    which known item it is about, so that this one is not recommended again.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str
    rating: float
    text: str
    time: int = 0
    item_id: str | None = None


@dataclass(frozen=True)
class Question:
    """A user and an item: each by its id, or a new one by its reviews.

    A new item has a `title`; its reviews, by others, may be none. Only training reviews earlier than `before`, in unix
    seconds, are looked at; all of them where it is None.
    """

    user_id: str | None = None
    item_id: str | None = None
    user_reviews: Sequence[Review] | None = None
    title: str | None = None
    item_reviews: Sequence[Review] = ()
    before: int | None = None

    @property
    def is_private(self) -> bool:
        """Whether it holds texts that are not the dataset's, of which nothing is kept on disk."""
        return self.user_reviews is not None or self.title is not None


@dataclass(frozen=True)
class Answer:
    """What the experts say of a user and an item.

    `rating` is the expectation (1 to 5) and `median` the median of the five `probabilities`, of the ratings 1 to 5.
    `reason` is the Reasoner's paragraph. The histories are what the experts saw, oldest first; averages and counts are
    over all earlier ratings, shown or not, None and 0 where there is none. `notes` say what a reader has to know to
    trust the answer as much as it deserves. `model` is the name that tables of results have for the experts.
    """

    user_id: str | None
    item_id: str | None
    title: str
    rating: float
    median: float
    probabilities: tuple[float, ...]
    reason: str
    user_history: tuple[Entry, ...]
    item_history: tuple[Entry, ...]
    user_average: float | None
    item_average: float | None
    user_count: int
    item_count: int
    model: str
    notes: tuple[str, ...] = field(default=())


def checked(question: Question, known: Known) -> Question:
    """A question with ids that are known and reviews in their order; InputError says what is wrong with it."""
    if (question.user_id is None) == (question.user_reviews is None):
        raise InputError("user: give either the id of a known user or the reviews of a new one")
    if (question.item_id is None) == (question.title is None):
        raise InputError("item: give either the id of a known item or the title of a new one")
    if question.item_reviews and question.title is None:
        raise InputError("item_reviews: they are those of a new item, which has a title instead of an id")
    before = _plain(question.before)
    if before is not None and type(before) is not int:
        raise InputError(f"before {ascii(before)[:60]}: expected a time in unix seconds")
    reviews = None if question.user_reviews is None else tuple(reviews_in(question.user_reviews, "user_reviews"))
    for number, review in enumerate(reviews or (), 1):
        if review.item_id is not None:
            try:
                known.item(review.item_id)
            except InputError as error:
                raise InputError(f"user_reviews: review {number}: item_id: {error}") from None
    return replace(
        question,
        before=before,
        user_id=None if question.user_id is None else known.user(question.user_id),
        item_id=None if question.item_id is None else known.item(question.item_id),
        user_reviews=reviews,
        title=None if question.title is None else checked_title(question.title, "new item"),
        item_reviews=tuple(reviews_in(question.item_reviews, "item_reviews", titled=False)),
    )


def reviews_in(given: object, where: str, titled: bool = True) -> list[Review]:
    """Reviews from a list of `Review` or of mappings with their fields; InputError names the one that is wrong.

    Those of an item need no title of their own, which `titled` says.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise InputError(f"{where}: expected a list of reviews with title, rating and text, found {_shown(given)}")
    if len(given) > MOST_REVIEWS:
        raise InputError(f"{where}: {len(given):,} reviews; give at most the last {MOST_REVIEWS:,}")
    found = [_review(one, f"{where}: review {number}", titled) for number, one in enumerate(given, 1)]
    return sorted(found, key=lambda review: review.time)


def _review(given: object, where: str, titled: bool) -> Review:
    if isinstance(given, Review):
        given = vars(given)
    if not isinstance(given, dict):
        raise InputError(f"{where}: expected title, rating and text, found {_shown(given)}")
    if "title" not in given and not titled:
        given = {"title": ""} | given
    try:
        review = _REVIEW.validate_python({name: _plain(value) for name, value in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "review"
        raise InputError(f"{where}: {name}: {first['msg'].lower()}, found {_shown(first['input'])}") from None
    if not (math.isfinite(review.rating) and 1 <= review.rating <= len(RATINGS)):
        raise InputError(f"{where}: rating {review.rating} is outside 1 to 5")
    if not review.text.strip():
        raise InputError(f"{where}: its text is empty; leave it out or give its text")
    if titled:
        checked_title(review.title, where)
    if len(review.text) > LONGEST_TEXT:
        raise InputError(f"{where}: its text has {len(review.text):,} characters; give at most {LONGEST_TEXT:,}")
    return review


def checked_title(title: object, where: str) -> str:
    """A title without space around it; InputError if it is empty, too long or no text."""
    if not isinstance(title, str) or not title.strip():
        raise InputError(f"{where}: title is empty; give the item's name")
    if len(title) > LONGEST_TEXT:
        raise InputError(f"{where}: its title has {len(title):,} characters; give at most {LONGEST_TEXT:,}")
    return title.strip()


def _plain(value: object) -> object:
    """A value of a table's cell, which may be one of numpy's, as Python has it."""
    return value.item() if isinstance(value, np.generic) else value


def _shown(value: object) -> str:
    return ascii(value)[:60]


_REVIEW = TypeAdapter(Review)
