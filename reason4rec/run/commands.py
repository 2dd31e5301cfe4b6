"""A command that a user gave: how it ends when something is wrong, and how a command runs another one."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from tqdm import tqdm

from reason4rec.errors import LONGEST, InputError, Pending
from reason4rec.run import locks

ADVICE = {
    "; free the disk and run again": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "; mend the path or its permissions": (errno.EACCES, errno.EPERM, errno.EROFS),
    "; mend the path": (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST),
    "; raise the limit of open files (ulimit -n)": (errno.EMFILE, errno.ENFILE),
}
WAITING = 3  # exit code of a step that waits for answers from elsewhere


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a command and returns its exit code; one that is interrupted too has all the time that it needs to end."""
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def guarded(run: Callable[[], None]) -> None:
    """Does what a command does; what a user can mend ends in one line and exit code 2, what has to wait in 3."""
    os.umask(0o077)
    sys.excepthook = sys.__excepthook__  # what was set for the time in which libraries are loaded
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a log of another encoding shows a text as far as it can.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        run()
        sys.stdout.flush()
    except InputError as error:
        sys.exit(_complain(str(error)))
    except Pending as error:
        print(error.write())
        sys.exit(WAITING)
    except BrokenPipeError:
        # Whoever reads the output has enough; what is left of it must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = next((text for text, codes in ADVICE.items() if error.errno in codes), "")
        sys.exit(_complain(f"{where}{error.strerror or error}{advice}"))
    except KeyboardInterrupt as error:
        kept = str(error) or "finished outputs and replies are kept; run the same command again to go on"
        print(f"interrupted: {kept}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # By name, so that a step that needs no torch does not load it.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        sys.exit(
            _complain("the GPU's memory is full: pass a smaller --prompts_at_once (trainer: --gradient_accumulation)")
        )
    finally:
        locks.unlock()


def _complain(message: str) -> int:
    # A file may have put control characters into what is said of it.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    if len(shown) > LONGEST:
        where = " ..."
        with suppress(OSError):  # a full disk may be the very complaint
            number, whole = tempfile.mkstemp(prefix="reason4rec-error-", suffix=".txt")
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(f"{shown}\n")
            where = f" ... (whole in {whole})"
        shown = shown[: LONGEST - len(where) - 9] + where
    tqdm.write(f"error: {shown}", file=sys.stderr)
    return 2
