"""S3 on sockets of our own: pure Python, checked both ways, shared by many threads.

    s3 = S3(boto3.Session(), endpoint_url=None, expected_owner="111122223333")
    stored = s3.put_object("bucket", "key", FileRange(descriptor, 0, size))
    head = s3.head_object("bucket", "key")
    assert head.sha256 == stored.sha256      # bytes; None when S3 keeps another checksum

Credentials, region and endpoint are botocore's (profiles, SSO, roles, IMDSv2; refreshed
while they are used), or those of the environment without it (``from_environment``); a bucket
of another region is found by S3's own answer. Every method may
be called from any thread, tries again what is worth it (connections, 5xx, SlowDown; with
jitter, fewer at a time when S3 asks for it), and raises a TransferError, whose message never
holds a URL. ``halt()`` makes every call raise Halted, until ``resume()``.

A body is ``bytes`` or a ``FileRange``, read by ``pread`` as the request is made: what was
hashed is what is sent. Its SHA-256 goes along; S3 refuses other bytes, and keeps it.

    put_object(bucket, key, body, *, if_none_match=False, metadata=None) -> Stored
    head_object(bucket, key) -> Head
    get_object(bucket, key, sink, *, first=None, last=None, if_match=None) -> Head
    list_objects(bucket, prefix="", *, delimiter="", start_after="") -> Iterator[Page]
    list_multipart_uploads(bucket, prefix="") -> Iterator[Unfinished]
    create_multipart(bucket, key, *, metadata=None) -> str
    upload_part(bucket, key, upload_id, number, body) -> SentPart
    list_parts(bucket, key, upload_id) -> Iterator[SentPart]
    complete_multipart(bucket, key, upload_id, parts, *, if_none_match=False) -> Stored
    abort_multipart(bucket, key, upload_id) -> None
    delete_objects(bucket, keys) -> list[Undeleted]

Of a multipart object S3 keeps the SHA-256 of its parts' SHA-256s:
``head.checksums["sha256"]`` is then ``composite_sha256(parts)`` and ``head.sha256`` None.
"""

from __future__ import annotations

from codeferry_transfer.s3.checksums import composite_sha256
from codeferry_transfer.s3.client import S3
from codeferry_transfer.s3.environment_credentials import (
    EnvironmentCredentials,
    from_environment,
    region_of,
)
from codeferry_transfer.s3.http import Sink
from codeferry_transfer.s3.signing import Keys
from codeferry_transfer.s3.values import (
    Body,
    FileRange,
    Head,
    Listed,
    Page,
    SentPart,
    Stored,
    Undeleted,
    Unfinished,
)

__all__ = [
    "S3",
    "Body",
    "EnvironmentCredentials",
    "FileRange",
    "Head",
    "Keys",
    "Listed",
    "Page",
    "SentPart",
    "Sink",
    "Stored",
    "Undeleted",
    "Unfinished",
    "composite_sha256",
    "from_environment",
    "region_of",
]
