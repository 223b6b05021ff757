"""What the drain needs of a store. ``tests/unit/agent/drain`` holds every one to it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Part:
    """A part the store has acknowledged.

    ``sha256`` is that of its bytes, raw; ``shown`` is True when the store's own checksum of
    the part was compared.
    """

    number: int
    size: int
    sha256: bytes
    etag: str
    shown: bool = False


@dataclass(frozen=True)
class Kept:
    """What a store keeps under a key: bytes, and the checksum it has made or checked itself.

    ``sha256`` is base64, as S3 writes it: of the whole object, or, of one put together of
    parts, ``<SHA-256 of the parts' SHA-256s>-<parts>``. Empty when the store keeps none.
    """

    size: int
    sha256: str


class Occupied(Exception):
    """There is an object under the key, and it was not to be replaced."""


class Store(Protocol):
    """Objects by bucket and key. Every method may be called from any thread.

    Raises TransferError: BucketMissing, AccessDenied, CredentialsUnusable, ConnectionFailed,
    Throttled when that is what is wrong.
    """

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        """Keep ``body``; returns only when the store has shown that it does: then whether what
        was there before stays, as a version.

        Raises Occupied when there is an object and ``replace`` is False (a store that cannot
        tell replaces it), Unproven when it is not clear what the store keeps now.
        """

    def kept(self, bucket: str, key: str) -> Kept | None:
        """What is under the key; None when there is nothing."""

    def begin(self, bucket: str, key: str) -> str:
        """Start an upload in parts; its id."""

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part: ...

    def complete(self, bucket: str, key: str, upload: str, parts: Sequence[Part]) -> bool:
        """Make the object; returns only when the store has shown that it keeps these parts: then
        as ``put``.

        Raises Unproven when it is not clear what the store keeps now.
        """

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Drop an unfinished upload; one that is gone is dropped."""


def composite(digests: Sequence[bytes]) -> str:
    """What S3 keeps for an object of these parts: SHA-256 of their SHA-256s, and their count."""
    whole = hashlib.sha256(b"".join(digests)).digest()
    return f"{b64encode(whole).decode()}-{len(digests)}"
