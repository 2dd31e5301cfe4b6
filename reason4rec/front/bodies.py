"""What the API takes and gives, as its OpenAPI document describes it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reason4rec.systems.reason4rec.asking.questions import LONGEST_TEXT, MOST_REVIEWS, Question
from reason4rec.systems.reason4rec.asking.shortlist import SHORTLIST

LONGEST_TITLE = 500  # characters; a title is never cut to fit into a prompt

Id = Annotated[str, Field(max_length=500, description="the id of a known user or item")]
Title = Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)]
Stars = Annotated[float, Field(ge=1, le=5, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
Time = Annotated[int, Field(description="in unix seconds; orders the reviews", ge=-(2**53), le=2**53)]


class Strict(BaseModel):
    """A body in which no unknown field is passed over."""

    model_config = ConfigDict(extra="forbid")


class ItemReview(Strict):
    """A review of a new item by somebody."""

    rating: Stars
    text: Text
    time: Time = 0


class UserReview(ItemReview):
    """A review by a new user; `item_id` says which known item it is about."""

    title: Title
    item_id: Id | None = None


class Asker(Strict):
    """A known user by id, or a new one by reviews."""

    user_id: Id | None = None
    user_reviews: Annotated[list[UserReview], Field(max_length=MOST_REVIEWS)] | None = None

    def reviews(self) -> list[dict] | None:
        """The reviews as a question takes them."""
        return None if self.user_reviews is None else [one.model_dump() for one in self.user_reviews]


class Explain(Asker):
    """A user and an item: each known, by id, or new."""

    item_id: Id | None = None
    title: Title | None = None
    item_reviews: Annotated[list[ItemReview], Field(max_length=MOST_REVIEWS)] = []
    before: Annotated[int, Field(description="look at reviews before this time alone, in unix seconds")] | None = None

    def question(self) -> Question:
        """The question, not checked yet."""
        reviews = [one.model_dump() for one in self.item_reviews]
        return Question(self.user_id, self.item_id, self.reviews(), self.title, reviews, self.before)


class Rank(Asker):
    """Several known items for one user."""

    item_ids: Annotated[list[Id], Field(min_length=1, max_length=SHORTLIST)]


class Recommend(Asker):
    """How many items to recommend to a user."""

    k: Annotated[int, Field(ge=1, le=SHORTLIST)] = 10


class Remembered(BaseModel):
    """An entry of a history; `spoken_of` are the spans of its text, in characters, that the reason speaks of."""

    title: str
    rating: float
    text: str
    spoken_of: list[tuple[int, int]]


class Said(BaseModel):
    """What the experts say; numbers are null where they gave none that can be used."""

    user_id: str | None
    item_id: str | None
    title: str
    rating: float | None
    median: float | None
    probabilities: list[float | None]
    reason: str
    user_history: list[Remembered]
    item_history: list[Remembered]
    user_average: float | None
    item_average: float | None
    user_count: int
    item_count: int
    model: str
    notes: list[str]


class SaidOfMany(BaseModel):
    """Answers for several items, the highest rating first."""

    answers: list[Said]


class FoundUser(BaseModel):
    """A known user and the number of training reviews."""

    id: str
    reviews: int


class FoundItem(FoundUser):
    """A known item."""

    title: str


class FoundUsers(BaseModel):
    """Users that a search found, those with most reviews first."""

    users: list[FoundUser]


class FoundItems(BaseModel):
    """Items that a search found, those with most reviews first."""

    items: list[FoundItem]


class Health(BaseModel):
    """How the server is: `waiting` are the questions in line, of at most `queue`.

    `asking_since` is when the call of the experts that is under way began, in unix seconds, null where none is.
    """

    status: Literal["ok", "closed"]
    dataset: str
    model: str
    waiting: int
    queue: int
    asking_since: float | None


class Trouble(BaseModel):
    """Why there is no answer, in one line."""

    error: str
