"""What long work shows while it runs: a bar on a terminal, a line a minute in a log file.

A bar says what it counts from its first second on, and a thread redraws it every few seconds, so that the elapsed
time moves inside a batch that takes minutes. Our decision.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

REDRAW_TERMINAL = 5.0  # seconds
REDRAW_LOG = 60.0  # seconds
WIDTH = 100  # columns where a terminal does not say how wide it is


class Bar(tqdm):
    """A bar of tqdm's that is redrawn while nothing is counted; in a file each state is a line of its own."""

    def __init__(self, what: str, total: int | None, unit: str, quiet: bool = False, **options: object):
        self.log = not sys.stderr.isatty()
        self.shown_at = 0.0
        super().__init__(
            desc=what,
            total=total,
            unit=unit,
            disable=quiet,
            dynamic_ncols=not self.log,
            ncols=WIDTH if self.log else None,
            mininterval=REDRAW_LOG if self.log else 0.2,
            maxinterval=REDRAW_LOG if self.log else 10.0,
            **options,
        )
        self.closed = threading.Event()
        if not quiet:
            threading.Thread(target=self._redraw, daemon=True).start()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draws the bar; in a file as a line, the first and the last one always."""
        if not self.log:
            return super().display(msg, pos)
        self.shown_at = time.monotonic()
        if msg != "":
            print(self if msg is None else msg, file=self.fp, flush=True)
        return True

    def close(self) -> None:
        """Ends the bar and its thread."""
        if hasattr(self, "closed"):
            self.closed.set()
        super().close()

    def _redraw(self) -> None:
        every = REDRAW_LOG if self.log else REDRAW_TERMINAL
        while not self.closed.wait(every):
            if time.monotonic() - self.shown_at >= every / 2:
                self.refresh()


@contextmanager
def progress(what: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Bar]:
    """A bar for the time of a block."""
    with Bar(what, total, unit, quiet) as bar:
        yield bar


def counted(items: Iterable[Item], what: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """The items, each counted by a bar when the next one is wanted."""
    with progress(what, len(items) if total is None and isinstance(items, Sized) else total, unit) as bar:
        for item in items:
            yield item
            bar.update()
