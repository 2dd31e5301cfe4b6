"""Training in one process or in several that were launched together: they fail together, and one of them prints."""

import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from reason4rec.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

WAIT = 5  # seconds that a process without a message of its own waits for the one that has it
MEETING = 600  # seconds in which processes that were launched together must have met
OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
OF_A_LAUNCHER = re.compile("RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|(ACCELERATE|FSDP)_.*")


def is_launched() -> bool:
    """Whether a launcher started this process, by itself or with others: then all that torchrun sets is set, or MPI's.

    Some of it may be left in the environment from elsewhere.
    """
    if any(os.environ.get(name) for name in OF_MPI):
        return True
    values = [os.environ.get(name, "") for name in OF_TORCHRUN]
    rank, local_rank, size, _, port = values
    return all(values) and all(map(str.isdigit, (rank, local_rank, size, port))) and int(rank) < int(size)


def started(device: str) -> "PartialState":
    """The state of the processes, on `cuda` or `cpu`: of this one alone where no launcher started it.

    Where other processes do not come within MEETING seconds, this one ends with a message.
    """
    left = [] if is_launched() else sorted(name for name in os.environ if OF_A_LAUNCHER.fullmatch(name))
    for name in left:
        del os.environ[name]
    if left:
        print(
            f"note: one process trains; {', '.join(left)} in the environment come from no launcher and are not heeded"
        )
    from accelerate import PartialState

    alone = threading.Timer(MEETING, _end_alone)
    alone.daemon = True
    alone.start()
    try:
        return PartialState(cpu=device == "cpu")
    finally:
        alone.cancel()


def _end_alone() -> None:
    size, address = os.environ.get("WORLD_SIZE"), os.environ.get("MASTER_ADDR")
    print(
        f"error: WORLD_SIZE is {size}, and the other processes did not come to {address} in {MEETING} s; start all of "
        f"them, or unset {', '.join(OF_TORCHRUN)} to train in one",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)  # the main thread hangs in torch


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
