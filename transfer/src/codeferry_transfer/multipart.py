"""One multipart upload, from its creation to an object or to nothing at all."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from codeferry_transfer.composite import composite_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_log = logging.getLogger(__name__)

# Answers to CompleteMultipartUpload that leave open whether it was done.
_UNCERTAIN = {"NoSuchUpload", "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}


@dataclass(frozen=True)
class Part:
    """One acknowledged part: ``number`` from 1, ``size`` in bytes, ``sha256`` in base64."""

    number: int
    size: int
    sha256: str
    etag: str


def upload_parts(
    client: S3Client,
    bucket: str,
    key: str,
    bodies: Iterable[bytes],
    concurrency: int,
    progress: Callable[[int], None],
    metadata: dict[str, str],
) -> tuple[tuple[Part, ...], str | None]:
    """Upload the bodies as the parts of one object; its parts and version id.

    On any exception the upload is aborted. Raises what the client raises.
    """
    upload = _Upload.begin(client, bucket, key, metadata)
    try:
        parts = upload.send(bodies, concurrency, progress)
        return parts, upload.complete(parts)
    except BaseException as error:
        upload.abort(error)
        raise


class _Stopped(BaseException):
    """Ends a request in progress; no Exception, because botocore would try those again."""


class _Body(io.BytesIO):
    """A part's bytes that stop flowing when the upload is given up.

    Without it Ctrl-C would wait for parts that a slow line takes minutes to carry.
    """

    def __init__(self, content: bytes, stopping: threading.Event) -> None:
        super().__init__(content)
        self._stopping = stopping

    def read(self, size: int | None = -1, /) -> bytes:
        if self._stopping.is_set():
            raise _Stopped
        return super().read(size)


class _Upload:
    def __init__(self, client: S3Client, bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._id = upload_id
        self._stopping = threading.Event()

    @classmethod
    def begin(cls, client: S3Client, bucket: str, key: str, metadata: dict[str, str]) -> _Upload:
        answer = client.create_multipart_upload(
            Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256", Metadata=metadata
        )
        return cls(client, bucket, key, answer["UploadId"])

    def send(
        self, bodies: Iterable[bytes], concurrency: int, progress: Callable[[int], None]
    ) -> tuple[Part, ...]:
        """Upload every body, at most ``concurrency`` at a time."""
        done: list[Part] = []
        going: set[Future[Part]] = set()

        def reap(most_left: int) -> None:
            while len(going) > most_left:
                finished, _ = wait(going, return_when=FIRST_COMPLETED)
                going.difference_update(finished)
                for future in finished:
                    done.append(future.result())
                    progress(done[-1].size)

        with ThreadPoolExecutor(concurrency, thread_name_prefix="upload") as threads:
            try:
                numbers = count(1)
                for body in bodies:  # enumerate, and body itself, would keep the last one
                    going.add(threads.submit(self._send_one, next(numbers), body))
                    del body
                    reap(concurrency - 1)
                reap(0)
            except BaseException:
                self._stopping.set()
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return tuple(sorted(done, key=lambda part: part.number))

    def _send_one(self, number: int, body: bytes) -> Part:
        checksum = b64encode(hashlib.sha256(body).digest()).decode()
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._id,
            PartNumber=number,
            Body=_Body(body, self._stopping),
            ContentLength=len(body),
            ChecksumSHA256=checksum,
        )
        return Part(number, len(body), checksum, answer["ETag"])

    def complete(self, parts: Sequence[Part]) -> str | None:
        """Make the object of its parts; its version id."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": part.sha256}
            for part in parts
        ]
        try:
            answer = self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={"Parts": listed},  # type: ignore[typeddict-item]
            )
        except (ClientError, HTTPClientError) as error:
            return self._completed_after_all(parts, error)
        return answer.get("VersionId")

    def _completed_after_all(
        self, parts: Sequence[Part], error: ClientError | HTTPClientError
    ) -> str | None:
        """Look whether the object is there although the answer was lost; else the error."""
        if isinstance(error, ClientError) and error.response["Error"]["Code"] not in _UNCERTAIN:
            raise error
        try:
            found = self._client.head_object(
                Bucket=self._bucket, Key=self._key, ChecksumMode="ENABLED"
            )
        except (ClientError, BotoCoreError):
            raise error from None
        same_size = found["ContentLength"] == sum(part.size for part in parts)
        if not same_size or found.get("ChecksumSHA256") != composite_checksum(parts):
            raise error
        return found.get("VersionId")

    def abort(self, cause: BaseException) -> None:
        """Leave nothing behind; when even that fails the cause says so and stays the error."""
        try:
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._id
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                self._left_behind(cause, error)
        except BotoCoreError as error:
            self._left_behind(cause, error)

    def _left_behind(self, cause: BaseException, error: Exception) -> None:
        note = f"The multipart upload {self._id} of {self._key} could not be aborted"
        cause.add_note(f"{note}; the bucket's lifecycle rule will.")
        _log.warning("%s: %s", note, type(error).__name__)


def composite_checksum(parts: Sequence[Part]) -> str:
    """The checksum S3 keeps for the object that these parts make."""
    return composite_of([b64decode(part.sha256) for part in parts])
