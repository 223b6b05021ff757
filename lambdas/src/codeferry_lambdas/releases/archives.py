"""The archive as an object in S3: whether it exists, its version, its manifest, its upload.

Of several uploads under one key of the inbox, the newest is the one that counts. Their events
come in any order and more than once, and their runs overlap. Versions have no order of their own
and S3's times are whole seconds, so three things are asked: whether the key's current version is
another one, what was planned before, and, within one second, whether what was planned before is
still there: its run deletes it at the end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts import archive as layout
from codeferry_contracts.archive import Manifest, directory_count
from codeferry_contracts.errors import ArchiveInvalid
from codeferry_contracts.layout import INBOX_PREFIX
from codeferry_contracts.request import Archive
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import (
    ABSENT,
    ArchiveMissing,
    ArchiveSuperseded,
    ArchiveUnfit,
    code_of,
)
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.ledger import Ledger, Upload
from codeferry_lambdas.runs.record import PinnedArchive, Unpacked, version_of

_ABSENT = ABSENT | {"400", "405", "NoSuchVersion"}
_READ_BYTES = 4 * 1024**2
_HEAD_BYTES = 4096
# What people take for a tar.gz: its name, and the bytes that mark it, with their place.
_FORMATS = (
    ("compressed with xz, not with gzip", 0, b"\xfd7zXZ\0"),
    ("compressed with Zstandard, not with gzip", 0, b"\x28\xb5\x2f\xfd"),
    ("compressed with bzip2, not with gzip", 0, b"BZh"),
    ("compressed with lz4, not with gzip", 0, b"\x04\x22\x4d\x18"),
    ("a zip file, not a tar in gzip", 0, b"PK"),
    ("a 7-Zip file, not a tar in gzip", 0, b"7z\xbc\xaf\x27\x1c"),
    ("a plain tar, not compressed with gzip", 257, b"ustar"),
)
META_MEMBERS = 3  # the manifest, the checksums, their directory


@dataclass(frozen=True)
class ArchiveObject:
    """``sha256`` is hex, empty when S3 has no checksum over the whole object."""

    version_id: str
    size: int
    sha256: str
    modified: datetime


def find_archive(bucket: str, archive: Archive) -> ArchiveObject:
    """HEAD the archive. ArchiveMissing when it is not there or may not be read."""
    version: Any = {"VersionId": archive.version_id} if archive.version_id else {}
    try:
        head = clients.s3().head_object(
            Bucket=bucket, Key=archive.key, ChecksumMode="ENABLED", **version
        )
    except ClientError as error:
        if code_of(error) not in _ABSENT:
            raise
        raise _missing(bucket, archive) from error
    return ArchiveObject(
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


def pin(bucket: str, archive: Archive, found: ArchiveObject, most: int) -> PinnedArchive:
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


def read_manifest(bucket: str, archive: PinnedArchive) -> Manifest | None:
    """The archive's manifest by two ranged reads of its tail; None in a foreign archive.

    Raises ArchiveInvalid when the archive points at a manifest that cannot be read, and
    ArchiveUnfit when it lists too much, or the archive is no tar in gzip.
    """
    tail = _read(bucket, archive, max(0, archive.size - layout.FOOTER_SIZE), archive.size)
    start, end = layout.manifest_offset(tail), archive.size - layout.FOOTER_SIZE
    if start is None:
        _require_tar(archive.key, _read(bucket, archive, 0, min(_HEAD_BYTES, archive.size)))
        return None
    if not 0 <= start < end:
        raise ArchiveInvalid("The archive's footer points outside of the archive.")
    if end - start > layout.MANIFEST_LIMIT:
        raise _too_many_files(archive.key)
    manifest = layout.read_manifest(_read(bucket, archive, start, end))
    if len(manifest.entries) > layout.MOST_FILES:
        raise _too_many_files(archive.key)
    return manifest


def _require_tar(key: str, head: bytes) -> None:
    """ArchiveUnfit that calls the archive what it is, as far as its first bytes tell."""
    if not head.startswith(b"\x1f\x8b"):
        known = (name for name, at, magic in _FORMATS if head.startswith(magic, at))
        raise _no_tar(key, next(known, "no gzip file"))
    with contextlib.suppress(zlib.error):  # a damaged one is the instances' to find
        block = zlib.decompressobj(wbits=31).decompress(head, tarfile.BLOCKSIZE)
        if len(block) == tarfile.BLOCKSIZE and any(block):
            try:
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError:
                raise _no_tar(key, "a gzip file that holds no tar") from None


def _no_tar(key: str, what: str) -> ArchiveUnfit:
    return ArchiveUnfit(
        f"The archive {key} is {what}.",
        hint="Make it with tar -czf NAME.tar.gz DIRECTORY.",
        code="archive_format",
    )


def _too_many_files(key: str) -> ArchiveUnfit:
    return ArchiveUnfit(
        f"The archive {key} lists more files than a run can carry: at most {layout.MOST_FILES:,}.",
        hint="Leave out what the instances don't need, or put many small files into one.",
        code="archive_too_large",
    )


def unpacked(archive: Archive, pinned: PinnedArchive, manifest: Manifest | None) -> Unpacked:
    """The most that may come out of the archive: by its manifest, else by the request.

    Raises ArchiveUnfit when the manifest lists more than the request allows.
    """
    if manifest is None:
        most = max(layout.UNPACKED_BYTES, layout.UNPACKED_RATIO * pinned.size)
        return Unpacked(
            archive.unpacked_bytes or most, archive.unpacked_files or layout.UNPACKED_FILES
        )
    files = len(manifest.entries) + directory_count(manifest.entries)
    for listed, allowed, what in (
        (manifest.summary.bytes, archive.unpacked_bytes, "bytes"),
        (files, archive.unpacked_files, "files and directories"),
    ):
        if allowed is not None and listed > allowed:
            raise ArchiveUnfit(
                f"The archive {archive.key} holds {listed:,} {what}; "
                f"the request allows {allowed:,}.",
                hint="Allow more with archive.unpacked_bytes and archive.unpacked_files.",
                code="archive_too_large",
            )
    return Unpacked(manifest.summary.bytes, files + META_MEMBERS)


def _read(bucket: str, archive: PinnedArchive, start: int, end: int) -> bytes:
    answer = clients.s3().get_object(
        Bucket=bucket, Key=archive.key, Range=f"bytes={start}-{end - 1}", **version_of(archive)
    )
    body = answer["Body"]
    if "ContentRange" not in answer:  # a server may ignore Range (RFC 9110, 14.2)
        for skipped in range(0, start, _READ_BYTES):
            body.read(min(_READ_BYTES, start - skipped))
    return body.read(end - start)


def require_newest(settings: Settings, key: str, found: ArchiveObject) -> None:
    """Note the upload as the newest one; ArchiveSuperseded when a newer one is known."""
    current = _version(settings.bucket, Archive(key))
    if current is not None and current.version_id != found.version_id:
        raise superseded(key)
    ledger, upload = Ledger(settings.table), _upload(found)
    noted = ledger.advance(key, upload)
    if noted is None:
        return
    # Being current is no proof: the version before is current again once a run has deleted
    # its own. Two whole runs within one second would be needed for this to refuse the newest.
    if noted.modified != upload.modified or _gone(settings.bucket, key, noted):
        raise superseded(key)
    if not ledger.replace(key, noted, upload):
        raise superseded(key)


def require_still_newest(table: str, archive: PinnedArchive | None) -> None:
    """ArchiveSuperseded when a newer upload was planned after this run was."""
    if archive is None or not archive.key.startswith(INBOX_PREFIX):
        return
    noted = Ledger(table).newest(archive.key)
    if noted is not None and noted.version_id != archive.version_id:
        raise superseded(archive.key)


def superseded(key: str) -> ArchiveSuperseded:
    return ArchiveSuperseded(
        f"There is a newer upload of {key}.",
        hint="Nothing to do: the newer upload is the one that counts.",
    )


def _upload(found: ArchiveObject) -> Upload:
    return Upload(found.modified.isoformat(), found.version_id)


def _gone(bucket: str, key: str, upload: Upload) -> bool:
    return _version(bucket, Archive(key, version_id=upload.version_id)) is None


def _version(bucket: str, archive: Archive) -> ArchiveObject | None:
    try:
        return find_archive(bucket, archive)
    except ArchiveMissing:
        return None
