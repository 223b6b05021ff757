"""A directory as a store: what the drain does can be tried, and tested, without S3."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from codeferry_agent.drain.errors import ChecksumUnavailable
from codeferry_agent.drain.upload import ExistingObject, Occupied, Part
from codeferry_transfer.errors import BucketMissing
from codeferry_transfer.s3.checksums import composite_checksum

_UPLOADS = ".uploads"
_PARTS = ".parts"


class DirectoryStore:
    """Buckets are the subdirectories of ``base``; an object is a file named for its key.

    It keeps no versions, but with ``versions`` it says so.
    """

    versions = False

    def __init__(self, base: Path) -> None:
        self._base = base
        self._lock = threading.Lock()

    def read(self, bucket: str, key: str) -> bytes:
        return self._object(bucket, key).read_bytes()

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        target = self._object(bucket, key)
        with self._lock:
            if target.exists() and not replace:
                raise Occupied
            self._replace(target, body, "")
        if target.read_bytes() != body:
            raise ChecksumUnavailable(f"{target} does not hold what was written.")
        return self.versions

    def kept(self, bucket: str, key: str) -> ExistingObject | None:
        target = self._object(bucket, key)
        with self._lock:
            if not target.exists():
                return None
            body = target.read_bytes()
            parts = self._parts_of(target)
            digests = parts.read_text() if parts.exists() else ""
        whole = b64encode(hashlib.sha256(body).digest()).decode()
        return ExistingObject(len(body), digests or whole)

    def begin(self, bucket: str, key: str) -> str:
        self._object(bucket, key)
        upload = uuid.uuid4().hex
        (self._base / _UPLOADS / upload).mkdir(parents=True)
        return upload

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part:
        (self._base / _UPLOADS / upload / str(number)).write_bytes(body)
        digest = hashlib.sha256(body).digest()
        return Part(number, len(body), digest, digest.hex())

    def complete(self, bucket: str, key: str, upload: str, parts: Sequence[Part]) -> bool:
        here = self._base / _UPLOADS / upload
        bodies = [(here / str(part.number)).read_bytes() for part in parts]
        digests = composite_checksum([hashlib.sha256(body).digest() for body in bodies])
        if digests != composite_checksum([part.sha256 for part in parts]):
            raise ChecksumUnavailable(f"The parts of {key} are not what was sent.")
        with self._lock:
            self._replace(self._object(bucket, key), b"".join(bodies), digests)
        self.abort(bucket, key, upload)
        return self.versions

    def abort(self, bucket: str, key: str, upload: str) -> None:
        here = self._base / _UPLOADS / upload
        for part in here.glob("*"):
            part.unlink()
        if here.exists():
            here.rmdir()

    def uploads(self) -> list[str]:
        """The unfinished uploads."""
        return sorted(path.name for path in (self._base / _UPLOADS).glob("*"))

    def _object(self, bucket: str, key: str) -> Path:
        home = self._base / bucket
        if not home.is_dir():
            raise BucketMissing(f"The bucket {bucket!r} does not exist.")
        return home / hashlib.sha256(key.encode()).hexdigest()  # keys are longer than names

    @staticmethod
    def _parts_of(target: Path) -> Path:
        return target.with_name(_PARTS + target.name)

    def _replace(self, target: Path, body: bytes, digests: str) -> None:
        new = target.with_name(f".new-{uuid.uuid4().hex}")
        new.write_bytes(body)
        os.replace(new, target)  # noqa: PTH105 - by one rename
        if digests:
            self._parts_of(target).write_text(digests)
        else:
            self._parts_of(target).unlink(missing_ok=True)
