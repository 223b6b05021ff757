"""A stream of unknown length into one object: one request, or parts sent in parallel.

Nobody knows how much is to come, so one part is gathered before it is decided. The parts are
those of every other multipart upload here (``codeferry_transfer.s3``); what differs is only
that a stream cannot be read again, so an upload that fails is aborted and not taken up later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, count

from codeferry_transfer.errors import TransferError
from codeferry_transfer.media_type import media_type
from codeferry_transfer.parts import PART_SIZE, cut
from codeferry_transfer.s3 import S3, SentPart

_log = logging.getLogger(__name__)

CONCURRENCY = 4

Progress = Callable[[int], None]


@dataclass(frozen=True)
class UploadedObject:
    """An object S3 holds completely.

    ``size`` in bytes; ``version_id`` is None in a bucket without versions; ``parts`` is empty
    when it went up in one request.
    """

    key: str
    size: int
    version_id: str | None
    parts: tuple[SentPart, ...] = ()


def upload_stream(
    s3: S3,
    bucket: str,
    key: str,
    chunks: Iterable[bytes],
    *,
    part_size: int = PART_SIZE,
    concurrency: int = CONCURRENCY,
    progress: Progress = lambda size: None,
    metadata: Mapping[str, str] | None = None,
) -> UploadedObject:
    """Upload ``chunks`` as ``s3://bucket/key``, of the type that name has; S3 checks the SHA-256
    of each request.

    Holds up to ``part_size * (concurrency + 1)`` bytes: the parts on their way, the one
    being gathered and, while it is put together, that one twice. ``progress`` is called in
    the caller's thread with the bytes acknowledged since the last call. On any exception,
    KeyboardInterrupt and those of ``chunks`` included, whatever ``s3`` has in progress is
    halted, the multipart upload aborted and the exception raised again. Raises TransferError.
    """
    parts = cut(chunks, part_size)
    kind = media_type(key)
    first = next(parts)
    second = next(parts, None)
    if second is None:
        stored = s3.put_object(bucket, key, first, metadata=metadata, content_type=kind)
        progress(len(first))
        return UploadedObject(key, len(first), stored.version_id)
    bodies = chain((first, second), parts)
    del first, second
    upload_id = s3.create_multipart(bucket, key, metadata=metadata, content_type=kind)
    upload = _Upload(s3, bucket, key, upload_id)
    try:
        sent = upload.send(bodies, concurrency, progress)
        stored = s3.complete_multipart(bucket, key, upload.id, sent)
    except BaseException as error:
        upload.abort(error)
        raise
    return UploadedObject(key, sum(part.size for part in sent), stored.version_id, sent)


class _Upload:
    """A multipart upload that has begun; ends by its completion or by ``abort``."""

    def __init__(self, s3: S3, bucket: str, key: str, upload_id: str) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self.id = upload_id

    def send(
        self, bodies: Iterable[bytes], concurrency: int, progress: Progress
    ) -> tuple[SentPart, ...]:
        """Upload every body, at most ``concurrency`` at a time; the parts by number."""
        done: list[SentPart] = []
        going: set[Future[SentPart]] = set()

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
                # Or Ctrl-C would wait for parts that a slow line takes minutes to carry.
                self._s3.halt()
                threads.shutdown(wait=True, cancel_futures=True)
                self._s3.resume()
                raise
        return tuple(sorted(done, key=lambda part: part.number))

    def _send_one(self, number: int, body: bytes) -> SentPart:
        return self._s3.upload_part(self._bucket, self._key, self.id, number, body)

    def abort(self, cause: BaseException) -> None:
        """Leave nothing behind; when even that fails the cause says so and stays the error."""
        try:
            self._s3.abort_multipart(self._bucket, self._key, self.id)
        except TransferError as error:
            note = f"The multipart upload {self.id} of {self._key} could not be aborted"
            cause.add_note(f"{note}; the bucket's lifecycle rule will.")
            _log.warning("%s: %s", note, error.message)
