"""The archive as an object in S3: does it exist, which version, is it the one meant."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts import archive as layout
from codeferry_contracts.errors import ArchiveInvalid
from codeferry_contracts.manifest import Manifest
from codeferry_contracts.request import Archive
from codeferry_lambdas import clients
from codeferry_lambdas.errors import ArchiveMissing, ArchiveUnfit
from codeferry_lambdas.record import PinnedArchive, PinnedEnvironment

_ABSENT = ("400", "403", "404", "405", "NoSuchKey", "NoSuchVersion", "AccessDenied")
_MANIFEST_LIMIT = 64 * 1024**2  # compressed; a manifest of a million files has about 40 MiB
_READ_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class Found:
    """``sha256`` is hex, empty when S3 has no checksum over the whole object."""

    version_id: str
    size: int
    sha256: str
    modified: datetime


def look(bucket: str, archive: Archive) -> Found:
    """HEAD the archive. ArchiveMissing when it is not there or may not be read."""
    version: Any = {"VersionId": archive.version_id} if archive.version_id else {}
    try:
        head = clients.s3().head_object(
            Bucket=bucket, Key=archive.key, ChecksumMode="ENABLED", **version
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise
        raise _missing(bucket, archive) from error
    return Found(
        version_id=head.get("VersionId", "null"),
        size=head["ContentLength"],
        sha256=_whole_sha256(head),
        modified=head["LastModified"],
    )


def _missing(bucket: str, archive: Archive) -> ArchiveMissing:
    version = f" in version {archive.version_id}" if archive.version_id else ""
    return ArchiveMissing(
        f"There is no archive {archive.key}{version} in the bucket {bucket}.",
        hint="A run deletes its archive, and so do lifecycle rules: upload it again. "
        "If it is there, the plan function's role may not read it"
        " (s3:GetObject, s3:GetObjectVersion).",
    )


def _whole_sha256(head: Any) -> str:
    """S3's SHA-256 as hex; of a multipart upload it is a checksum of checksums, so none."""
    stored = head.get("ChecksumSHA256", "")
    if not stored or "-" in stored or head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return ""
    return base64.b64decode(stored).hex()


def pin(bucket: str, archive: Archive, found: Found, most: int) -> PinnedArchive:
    """The archive with version, size and SHA-256 settled.

    Raises ArchiveUnfit when it is empty, larger than ``most`` bytes, or has another
    SHA-256 than the request says.
    """
    if found.size == 0:
        raise ArchiveUnfit(f"The archive {archive.key} is empty.", code="archive_empty")
    if found.size > most:
        message = f"The archive {archive.key} has {found.size:,} bytes; at most {most:,} may run."
        hint = "Leave out what the instances don't need, or raise max_archive_bytes of the stage."
        raise ArchiveUnfit(message, hint=hint, code="archive_too_large")
    if archive.sha256 and found.sha256 and archive.sha256 != found.sha256:
        raise ArchiveUnfit(
            f"The archive {archive.key} has SHA-256 {found.sha256}, the request says "
            f"{archive.sha256}.",
            hint="Upload it again: the object is not the one the request was made for.",
            code="archive_mismatch",
        )
    pinned = PinnedArchive(archive.key, found.version_id, found.size, "")
    known = found.sha256 or archive.sha256 or read_sha256(bucket, pinned)
    return PinnedArchive(archive.key, found.version_id, found.size, known)


def read_sha256(bucket: str, archive: PinnedArchive) -> str:
    """Hex SHA-256 of the object's bytes, read as a stream."""
    digest = hashlib.sha256()
    body = clients.s3().get_object(Bucket=bucket, Key=archive.key, **version_of(archive))["Body"]
    for chunk in body.iter_chunks(_READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def version_of(archive: PinnedArchive | PinnedEnvironment) -> Any:
    """The ``VersionId`` argument of a call, where there are versions."""
    return {} if archive.version_id == "null" else {"VersionId": archive.version_id}


def read_manifest(bucket: str, archive: PinnedArchive) -> Manifest | None:
    """The archive's manifest by two ranged reads of its tail; None in a foreign archive.

    Raises ArchiveInvalid when the archive points at a manifest that cannot be read.
    """
    tail = _read(bucket, archive, max(0, archive.size - layout.FOOTER_SIZE), archive.size)
    start, end = layout.manifest_offset(tail), archive.size - layout.FOOTER_SIZE
    if start is None:
        return None
    if not 0 <= start < end or end - start > _MANIFEST_LIMIT:
        raise ArchiveInvalid("The archive's footer points outside of the archive.")
    return layout.read_manifest(_read(bucket, archive, start, end))


def _read(bucket: str, archive: PinnedArchive, start: int, end: int) -> bytes:
    answer = clients.s3().get_object(
        Bucket=bucket, Key=archive.key, Range=f"bytes={start}-{end - 1}", **version_of(archive)
    )
    body = answer["Body"]
    if "ContentRange" not in answer:  # a server may ignore Range (RFC 9110, 14.2)
        for skipped in range(0, start, _READ_BYTES):
            body.read(min(_READ_BYTES, start - skipped))
    return body.read(end - start)
