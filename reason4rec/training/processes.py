"""Training in one process or in several that were launched together: they fail together, and one of them prints."""

import contextlib
import io
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from reason4rec.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

WAIT = 5  # seconds that a process without a message of its own waits for the one that has it


def started(device: str) -> "PartialState":
    """The state of the processes, on `cuda` or `cpu`."""
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu")


def one_speaks(state: "PartialState") -> contextlib.AbstractContextManager:
    """For the time of a block, what the other processes would print is not printed again."""
    return contextlib.nullcontext() if state.is_main_process else contextlib.redirect_stdout(io.StringIO())


def together(state: "PartialState", work: Callable[[], Result]) -> Result:
    """The result of `work`, done in every process; if it fails in any, the first to fail says why and all end."""
    from accelerate.utils import gather_object

    failure = None
    try:
        result = work()
    except (InputError, OSError) as error:
        failure = error
    failed = gather_object([failure is not None])
    if failure is not None and failed.index(True) == state.process_index:
        raise failure
    if any(failed):
        # A launcher ends all processes when one has ended, which must not be before the message is printed.
        time.sleep(WAIT)
        sys.exit(2)
    return result


def any_is(state: "PartialState", work: Callable[[], bool]) -> bool:
    """Whether `work` is true in the main process, known to all; the others do not call it."""
    from accelerate.utils import gather_object

    return any(gather_object([together(state, lambda: state.is_main_process and work())]))
