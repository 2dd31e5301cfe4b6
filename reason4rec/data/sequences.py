"""Sequences of what users chose, and the cases made of them: a history and the item that came next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One item that a user chose, with the rating (None where there is none) and the review (empty without one)."""

    item_id: str
    rating: float | None
    review: str


@dataclass(frozen=True)
class Case:
    """A user's history, oldest first, and the event that came next, which is to be found."""

    user_id: str
    history: tuple[Event, ...]
    target: Event
