"""The values in S3's requests and responses."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileRange:
    """``size`` bytes from ``offset`` of an open file, whose position is neither used nor moved."""

    descriptor: int
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes; fewer when the file has become shorter. Raises OSError."""
        pieces: list[bytes] = []
        offset, left = self.offset, self.size
        while left and (piece := os.pread(self.descriptor, left, offset)):
            pieces.append(piece)
            offset, left = offset + len(piece), left - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


Body = bytes | FileRange

_DIGITS = re.compile("[0-9]{1,18}")  # no file has more bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """An object S3 has taken; ``sha256`` are the raw 32 bytes, None for a multipart object."""

    etag: str
    version_id: str | None
    sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Head:
    """What S3 says of an object.

    ``size`` in bytes, of the whole object; ``modified`` in seconds since 1970; ``sha256`` raw,
    of the whole object, None when S3 keeps none; ``checksums`` as S3 gives them, by algorithm
    in lower case (base64, ``-<parts>`` behind a composite one); ``md5`` raw, where the ETag
    is one. ``part_size`` when one part was asked about.
    """

    size: int
    etag: str
    modified: float
    checksums: Mapping[str, str] = field(default_factory=dict)
    version_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    md5: bytes | None = None
    part_size: int | None = None

    @property
    def sha256(self) -> bytes | None:
        stored = self.checksums.get("sha256")
        return b64decode(stored) if stored and "-" not in stored else None


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing; ``modified`` in seconds since 1970."""

    key: str
    size: int
    modified: float
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a listing: at most 1,000 objects and prefixes, each in key order."""

    objects: list[Listed]
    prefixes: list[str]


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part S3 has; ``sha256`` raw, None when it was sent without one."""

    number: int
    size: int
    etag: str
    sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str
    initiated: float


@dataclass(frozen=True, slots=True)
class Undeleted:
    """A key S3 did not delete, and its error code."""

    key: str
    code: str


def whole_number(stated: str) -> int:
    """A size or a number as S3 states it. Raises ValueError for everything else: ``int`` reads
    signs, underscores and the digits of other scripts."""
    if not _DIGITS.fullmatch(stated):
        raise ValueError("not a number")
    return int(stated)
