"""What may be learned from: the training part of each user's sequence.

Every text, row and reasoning is made from these alone, so that no target of the validation or the test, nor a review
of one, can come into them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from reason4rec.data.sequences import Event, cases

LONGEST = 20  # items of a history, the last ones; released code


class Past(NamedTuple):
    """A user and the items of the training part, oldest first: all but the last two of the sequence, so two or more."""

    user_id: str
    events: tuple[Event, ...]


def training_parts(sequences: pd.DataFrame) -> list[Past]:
    """The training part of each user, in the order of a table that `data.sequences.check_sequences` has passed."""
    return [Past(case.user_id, (*case.history, case.target)) for case in cases(sequences, "train")]


def window(events: Sequence[Event], end: int) -> Sequence[Event]:
    """The history of the target at place `end`: up to LONGEST events before it."""
    return events[max(0, end - LONGEST) : end]
