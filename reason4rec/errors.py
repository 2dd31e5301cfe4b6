"""The exceptions that a script answers with one line and an exit code."""

from abc import ABC, abstractmethod

LONGEST = 299  # characters of a message


class InputError(ValueError):
    """Bad input: the message says which file, column, row or flag, and what to do. Exit code 2."""


class ServerAway(InputError):  # noqa: N818
    """A server that has to be asked is not there or lets nobody in, whatever it is asked. Exit code 2."""


class Pending(Exception, ABC):  # noqa: N818
    """A step has to wait for answers from elsewhere. Exit code 3."""

    @abstractmethod
    def write(self) -> str:
        """Writes down what is wanted; what to do next, in one line."""
