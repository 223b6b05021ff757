"""One GET that survives broken connections, and whose bytes are verified where that is possible."""

from __future__ import annotations

from codeferry_transfer.errors import Corrupted, TransferError, refusal
from codeferry_transfer.s3.checksums import Checksum, checksum_of
from codeferry_transfer.s3.http import ConnectionBroken, ResponseHead, Sink
from codeferry_transfer.s3.requests import Request
from codeferry_transfer.s3.responses import head_of, span_of
from codeferry_transfer.s3.values import Head


class Download:
    """The bytes ``first`` to ``last`` (inclusive, None is the end), given to ``sink`` once each."""

    def __init__(
        self,
        bucket: str,
        key: str,
        sink: Sink,
        first: int | None,
        last: int | None,
        if_match: str | None,
    ) -> None:
        self._bucket, self._key, self._sink = bucket, key, sink
        self._first, self._last = first or 0, last
        self._whole = first is None and last is None
        self._etag = if_match
        self._given = 0
        self._due = 0  # bytes of the present answer that are still to come
        self._checksum: Checksum | None = None
        self._head: Head | None = None

    def request(self) -> Request:
        """For what is still to come, of the very object the first answer was of."""
        headers = {}
        if self._whole:
            headers["x-amz-checksum-mode"] = "ENABLED"
        if self._given or not self._whole:
            last = "" if self._last is None else self._last
            headers["range"] = f"bytes={self._first + self._given}-{last}"
        if self._etag:
            headers["if-match"] = self._etag
        return Request("GetObject", "GET", self._bucket, self._key, headers=headers)

    def begin(self, answer: ResponseHead) -> None:
        head, (begins, ends, _) = head_of(answer), span_of(answer)
        if begins != self._first + self._given or not self._is_range(answer):
            raise ConnectionBroken("the server ignored the range")
        if self._last is not None and ends > self._last + 1:
            raise ConnectionBroken("the server gives more than it was asked for")
        if self._etag and answer.headers.get("etag") != self._etag:
            raise self._replaced()
        self._due = ends - begins
        if self._head is None:
            self._head = head
            self._etag = self._head.etag or None
            self._checksum = checksum_of(self._head) if self._whole else None
        elif head.size != self._head.size:
            raise self._replaced()

    def _replaced(self) -> TransferError:
        return refusal("GetObject", self._bucket, self._key, "PreconditionFailed")

    def _is_range(self, answer: ResponseHead) -> bool:
        """By the header and not by status 206, which not every server gives with a range."""
        return "content-range" in answer.headers or (self._whole and not self._given)

    def take(self, piece: memoryview) -> None:
        if len(piece) > self._due:
            raise ConnectionBroken("the server gives more than it says")
        self._due -= len(piece)
        if self._checksum is not None:
            self._checksum.update(piece)
        self._sink(piece)
        self._given += len(piece)

    def end(self) -> None:
        """Whether the bytes are right is asked once, by ``verified``: they cannot be taken back.

        Raises Broken when some are missing, which are then asked for.
        """
        assert self._head is not None
        end = self._head.size if self._last is None else min(self._last + 1, self._head.size)
        if self._first + self._given < end:
            raise ConnectionBroken("the server gives less than it says")

    def verified(self) -> Head:
        """What S3 said of the object. Raises Corrupted when the bytes are not those."""
        assert self._head is not None
        if self._checksum is not None and not self._checksum.holds():
            raise corrupted(self._bucket, self._key)
        return self._head


def corrupted(bucket: str, key: str) -> Corrupted:
    return Corrupted(
        f"What arrived of s3://{bucket}/{key} does not have the checksum S3 keeps of it.",
        hint="Try again; if it stays, something between here and S3 changes the bytes.",
    )
