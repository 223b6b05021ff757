"""The Content-Type of an object, by its name."""

from __future__ import annotations

import mimetypes
from posixpath import basename, splitext

# What is compressed is named by that, not by what is in it: with the type of the content alone
# it would be taken for that, and a Content-Encoding would have clients unpack it on the way.
_COMPRESSED = {
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".taz": "application/gzip",
    ".tz": "application/gzip",
    ".svgz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".tbz": "application/x-bzip2",
    ".tbz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".txz": "application/x-xz",
    ".lzma": "application/x-lzma",
    ".zst": "application/zstd",
    ".tzst": "application/zstd",
    ".br": "application/x-brotli",
    ".lz4": "application/x-lz4",
    ".z": "application/x-compress",
}


def media_type(path: str) -> str:
    """The type that browsers and programs are to take a file for.

    Sources: RFC 6713 (gzip), RFC 8878 (zstd); the others have no registered type, and these
    are the ones in use.
    """
    name = basename(path)
    known = _COMPRESSED.get(splitext(name)[1].lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"
