"""A Parquet file as lines of JSON, written by a process of its own that may have only so much memory.

A small hostile file can name any amount of memory to its reader, or end it: then that process ends, and nothing else.

    python -m reason4rec.data.parquet FILE
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reason4rec.run.project import python_path

START = b"PAR1"
MEMORY = 2**31  # bytes that reading one may take
ROWS = 1_000  # at a time
ENDED = 3  # exit code of a reader that says why


class Rows(io.BufferedReader):
    """The rows of a Parquet file as lines of JSON; the number of a line is that of the row, counted from 1."""


class _Written(io.RawIOBase):
    """What another process writes; EOFError at its end where it failed."""

    def __init__(self, process: subprocess.Popen):
        self.process = process

    def readable(self) -> bool:
        return True

    def readinto(self, part: memoryview) -> int:
        count = self.process.stdout.readinto(part)
        if not count and self.process.wait():
            said = self.process.stderr.read(1_000).decode("utf-8", "replace").strip().splitlines()
            known = said and self.process.returncode == ENDED
            raise EOFError(said[-1] if known else f"no Parquet that {MEMORY >> 30} GB of memory can read")
        return count


@contextmanager
def rows(path: Path) -> Iterator[Rows]:
    """The rows of a Parquet file while the block runs."""
    # The other allocators reserve more than they use.
    environment = os.environ | python_path() | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reason4rec.data.parquet", str(path.resolve())]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield Rows(_Written(process), 2**16)
        finally:
            process.kill()


def write(path: str) -> None:
    """Writes the rows of a Parquet file to the standard output."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        for batch in ParquetFile(path).iter_batches(ROWS, use_threads=False):
            for row in batch.to_pylist():
                line = json.dumps({name: _plain(value) for name, value in row.items()}, default=_text)
                sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        print(" ".join(str(error).split()) or "it takes too much memory", file=sys.stderr)
        sys.stdout = None
        os._exit(ENDED)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and value != value else value


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    write(sys.argv[1])
