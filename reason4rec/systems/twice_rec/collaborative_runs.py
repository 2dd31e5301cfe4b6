"""Training the collaborative model of a dataset, its card, and what it says of any item."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

WEIGHTS_OF = ("valid", "test")


def settings(step):
    return {}
