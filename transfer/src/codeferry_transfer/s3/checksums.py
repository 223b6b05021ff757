"""Verify bytes and files against the checksums that S3 keeps, of whole objects and of parts."""

from __future__ import annotations

import hashlib
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Protocol

from codeferry_transfer.parts import possible_parts
from codeferry_transfer.s3.values import Head, SentPart


def composite_checksum(digests: Sequence[bytes]) -> str:
    """What S3 keeps for a multipart object: the SHA-256 of the parts' SHA-256s, and their count."""
    whole = hashlib.sha256(b"".join(digests)).digest()
    return f"{b64encode(whole).decode()}-{len(digests)}"


def composite_sha256(parts: Sequence[SentPart]) -> str:
    """The composite checksum of the parts that were sent."""
    return composite_checksum([part.sha256 or b"" for part in parts])


def composite_etag(parts: Sequence[SentPart]) -> str:
    """The ETag of a multipart object: the MD5 of the parts' MD5s, and their count."""
    digests = bytes.fromhex("".join(part.etag.strip('"') for part in parts))
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


def made_of(found: Head, parts: Sequence[SentPart]) -> bool:
    """Whether the object found is the one these parts make."""
    if found.size != sum(part.size for part in parts):
        return False
    kept = found.checksums.get("sha256")
    if kept:
        return kept == composite_sha256(parts)
    try:
        return found.etag == composite_etag(parts)
    except ValueError:  # the ETag of a part is no MD5, so nothing is known
        return False


Bytes = bytes | memoryview


class _Hash(Protocol):
    def update(self, data: Bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Checksum:
    """A digest in the making, and the one it must become."""

    def __init__(self, made: _Hash, wanted: bytes) -> None:
        self._made = made
        self._wanted = wanted
        self.update = made.update

    def holds(self) -> bool:
        return self._made.digest() == self._wanted


def checksum_of(head: Head, *, md5: bool = True) -> Checksum | None:
    """How to verify a whole object: by SHA-256, SHA-1 or CRC-32, else by an ETag that is an MD5.

    None when S3 keeps nothing that the standard library can compute, or only a checksum of
    the parts' checksums.
    """
    for name, begin in (("sha256", hashlib.sha256), ("sha1", _sha1), ("crc32", _Crc32)):
        kept = head.checksums.get(name)
        if kept and "-" not in kept:
            return Checksum(begin(), b64decode(kept))
    if md5 and head.md5 is not None:
        return Checksum(hashlib.md5(usedforsecurity=False), head.md5)
    return None


def _sha1() -> _Hash:
    return hashlib.sha1(usedforsecurity=False)


_PIECE = 1 << 20


def same_content(descriptor: int, head: Head) -> bool:
    """Equal as far as can be verified; False when S3 keeps nothing that can be compared."""
    if os.fstat(descriptor).st_size != head.size:
        return False
    checksum = checksum_of(head)
    if checksum is not None:
        return verifies(descriptor, checksum)
    kept = head.checksums.get("sha256", "")
    return any(
        composite(descriptor, head.size, part) == kept for part in possible_parts(head.size, kept)
    )


def verifies(descriptor: int, checksum: Checksum) -> bool:
    """Read the file from its beginning through ``checksum``."""
    offset = 0
    while piece := os.pread(descriptor, _PIECE, offset):
        checksum.update(piece)
        offset += len(piece)
    return checksum.holds()


def composite(descriptor: int, size: int, part: int) -> str:
    """The SHA-256 of the SHA-256s of the file's parts, as S3 writes it."""
    digests = [_digest(descriptor, offset, part) for offset in range(0, size, part)]
    return composite_checksum(digests)


def _digest(descriptor: int, offset: int, size: int) -> bytes:
    digest, end = hashlib.sha256(), offset + size
    while offset < end and (piece := os.pread(descriptor, min(_PIECE, end - offset), offset)):
        digest.update(piece)
        offset += len(piece)
    return digest.digest()
