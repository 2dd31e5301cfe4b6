"""Small files that gzip, bzip2 or xz packed, unpacked in memory and never to more than honest files are."""

import bz2
import gzip
import io
import lzma
import pickle

LEAST = 2**24  # bytes that any file may unpack to
TIMES = 64  # as many times its size may a file unpack to; texts are packed to a fifth
XZ_MEMORY = 2**27  # bytes; the highest level of xz needs half


def unpacked(content: bytes) -> bytes:
    """The content of a packed file, known by its first bytes, or the content as it is.

    UnpicklingError if it unpacks to more than honest files do; what the libraries raise where it is damaged.
    """
    most = max(LEAST, TIMES * len(content))
    if content.startswith(b"\x1f\x8b"):
        found = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most + 1)
    elif content.startswith(b"BZh"):
        found = bz2.BZ2File(io.BytesIO(content)).read(most + 1)
    elif content.startswith(b"\xfd7zXZ\x00"):
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        found = stream.decompress(content, most + 1)
        if len(found) <= most and not stream.eof:
            raise pickle.UnpicklingError("it ends too early")
    else:
        return content
    if len(found) > most:
        raise pickle.UnpicklingError(f"it unpacks to more than {most:,} bytes")
    return found
