"""The plain files in a raw dump, whatever it is packed in, as streams of UTF-8.

Packed: gzip, bzip2, xz, zstd, zip, tar, and these in each other (Yelp ships a tar); a Parquet file is read as lines of
JSON. All of it is told from the content and never from the name of a file. Memory does not grow with the dump, nor with
what a small hostile one unpacks to: that only takes time.
"""

import bz2
import codecs
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from reason4rec.data import parquet
from reason4rec.errors import InputError
from reason4rec.run.progress import Bar

NOTES = (b"L", b"K", b"x", b"g", b"X")  # types of headers of a tar that Python reads whole: long names and the like
HOLES = "a file with holes, which no dump needs"
MOST = 2**27  # bytes that unpacking xz may take
STARTS = 8192  # bytes of a file that tell whether it is UTF-8 after all
DAMAGED = (EOFError, UnicodeError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, zlib.error)
UNKNOWN = {  # packings that nothing here can read
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
}
# Names that Python has for what is no way to write a file of text.
NO_ENCODINGS = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")


@dataclass(frozen=True)
class Limits:
    """How much of a dump is held at once, which bounds the memory that any dump takes.

    `part` bytes at a time; `longest` bytes of a line; `rows` lines where Python has to rewrite them, together not much
    longer than a part; `head` lines that tell how a file is written, of which no more than `head_bytes` are read;
    `literal` characters of a line of literals; `deepest` packings in each other; `note` bytes of a header of a tar;
    `directory` bytes that are asked of a zip at once.
    """

    part: int
    longest: int
    rows: int
    head: int
    head_bytes: int
    literal: int
    deepest: int
    note: int
    directory: int


@dataclass(frozen=True)
class Source:
    """A file to unpack: its path, within which limits, and how its text is written where that is not UTF-8."""

    path: Path
    limits: Limits
    encoding: str = ""


def encoding_of(name: str) -> str:
    """Python's name of an encoding, empty for UTF-8; InputError if it has none."""
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding or found.name.replace("-", "_") in NO_ENCODINGS:
            raise LookupError
    except (LookupError, ValueError):
        raise InputError(
            f"--encoding: {name[:60]!r} is no encoding of text; give such as latin-1, cp1252, utf-16 or gb18030"
        ) from None
    return "" if found.name in ("utf-8", "utf-8-sig", "ascii") else found.name


def shown(text: str, most: int = 60) -> str:
    """A text for a message: one line of printable characters, cut where it is long."""
    # A file may hold what it likes, and this goes to a terminal.
    printable = "".join(character if character.isprintable() else "?" for character in text[: most + 1])
    return printable if len(printable) <= most else printable[: most - 3] + "..."


def name_of(path: Path) -> str:
    """A path for a message, without its middle where it is very long."""
    text = str(path)
    return text if len(text) <= 130 else f"{text[:40]}...{text[-80:]}"


@contextmanager
def reading(source: Source, quiet: bool = False) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    """The plain files of a dump by their names in it (empty: the file itself), with a bar over its bytes.

    InputError names a file that is missing, damaged, or packed in what cannot be read here.
    """
    path, name = source.path, name_of(source.path)
    try:
        bar = Bar(path.name, path.stat().st_size, "B", quiet, unit_scale=True)
        with bar, io.BufferedReader(_Counted(path, bar), 2**20) as file:
            yield _plain(file, "", source)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; 0_Data/1_download.py says where to get it") from None
    except RuntimeError as error:  # a password, or a way of packing that Python does not know
        raise InputError(f"{name}: cannot be unpacked here ({shown(str(error), 80)}); unpack it first") from error
    except DAMAGED as error:
        if isinstance(error, UnicodeError) and source.encoding:
            raise InputError(
                f"{name}: no text in {source.encoding} ({shown(str(error), 80)}); give another --encoding"
            ) from error
        raise InputError(f"{name}: damaged or cut short ({shown(str(error), 80)}); fetch it again") from error
    except OSError as error:
        reason = shown(error.strerror or str(error), 80)
        raise InputError(f"{name}: cannot be read ({reason}); give a file, or fetch it again") from error


class _Counted(io.FileIO):
    """A file that tells a bar how far it was read."""

    def __init__(self, path: Path, bar: Bar):
        super().__init__(path)
        self.bar = bar

    def readinto(self, part: memoryview) -> int:
        count = super().readinto(part)
        self.bar.update(max(0, self.tell() - self.bar.n))
        return count


class _Asked:
    """A file that is never asked for much at once: a zip says how long its directory is, and Python reads it whole."""

    def __init__(self, file: BinaryIO, most: int):
        self.seek, self.tell, self.seekable, self._read, self.most = (
            file.seek,
            file.tell,
            file.seekable,
            file.read,
            most,
        )

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise zipfile.BadZipFile(f"it announces a part of {size:,} bytes")
        return self._read(self.most if size < 0 else size)


class _Header(tarfile.TarInfo):
    """A header of a tar without long notes and without maps of holes, both of which Python reads whole."""

    note = 0  # bytes of the longest note

    @classmethod
    def frombuf(cls, *given: object) -> tarfile.TarInfo:
        header = super().frombuf(*given)
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(HOLES)
        if header.type in NOTES and header.size > cls.note:
            raise tarfile.ReadError(f"it announces a name or note of {header.size:,} bytes")
        return header

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError(HOLES)


class _Unpacked(io.RawIOBase):
    """What a chain of bzip2 or xz streams unpacks to, never more at once than is asked for."""

    def __init__(self, stream: BinaryIO, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]):
        self.stream, self.make, self.machine, self.rest = stream, make, make(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, part: memoryview) -> int:
        while True:
            if self.machine.eof:
                # Streams of xz may have zeros between them.
                self.rest = (self.machine.unused_data or self.stream.read(2**16)).lstrip(b"\0")
                if not self.rest and not self.stream.peek(1):
                    return 0
                self.machine = self.make()
            packed = (self.rest or self.stream.read(2**16)) if self.machine.needs_input else b""
            if not packed and self.machine.needs_input:
                raise EOFError("it ends too early")
            self.rest = b""
            try:
                plain = self.machine.decompress(packed, len(part))
            except (OSError, lzma.LZMAError) as error:
                if "limit" in str(error):
                    raise NotImplementedError(f"it takes more than {MOST >> 20} MB to unpack") from None
                raise EOFError(str(error)) from None
            if plain:
                part[: len(plain)] = plain
                return len(plain)


class _Zstd(io.RawIOBase):
    """What a file of zstd unpacks to."""

    def __init__(self, stream: BinaryIO):
        self.unpacked = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, part: memoryview) -> int:
        try:
            plain = self.unpacked.read(len(part))
        except (OSError, pa.ArrowException) as error:
            raise EOFError(str(error)) from None
        part[: len(plain)] = plain
        return len(plain)


class _Recoded(io.RawIOBase):
    """A stream in another encoding as UTF-8; bytes that are no text in it are none in UTF-8 either."""

    def __init__(self, stream: BinaryIO, encoding: str):
        # Half a character becomes a question mark, as it does in JSON.
        wide = encoding.startswith(("utf-16", "utf-32"))
        self.decoder = codecs.getincrementaldecoder(encoding)("surrogatepass" if wide else "surrogateescape")
        self.errors, self.stream, self.rest, self.ended = "replace" if wide else "surrogateescape", stream, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, part: memoryview) -> int:
        while not self.rest and not self.ended:
            read = self.stream.read(2**16)
            self.ended = not read
            self.rest = self.decoder.decode(read, final=self.ended).encode("utf-8", self.errors)
        size = min(len(part), len(self.rest))
        part[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def _plain(stream: BinaryIO, name: str, source: Source, depth: int = 0) -> Iterator[tuple[str, BinaryIO]]:
    start = stream.peek(512)
    streams = _unpacked(stream, start)
    # A tar is no file to search.
    zipped = start[:4] == b"PK\x03\x04" and not isinstance(stream, tarfile.ExFileObject)
    tarred = start[257:265] in (b"ustar\x0000", b"ustar  \x00")
    if depth == source.limits.deepest and (streams or zipped or tarred):
        raise NotImplementedError(f"packed in each other more than {source.limits.deepest} deep")
    if streams:
        yield from _plain(streams, name, source, depth + 1)
    elif zipped:
        with zipfile.ZipFile(_Asked(stream, source.limits.directory)) as archive:
            for member in archive.infolist():
                if member.filename.endswith("/"):
                    continue
                # The other ways unpack any amount at once.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise NotImplementedError("a file in it is neither stored nor deflated")
                with archive.open(member) as file:
                    yield from _plain(file, f"{name}/{member.filename}".lstrip("/"), source, depth + 1)
    elif tarred:
        header = type("Header", (_Header,), {"note": source.limits.note})
        with tarfile.open(fileobj=stream, mode="r|", bufsize=2**20, tarinfo=header) as archive:
            for member in archive:
                archive.members.clear()  # it would remember each
                if member.isfile():
                    file = archive.extractfile(member)
                    yield from _plain(file, f"{name}/{member.name}".lstrip("/"), source, depth + 1)
        while stream.read(2**20):  # to its end, where the checksum of what the tar is packed in stands
            pass
    elif not depth and start[:4] == parquet.START:
        with parquet.rows(source.path) as rows:
            yield name, rows
    elif start[:4] == parquet.START and not name:
        raise NotImplementedError("a Parquet file is in it")
    else:
        packing = next((packing for magic, packing in UNKNOWN.items() if start.startswith(magic)), None)
        if not depth and packing:
            raise NotImplementedError(f"it is packed in {packing}")
        yield name, _as_utf8(stream, source.encoding)


def _unpacked(stream: BinaryIO, start: bytes) -> BinaryIO | None:
    """What a single packed file unpacks to, if it is one."""
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=stream, mode="rb")
    if start[:3] == b"BZh" and start[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return io.BufferedReader(_Unpacked(stream, bz2.BZ2Decompressor), 2**16)
    if start[:6] == b"\xfd7zXZ\x00":
        make = lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST)  # noqa: E731
        return io.BufferedReader(_Unpacked(stream, make), 2**16)
    if start[:4] == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_Zstd(stream), 2**16)
    return None


def _as_utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    start = stream.peek(STARTS)
    if start[:3] == b"\xef\xbb\xbf":
        stream.read(3)
        return stream
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        wide = start[:4] in (b"\xff\xfe\0\0",)
        return io.BufferedReader(_Recoded(stream, "utf-32" if wide else "utf-16"), 2**16)
    if not encoding or _is_utf8(start[:STARTS]):
        return stream
    return io.BufferedReader(_Recoded(stream, encoding), 2**16)


def _is_utf8(start: bytes) -> bool:
    """Whether the start of a file is UTF-8 and more than ASCII, as no text in another encoding is."""
    try:
        return not codecs.getincrementaldecoder("utf-8")().decode(start).isascii()
    except UnicodeDecodeError:
        return False
