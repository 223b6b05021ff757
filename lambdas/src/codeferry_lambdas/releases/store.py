"""The release store in S3: records read, written under condition, archives copied in place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from codeferry_contracts import layout
from codeferry_contracts.last_good import LastGoodRelease, ReleaseArchive, parse_last_good
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.errors import ABSENT, AwsUnavailable, code_of
from codeferry_lambdas.runs.record import PinnedArchive, version_of

_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_TRIES = 5
# CopyObject answers when it is done, which for gigabytes is after our read timeout of 30 s, and a
# retry starts anew; a part of this size takes a few seconds. (Its own limit is 5 GB.)
COPY_LIMIT = 256 * 1024**2
PART_BYTES = 128 * 1024**2
_THREADS = 8


Change = Callable[[LastGoodRelease | None], LastGoodRelease | None]


@dataclass(frozen=True)
class ReleaseStore:
    """The last good releases of a stage."""

    bucket: str

    def all(self) -> Iterator[LastGoodRelease]:
        """Of every target and project."""
        pages = clients.s3().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=layout.RELEASES_PREFIX):
            for item in page.get("Contents", ()):
                if item["Key"].endswith(layout.RECORD_SUFFIX):
                    release = self.find(item["Key"])
                    if release:
                        yield release

    def find(self, key: str) -> LastGoodRelease | None:
        return self._read(key)[0]

    def change(self, key: str, change: Change) -> None:
        """Write what ``change`` makes of the record, again when somebody else was faster.

        It is given None where there is no record, and what it makes None of stays.
        """
        for _ in range(_TRIES):
            known, tag = self._read(key)
            changed = change(known)
            if changed in (None, known) or self._write(key, changed, tag):
                return
        raise _contended(key)

    def hold(self, key: str) -> None:
        """See to it that the archive of the record is the current version of its object.

        Versions that are not current expire, and current is the one that was copied last: by
        two runs at once perhaps the one that does not count. So everyone who copies an archive
        calls this once the record is written; the last one to look finds both as they stay.
        """
        for _ in range(_TRIES):
            known, _tag = self._read(key)
            held = known.archive if known else None
            if held is None or self._version(held.key) == held.version_id:
                return
            self.change(key, _replacing(held, self.renewed(held)))
        raise _contended(key)

    def renewed(self, archive: ReleaseArchive) -> ReleaseArchive:
        """The archive as the current version of its object, which does not expire."""
        source = PinnedArchive(archive.key, archive.version_id, archive.size, archive.sha256)
        return dataclasses.replace(archive, version_id=self.copy(source, archive.key))

    def _version(self, key: str) -> str:
        """The current version of an object that is there."""
        answer = clients.s3().head_object(Bucket=self.bucket, Key=key)
        return answer.get("VersionId", "null")

    def _read(self, key: str) -> tuple[LastGoodRelease | None, str]:
        """The record and its ETag; None and nothing when there is none."""
        try:
            answer = clients.s3().get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if code_of(error) in ABSENT:
                return None, ""
            raise
        return parse_last_good(json.loads(answer["Body"].read())), answer["ETag"]

    def _write(self, key: str, release: LastGoodRelease, tag: str) -> bool:
        condition: Any = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        body = json.dumps(release.to_json(), separators=(",", ":")).encode()
        try:
            clients.s3().put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            if code_of(error) in _CHANGED:
                return False
            raise
        return True

    def copy(self, archive: PinnedArchive, key: str) -> str:
        """Copy one version of an object to ``key`` within S3; the copy's version."""
        source: Any = {"Bucket": self.bucket, "Key": archive.key, **version_of(archive)}
        if archive.size >= COPY_LIMIT:
            return self._copy_parts(source, archive.size, key)
        # A new set of tags, which is none: copying them would need rights to read them.
        answer = clients.s3().copy_object(
            Bucket=self.bucket, Key=key, CopySource=source, TaggingDirective="REPLACE"
        )
        return answer.get("VersionId", "null")

    def _copy_parts(self, source: Any, size: int, key: str) -> str:
        s3 = clients.s3()
        place: Any = {"Bucket": self.bucket, "Key": key}
        upload = s3.create_multipart_upload(**place)["UploadId"]

        def part(number: int) -> dict[str, Any]:
            start = (number - 1) * PART_BYTES
            end = min(start + PART_BYTES, size) - 1
            answer = s3.upload_part_copy(
                **place,
                UploadId=upload,
                PartNumber=number,
                CopySource=source,
                CopySourceRange=f"bytes={start}-{end}",
            )
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                parts: Any = list(pool.map(part, range(1, -(-size // PART_BYTES) + 1)))
            answer = s3.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            s3.abort_multipart_upload(**place, UploadId=upload)
            raise
        return answer.get("VersionId", "null")


def _replacing(held: ReleaseArchive, renewed: ReleaseArchive) -> Change:
    """The change of a record that still has the archive ``held``."""

    def change(known: LastGoodRelease | None) -> LastGoodRelease | None:
        if known is None or known.archive != held:
            return None
        return dataclasses.replace(known, archive=renewed)

    return change


def _contended(key: str) -> AwsUnavailable:
    return AwsUnavailable(f"{key} was changed by others again and again.")
