"""S3 as a store. Every request names the account that has to own the bucket."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Sequence

from codeferry_agent.drain.errors import Unproven
from codeferry_agent.drain.naming import shown
from codeferry_agent.drain.stores.store import Kept, Occupied, Part, composite
from codeferry_transfer.errors import ObjectMissing, PreconditionFailed
from codeferry_transfer.media_type import media_type
from codeferry_transfer.s3 import S3, SentPart, Stored

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')


class S3Store:
    """The buckets S3 has; ``client_of`` gives the client for a bucket.

    What shows that S3 keeps the bytes: the ETag where it is their MD5 (any server computes
    that from what it has stored), else the SHA-256 that S3 compared with the body and keeps.
    A server that ignores the SHA-256 sent along is found out in either case.
    """

    def __init__(self, client_of: Callable[[str], S3]) -> None:
        self._client_of = client_of
        # Buckets that were seen to keep the SHA-256 of parts: theirs need no MD5.
        self._keeping: set[str] = set()

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        client = self._client_of(bucket)
        try:
            stored = client.put_object(
                bucket, key, body, if_none_match=not replace, content_type=media_type(key)
            )
        except PreconditionFailed:
            raise Occupied from None
        if not _is_md5_of(stored.etag, body):
            sha256 = b64encode(hashlib.sha256(body).digest()).decode()
            self._compare(bucket, key, Kept(len(body), sha256))
        return _keeps_versions(stored)

    def kept(self, bucket: str, key: str) -> Kept | None:
        try:
            head = self._client_of(bucket).head_object(bucket, key)
        except ObjectMissing:
            return None
        return Kept(head.size, head.checksums.get("sha256", ""))

    def begin(self, bucket: str, key: str) -> str:
        return self._client_of(bucket).create_multipart(bucket, key, content_type=media_type(key))

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part:
        sent = self._client_of(bucket).upload_part(bucket, key, upload, number, body)
        digest = sent.sha256 or hashlib.sha256(body).digest()
        shown_by_md5 = bucket not in self._keeping and _is_md5_of(sent.etag, body)
        return Part(number, len(body), digest, sent.etag, shown_by_md5)

    def complete(self, bucket: str, key: str, upload: str, parts: Sequence[Part]) -> bool:
        sent = [SentPart(part.number, part.size, part.etag, part.sha256) for part in parts]
        stored = self._client_of(bucket).complete_multipart(bucket, key, upload, sent)
        size = sum(part.size for part in parts)
        if self.kept(bucket, key) == Kept(size, ""):
            self._trust_parts(bucket, key, parts)
        else:
            self._compare(bucket, key, Kept(size, composite([part.sha256 for part in parts])))
            self._keeping.add(bucket)
        return _keeps_versions(stored)

    def _trust_parts(self, bucket: str, key: str, parts: Sequence[Part]) -> None:
        """No checksum of the whole is kept; then every part has to have been shown."""
        if not all(part.shown for part in parts):
            self._keeping.discard(bucket)
            raise _unproven(bucket, key)

    def abort(self, bucket: str, key: str, upload: str) -> None:
        self._client_of(bucket).abort_multipart(bucket, key, upload)

    def _compare(self, bucket: str, key: str, wanted: Kept) -> None:
        if self.kept(bucket, key) != wanted:
            raise _unproven(bucket, key)


def _keeps_versions(stored: Stored) -> bool:
    """Where versioning is not enabled (any more) an object has none, or "null" (S3 user guide,
    "How S3 Versioning works")."""
    return stored.version_id not in (None, "null")


def _unproven(bucket: str, key: str) -> Unproven:
    return Unproven(
        f"s3://{bucket}/{shown(key)} does not show the checksum of what was sent.",
        hint="Something else writes this key, or the server keeps no checksums.",
    )


def _is_md5_of(etag: str, body: bytes) -> bool:
    found = _MD5_ETAG.fullmatch(etag)
    return found is not None and found[1] == hashlib.md5(body, usedforsecurity=False).hexdigest()
