"""Replies of models, kept on disk as they come, so that a run that dies asks nothing twice.

One sqlite file per dataset holds the replies of the teacher and of the local models, each under a key made of
everything that the reply depends on. Our decision.
"""

import hashlib
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from reason4rec.errors import InputError

PATH = "cache/replies.sqlite"
AT_ONCE = 10_000  # keys in one query; sqlite takes 32,766


def of_cuts(top_k: int, top_p: float) -> dict[str, object]:
    """What the key of a drawn reply says of the tokens that it was not drawn from: nothing where it was from all."""
    return ({"top_k": top_k} if top_k else {}) | ({"top_p": top_p} if top_p < 1 else {})


def key_of(**what: object) -> str:
    """The key of a reply: a sha256 over all that it depends on."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


class _Entry:
    """Rows that a thread wants to be kept, and whether they are."""

    def __init__(self, rows: list[tuple[str, str]], replace: bool):
        self.rows, self.replace, self.kept = rows, replace, False


class ResponseCache:
    """A table of JSON values by key; safe to use from several threads and processes of one machine.

    The file and the folder that it makes are for their owner alone. Where `keep` is not set, what is put is passed
    over, and only what is there already is read. InputError if the file is no such table.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)  # sqlite gives its journal the same mode
        self.path = path
        self.keep = True
        self.lock = threading.Lock()
        self.waiting: deque[_Entry] = deque()
        try:
            # sqlite's own defaults, a rollback journal and full fsync: a killed process or a power cut loses nothing
            # that was kept. A write-ahead log would be quicker, but two machines on a shared disk could destroy it.
            self.connection = sqlite3.connect(path, check_same_thread=False, timeout=60)
            self.connection.execute("create table if not exists replies (key text primary key, value text not null)")
            self.connection.commit()
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path}: cannot keep replies here ({error}); move the file away or free the disk"
            ) from error

    def get(self, key: str) -> object | None:
        """The value kept under a key, or None. InputError if the file is damaged."""
        return self.get_all([key]).get(key)

    def get_all(self, keys: Iterable[str]) -> dict[str, object]:
        """The values kept, by key in the order given; keys without one are left out. InputError if damaged."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, str] = {}
        try:
            for start in range(0, len(wanted), AT_ONCE):
                part = wanted[start : start + AT_ONCE]
                query = f"select key, value from replies where key in ({','.join('?' * len(part))})"
                with self.lock:
                    found.update(self.connection.execute(query, part))
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: cannot be read ({error}); move the file away and run again") from error
        try:
            values = {key: json.loads(found[key]) for key in wanted if key in found}
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{self.path}: a reply in it is damaged ({error}); move the file away and run again"
            ) from error
        return {key: value for key, value in values.items() if value is not None}

    def put(self, values: Mapping[str, object], replace: bool = True) -> None:
        """Keeps values, all or none; they are on disk when this returns, unless nothing is to be kept.

        Without `replace` a key that has a value keeps it. Threads that wait for the disk share one transaction.
        InputError if the disk is full or the file damaged.
        """
        entry = _Entry([(key, json.dumps(value)) for key, value in values.items()], replace)
        if not (self.keep and entry.rows):
            return
        self.waiting.append(entry)
        with self.lock:
            if entry.kept:
                return
            together = [self.waiting.popleft() for _ in range(len(self.waiting))]
            try:
                with self.connection:
                    for each in together:
                        instead = "replace" if each.replace else "ignore"
                        self.connection.executemany(f"insert or {instead} into replies values (?, ?)", each.rows)
            except BaseException as error:
                # The others try again themselves and meet the error, each for its own rows.
                self.waiting.extendleft(each for each in reversed(together) if each is not entry)
                if not isinstance(error, sqlite3.DatabaseError):
                    raise
                raise InputError(
                    f"{self.path}: a reply could not be kept ({error}); free the disk and run again"
                ) from error
            for each in together:
                each.kept = True

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
