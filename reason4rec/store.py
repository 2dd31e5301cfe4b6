"""Replies of models, kept on disk as they come, so that a run that dies asks nothing twice.

One sqlite file per dataset holds the replies of the teacher and of the local models, each under a key made of
everything that the reply depends on. Our decision.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from reason4rec.errors import InputError

PATH = "cache/replies.sqlite"


def key_of(**what: object) -> str:
    """The key of a reply: a sha256 over all that it depends on."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


class ReplyStore:
    """A table of JSON values by key; safe to use from several threads. InputError if the file is no such table."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lock = threading.Lock()
        try:
            self.connection = sqlite3.connect(path, check_same_thread=False, timeout=60)
            self.connection.execute("create table if not exists replies (key text primary key, value text not null)")
            self.connection.commit()
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{path}: cannot keep replies here ({error}); move the file away or free the disk"
            ) from error

    def get(self, key: str) -> object | None:
        """The value kept under a key, or None. InputError if the file is damaged."""
        try:
            with self.lock:
                found = self.connection.execute("select value from replies where key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: cannot be read ({error}); move the file away and run again") from error
        return None if found is None else json.loads(found[0])

    def get_all(self, keys: Iterable[str]) -> dict[str, object]:
        """The values kept, by key; keys without one are left out."""
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def put(self, values: Mapping[str, object]) -> None:
        """Keeps values; they are on disk when this returns. InputError if the disk is full or the file damaged."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        try:
            with self.lock, self.connection:
                self.connection.executemany("insert or replace into replies values (?, ?)", rows)
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path}: a reply could not be kept ({error}); free the disk and run again"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
