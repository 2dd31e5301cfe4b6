"""One process at a time makes an output: locks that the kernel frees when their process dies.

By hand, though filelock is in the stack: a lock file of that library does not say who holds it, which the second run
of a step must say.
"""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from reason4rec.run.files import make_folder

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system that has none

_held: dict[Path, int] = {}  # descriptors by lock file


def lock_path(path: Path) -> Path:
    """The file by which one process at a time makes an output."""
    return path.with_name(f".{path.name}.lock")


def lock(path: Path) -> str:
    """Locks an output for this process until it ends or calls `unlock`; who holds it, where another process does.

    The kernel frees the lock of a process that dies. The lock file is removed by its holder alone, and whoever locked
    one that was removed meanwhile takes a new one, so no two processes hold the same output. Our decision.
    """
    file = lock_path(path).absolute()
    if file in _held:
        return ""
    make_folder(file.parent)
    while True:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(number, file):
                break
        except BlockingIOError:
            holder = os.pread(number, 200, 0).decode(errors="replace")
            os.close(number)
            return holder or "another process"
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"note: {path.parent} is on a file system without locks: start no second run of this step")
            break
        os.close(number)
    _held[file] = number
    # The name is for a message alone, and a full disk is reported where it matters.
    with contextlib.suppress(OSError):
        os.ftruncate(number, 0)
        os.pwrite(number, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return ""


def unlock(path: Path | None = None) -> None:
    """Unlocks an output that this process holds, or all of them."""
    for file in [lock_path(path).absolute()] if path else list(_held):
        number = _held.pop(file, None)
        if number is not None:
            # Before the lock is free: after it, the file may be another's.
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(number)


def _is_at(number: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), file.stat())
    except FileNotFoundError:
        return False
