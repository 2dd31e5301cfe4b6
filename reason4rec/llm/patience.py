"""Waiting for a server that was there and cannot be reached now: one that is started again loads its model first."""

import threading
import time
from collections.abc import Callable

import openai
from tqdm import tqdm

PAUSE = 5.0  # seconds between tries, beside the client's own
DOWN = (502, 503, 504)  # what a gateway says of a server that is away


class Patience:
    """Waits for servers in many threads at once, `seconds` each, and tells once of each that it is waited for."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.over = threading.Event()
        self._told: set[str] = set()
        self._telling = threading.Lock()

    def ask(self, request: Callable[[], object], address: str) -> object:
        """What a request gives, sent again for so long while the server is away, or until `over` is set.

        The error of the last try is raised. A reply that does not come in time is no server that is away.
        """
        until = time.monotonic() + self.seconds
        while True:
            try:
                return request()
            except openai.APIError as error:
                if not is_away(error) or time.monotonic() >= until:
                    raise
                self._tell(address)
                if self.over.wait(PAUSE):
                    raise

    def _tell(self, address: str) -> None:
        with self._telling:
            if address not in self._told:
                self._told.add(address)
                tqdm.write(
                    f"note: the server at {address} cannot be reached now; waiting {_duration(self.seconds)} for it"
                )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.0f} s"


def is_away(error: openai.APIError) -> bool:
    """Whether an error says that no server is there."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in DOWN
    return isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)
