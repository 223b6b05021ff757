"""Streams of bytes into S3 objects, in parallel, each byte checked by the server.

One part is a PutObject, whose SHA-256 S3 keeps for the whole object. More are a multipart
upload spoken call by call, not through obstore or s3transfer: those keep no list of parts,
and without the parts' own checksums an upload can neither be proven complete nor resumed.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from codeferry_transfer.client import CONCURRENCY
from codeferry_transfer.errors import translated
from codeferry_transfer.multipart import Part, upload_parts
from codeferry_transfer.parts import PART_SIZE, cut

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Uploaded:
    """An object S3 holds completely.

    ``size`` in bytes; ``sha256_hex`` of all of them; ``version_id`` is None in a bucket
    without versions; ``parts`` is empty when it went up in one request.
    """

    key: str
    size: int
    sha256_hex: str
    version_id: str | None
    parts: tuple[Part, ...]


def upload_stream(
    client: S3Client,
    bucket: str,
    key: str,
    chunks: Iterable[bytes],
    *,
    part_size: int = PART_SIZE,
    concurrency: int = CONCURRENCY,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Uploaded:
    """Upload ``chunks`` as ``s3://bucket/key`` in parts sent in parallel.

    Holds up to ``part_size * (concurrency + 1)`` bytes: the parts on their way, the one
    being gathered and, while it is put together, that one twice. ``progress`` is called in
    the caller's thread with the bytes acknowledged since the last call. On any exception,
    KeyboardInterrupt and those of ``chunks`` included, the multipart upload is aborted and
    the exception raised again. Raises TransferError.
    """
    whole = hashlib.sha256()
    counted = _Counter(progress)

    def hashed(part: bytes) -> bytes:
        whole.update(part)
        return part

    parts = map(hashed, cut(chunks, part_size))  # unlike a generator, keeps none of them
    first = next(parts)
    second = next(parts, None)
    with translated(bucket, key):
        if second is None:
            version = _put(client, bucket, key, first, dict(metadata or {}))
            counted(len(first))
            done: tuple[Part, ...] = ()
        else:
            bodies = chain((first, second), parts)
            del first, second
            done, version = upload_parts(
                client, bucket, key, bodies, concurrency, counted, dict(metadata or {})
            )
    return Uploaded(key, counted.total, whole.hexdigest(), version, done)


class _Counter:
    def __init__(self, progress: Progress | None) -> None:
        self.total = 0
        self._progress = progress

    def __call__(self, count: int) -> None:
        self.total += count
        if self._progress is not None:
            self._progress(count)


def _put(
    client: S3Client, bucket: str, key: str, body: bytes, metadata: dict[str, str]
) -> str | None:
    answer = client.put_object(
        Bucket=bucket,
        Key=key,
        Body=body,
        ChecksumSHA256=b64encode(hashlib.sha256(body).digest()).decode(),
        Metadata=metadata,
    )
    return answer.get("VersionId")
