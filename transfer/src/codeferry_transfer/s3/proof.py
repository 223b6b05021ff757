"""Whether the bytes that came are the ones S3 keeps a checksum of."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode
from typing import Protocol

from codeferry_transfer.s3.values import Head

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


class Proof:
    """A digest in the making, and the one it must become."""

    def __init__(self, made: _Hash, wanted: bytes) -> None:
        self._made = made
        self._wanted = wanted
        self.update = made.update

    def holds(self) -> bool:
        return self._made.digest() == self._wanted


def proof_of(head: Head, *, md5: bool = True) -> Proof | None:
    """How to prove a whole object: by SHA-256, SHA-1 or CRC-32, else by an ETag that is an MD5.

    None when S3 keeps nothing that the standard library can compute, or only a checksum of
    the parts' checksums.
    """
    for name, begin in (("sha256", hashlib.sha256), ("sha1", _sha1), ("crc32", _Crc32)):
        kept = head.checksums.get(name)
        if kept and "-" not in kept:
            return Proof(begin(), b64decode(kept))
    if md5 and head.md5 is not None:
        return Proof(hashlib.md5(usedforsecurity=False), head.md5)
    return None


def _sha1() -> _Hash:
    return hashlib.sha1(usedforsecurity=False)
