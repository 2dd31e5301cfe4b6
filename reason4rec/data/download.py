"""Fetching a public file whole: streamed beside its place, checked against what is known of it, then moved there."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from reason4rec.data.catalog import Download
from reason4rec.errors import InputError
from reason4rec.run.files import atomic_write, sha256
from reason4rec.run.network import network_hint
from reason4rec.run.progress import Bar

PART = 2**18
SILENCE = 60  # seconds without a byte after which a host is given up


def fetch(download: Download, url: str, path: Path) -> str:
    """Puts what lies at an address in its place and returns its sha256; InputError if it cannot be had whole."""
    with _reaching(url):
        response = urlopen(url, timeout=SILENCE)
    announced = response.headers["Content-Length"]
    size = int(announced) if announced else None
    with response, atomic_write(path) as draft:
        with draft.open("wb") as file, Bar(download.name, size, "B", unit_scale=True) as bar:
            while True:
                with _reaching(url):
                    part = response.read(PART)
                if not part:
                    break
                file.write(part)
                bar.update(len(part))
        came = draft.stat().st_size
        if size not in (None, came):
            raise InputError(f"{url}: {came:,} of {size:,} bytes came; nothing is kept, run the same command again")
        return check(download, draft, url)


def check(download: Download, path: Path, where: str) -> str:
    """The sha256 of a fetched file; InputError, about `where`, if it is not what is known by its name."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            raise InputError(f"{where}: not a gzipped file but perhaps a page of the server's; look at it")
    found = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    if download.reviews is not None:
        try:
            with gzip.open(path) as file:
                found["reviews"] = sum(1 for line in file if line.strip())
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{where}: damaged or cut short ({error}); fetch it again with --overwrite") from error
    for name, value in found.items():
        known = getattr(download, name)
        if known not in (None, value):
            raise InputError(f"{where}: {name} {value}, not {known} as known; fetch it again with --overwrite")
    return found["sha256"]


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        reason = f"{str(error).strip('<>') or type(error).__name__}{network_hint(url, error)}"
        raise InputError(f"{url}: cannot be fetched ({reason}); try again later, or pass --mirror URL") from error
