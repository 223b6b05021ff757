"""The operations of S3, each a request and what its answer says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from codeferry_transfer.errors import (
    AccessDenied,
    BucketMissing,
    CredentialsUnusable,
    Halted,
    PreconditionFailed,
    TransferError,
    UploadMissing,
    UploadRefused,
    answer_invalid,
    refusal,
)
from codeferry_transfer.parts import MOST_PARTS
from codeferry_transfer.s3 import xml
from codeferry_transfer.s3.address import Source
from codeferry_transfer.s3.checksums import made_of
from codeferry_transfer.s3.download import Download
from codeferry_transfer.s3.environment_credentials import EnvironmentCredentials
from codeferry_transfer.s3.http import Sink
from codeferry_transfer.s3.requests import Exchanges, Gatherer, Request
from codeferry_transfer.s3.responses import ErrorResponse, code_of, head_of, stored_of
from codeferry_transfer.s3.values import (
    Body,
    FileRange,
    Head,
    Page,
    SentPart,
    Stored,
    Undeleted,
    Unfinished,
)

if TYPE_CHECKING:
    from boto3.session import Session

ATTEMPTS = 8
MOST_DELETED = 1_000  # in one DeleteObjects
MOST_EMPTY_PAGES = 100  # in a row, in a listing that goes on

# Which element of a page goes into which parameter of the request for the next.
_NEXT_OBJECTS = {"continuation-token": "NextContinuationToken"}
_NEXT_UPLOADS = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
_NEXT_PARTS = {"part-number-marker": "NextPartNumberMarker"}


class S3:
    """A client that any number of threads may share; see the package for the operations."""

    def __init__(
        self,
        session: Session | EnvironmentCredentials,
        *,
        endpoint_url: str | None = None,
        expected_owner: str | None = None,
        request_payer: bool = False,
        attempts: int = ATTEMPTS,
    ) -> None:
        headers = {}
        if expected_owner:
            headers["x-amz-expected-bucket-owner"] = expected_owner
        if request_payer:
            headers["x-amz-request-payer"] = "requester"
        self._exchanges = Exchanges(_source(session, endpoint_url), headers, attempts)

    def close(self) -> None:
        """Close the idle connections."""
        self._exchanges.close()

    def halt(self) -> None:
        """Make every call raise Halted, those in progress at once, until ``resume``."""
        self._exchanges.halt()

    def resume(self) -> None:
        """Make calls work again, after those who were to be halted have ended."""
        self._exchanges.resume()

    def now(self) -> float:
        """Seconds since 1970 by S3's clock, as far as its answers have shown another than ours."""
        return self._exchanges.now()

    def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Stored:
        """Store ``body`` under ``key``; with ``if_none_match`` only where nothing is yet.

        Raises PreconditionFailed when something is, unless it is the same content.
        """
        content = _content(body)
        headers = _described(metadata, content_type)
        if if_none_match:
            headers["if-none-match"] = "*"
        request, digest = _with_content(
            Request("PutObject", "PUT", bucket, key, headers=headers), content
        )
        try:
            answer, _ = self._exchanges.answer(request)
        except PreconditionFailed:
            return self._own(bucket, key, digest)
        return stored_of(answer, digest)

    def _own(self, bucket: str, key: str, digest: bytes) -> Stored:
        """The object a conditional put found, if an attempt whose answer was lost has put it."""
        found = self.head_object(bucket, key)
        if found.sha256 != digest:
            raise refusal("PutObject", bucket, key, "PreconditionFailed") from None
        return Stored(found.etag, found.version_id, digest)

    def head_object(self, bucket: str, key: str, *, part: int | None = None) -> Head:
        """What S3 knows of an object, or of one part of it. Raises ObjectMissing, AccessDenied."""
        query = {"partNumber": str(part)} if part else {}
        headers = {"x-amz-checksum-mode": "ENABLED"}
        answer, _ = self._exchanges.answer(
            Request("HeadObject", "HEAD", bucket, key, query, headers)
        )
        return head_of(answer)

    def get_object(
        self,
        bucket: str,
        key: str,
        sink: Sink,
        *,
        first: int | None = None,
        last: int | None = None,
        if_match: str | None = None,
    ) -> Head:
        """Give the bytes ``first`` to ``last`` (inclusive) to ``sink``, each once and in order.

        A piece is only valid during the call. A connection that breaks is taken up where it
        ended, as long as the object is the same. A whole object is compared with S3's
        checksum of it: Corrupted when it differs, after all has been given. Raises
        PreconditionFailed when the object is not the one with the ETag ``if_match``.
        """
        download = Download(bucket, key, sink, first, last, if_match)
        self._exchanges.ask(download.request, download)
        return download.verified()

    def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", start_after: str = ""
    ) -> Iterator[Page]:
        """Every object whose key begins with ``prefix``, in the order of the keys' bytes."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        if delimiter:
            query["delimiter"] = delimiter
        if start_after:
            query["start-after"] = start_after
        pages = self._pages("ListObjectsV2", bucket, None, query, _NEXT_OBJECTS)
        yield from _going_on(xml.page(root, prefix) for root in pages)

    def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Iterator[Unfinished]:
        """Every upload under ``prefix`` that is neither completed nor aborted."""
        query = {"uploads": "", "encoding-type": "url", "prefix": prefix}
        for root in self._pages("ListMultipartUploads", bucket, None, query, _NEXT_UPLOADS):
            yield from xml.unfinished(root, prefix)

    def create_multipart(
        self,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> str:
        """Begin a multipart upload whose parts are checked by SHA-256; its id."""
        headers = _described(metadata, content_type) | {"x-amz-checksum-algorithm": "SHA256"}
        request = Request("CreateMultipartUpload", "POST", bucket, key, {"uploads": ""}, headers)
        body = self._exchanges.answer(request)[1]
        return xml.required(xml.parsed(body, "InitiateMultipartUploadResult"), "UploadId")

    def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> SentPart:
        """Send part ``number`` (from 1), replacing an earlier one of that number."""
        content = _content(body)
        query = {"partNumber": str(number), "uploadId": upload_id}
        request, digest = _with_content(Request("UploadPart", "PUT", bucket, key, query), content)
        answer, _ = self._exchanges.answer(request)
        return SentPart(number, len(content), answer.headers.get("etag", ""), digest)

    def list_parts(self, bucket: str, key: str, upload_id: str) -> Iterator[SentPart]:
        """The parts S3 has of an upload, by number."""
        query, last = {"uploadId": upload_id}, 0
        for root in self._pages("ListParts", bucket, key, query, _NEXT_PARTS):
            for part in xml.sent_parts(root):
                if not last < part.number <= MOST_PARTS:
                    raise answer_invalid("the parts of an upload are numbered from 1 to 10,000")
                last = part.number
                yield part

    def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[SentPart],
        *,
        if_none_match: bool = False,
    ) -> Stored:
        """Make the object of its parts, given by ascending number.

        When it stays open whether that was done, the object under the key is compared with
        the parts: equal is done, anything else raises the error.
        """
        headers = {"if-none-match": "*"} if if_none_match else {}
        query = {"uploadId": upload_id}
        request = _with_text(
            Request("CompleteMultipartUpload", "POST", bucket, key, query, headers),
            xml.completion(parts),
        )
        try:
            answer, body = self._exchanges.answer(request, LateError())
            etag = xml.text(xml.parsed(body, "CompleteMultipartUploadResult"), "ETag")
        except (Halted, CredentialsUnusable, BucketMissing):
            raise
        except TransferError as error:
            return self._completed_after_all(bucket, key, parts, error)
        return Stored(etag, answer.headers.get("x-amz-version-id"), None)

    def _completed_after_all(
        self, bucket: str, key: str, parts: Sequence[SentPart], error: TransferError
    ) -> Stored:
        try:
            found = self.head_object(bucket, key)
        except TransferError:
            raise error from None
        if not made_of(found, parts):
            raise error
        return Stored(found.etag, found.version_id, None)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; one that is gone is aborted already."""
        request = Request("AbortMultipartUpload", "DELETE", bucket, key, {"uploadId": upload_id})
        try:
            self._exchanges.answer(request)
        except UploadMissing:
            return

    def delete_objects(self, bucket: str, keys: Iterable[str]) -> list[Undeleted]:
        """Delete the objects; those that could not be. What is not there is deleted."""
        left: list[Undeleted] = []
        remaining = iter(keys)
        while batch := list(islice(remaining, MOST_DELETED)):
            left += self._deleted_together(bucket, [key for key in batch if xml.can_say(key)])
            left += [
                undeleted
                for key in batch
                if not xml.can_say(key) and (undeleted := self._deleted_alone(bucket, key))
            ]
        return left

    def _deleted_together(self, bucket: str, keys: Sequence[str]) -> list[Undeleted]:
        if not keys:
            return []
        request = _with_text(
            Request("DeleteObjects", "POST", bucket, None, {"delete": ""}), xml.deletion(keys)
        )
        body = self._exchanges.answer(request)[1]
        return [
            Undeleted(found.key, code_of({"Code": found.code}) or "unknown")
            for found in xml.undeleted(xml.parsed(body, "DeleteResult"))
        ]

    def _deleted_alone(self, bucket: str, key: str) -> Undeleted | None:
        try:
            self._exchanges.answer(Request("DeleteObject", "DELETE", bucket, key))
        except (AccessDenied, UploadRefused) as error:
            return Undeleted(key, error.code)
        return None

    def _pages(
        self,
        operation: str,
        bucket: str,
        key: str | None,
        query: dict[str, str],
        further: Mapping[str, str],
    ) -> Iterator[Element]:
        """Every page of a listing; ``further`` says which element continues which parameter.

        Raises AnswerInvalid when the pages go in a circle: of all markers one is compared with
        those after it, the next one after twice as many (Brent's way to find a cycle).
        """
        name = "ListBucketResult" if operation == "ListObjectsV2" else f"{operation}Result"
        before: dict[str, str] = {}
        for number in count(1):
            _, body = self._exchanges.answer(Request(operation, "GET", bucket, key, query))
            root = xml.parsed(body, name)
            yield root
            if xml.text(root, "IsTruncated") != "true":
                return
            markers = {name: xml.marker(root, element) for name, element in further.items()}
            if markers == before or not any(markers.values()):
                raise answer_invalid("its listing leads back to where it was")
            if number & (number - 1) == 0:
                before = markers
            query = query | markers


def _source(session: Session | EnvironmentCredentials, endpoint_url: str | None) -> Source:
    if isinstance(session, EnvironmentCredentials):
        return replace(session, endpoint_url=endpoint_url or session.endpoint_url)
    from codeferry_transfer.s3.botocore_credentials import BotocoreCredentials

    return BotocoreCredentials(session, endpoint_url)


def _going_on(pages: Iterable[Page]) -> Iterator[Page]:
    """The pages. Raises AnswerInvalid when too many in a row have nothing on them."""
    empty = 0
    for page in pages:
        empty = 0 if page.objects or page.prefixes else empty + 1
        if empty > MOST_EMPTY_PAGES:
            raise answer_invalid("its listing goes on and says nothing")
        yield page


class LateError(Gatherer):
    """An answer whose status was sent before S3 knew how it would end."""

    def end(self) -> None:
        said = xml.error(bytes(self.content))
        if said:
            raise ErrorResponse(500, code_of(said) or "unknown")


def _described(metadata: Mapping[str, str] | None, content_type: str) -> dict[str, str]:
    headers = {f"x-amz-meta-{name.lower()}": value for name, value in (metadata or {}).items()}
    if content_type:
        headers["content-type"] = content_type
    return headers


def _content(body: Body) -> bytes:
    return body.read() if isinstance(body, FileRange) else body


def _with_content(request: Request, content: bytes) -> tuple[Request, bytes]:
    """The request with a body S3 is to check and keep the SHA-256 of; that digest."""
    digest = hashlib.sha256(content)
    headers = {**request.headers, "x-amz-checksum-sha256": xml.base64(digest.digest())}
    sent = replace(request, headers=headers, body=content, body_sha256=digest.hexdigest())
    return sent, digest.digest()


def _with_text(request: Request, body: bytes) -> Request:
    """The request with a body that is no content; DeleteObjects must have a checksum."""
    return (
        _with_content(request, body)[0]
        if request.operation == "DeleteObjects"
        else replace(request, body=body, body_sha256=hashlib.sha256(body).hexdigest())
    )
