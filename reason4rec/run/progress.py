"""What long work shows while it runs: a bar on a terminal, a line a minute in a log file.

A bar says what it counts from its first second on, and a thread redraws it every few seconds, so that the elapsed
time moves inside a batch that takes minutes. Our decision.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

REDRAW_TERMINAL = 5.0  # seconds
REDRAW_LOG = 60.0  # seconds
WIDTH, HEIGHT = 100, 24  # columns and rows where a terminal does not say how large it is


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
            position=0,  # else a bar below twenty that were left open would not be shown
            ncols=WIDTH,
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
            self.ncols, self.nrows = _size(self.fp)
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


def _size(file: TextIO) -> tuple[int, int]:
    """The columns, but for the last one, and the rows of a terminal."""
    try:
        columns, rows = os.get_terminal_size(file.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns - 1 if columns > 1 else WIDTH, rows if rows > 1 else HEIGHT


@contextmanager
def progress(what: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Bar]:
    """A bar for the time of a block."""
    with Bar(what, total, unit, quiet) as bar:
        yield bar


def counted(
    items: Iterable[Item], what: str, unit: str, total: int | None = None, quiet: bool = False
) -> Iterator[Item]:
    """The items, each counted by a bar when the next one is wanted."""
    with progress(what, len(items) if total is None and isinstance(items, Sized) else total, unit, quiet) as bar:
        for item in items:
            yield item
            bar.update()
