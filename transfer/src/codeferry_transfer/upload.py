"""Local files into objects: each read once, unchanged while it was read, checked by S3."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable

from codeferry_transfer.errors import (
    AccessDenied,
    FileChanged,
    FileGone,
    FileUnfit,
    Halted,
    ObjectMissing,
    TransferError,
    UploadMissing,
    UploadRefused,
    resumable,
)
from codeferry_transfer.media_type import media_type
from codeferry_transfer.parts import PART_SIZE, part_bytes, part_count, span
from codeferry_transfer.plan import Action, Verb
from codeferry_transfer.s3 import S3, FileRange, SentPart, Unfinished
from codeferry_transfer.s3.checksums import same_content
from codeferry_transfer.summary import Summary
from codeferry_transfer.workers import Pieces, WorkerPool

_READS = 3  # of a small file that changes while it is read


class Uploader:
    """Uploads what a plan says; ``path_of`` and ``key_of`` map the plan's paths to both sides.

    ``follow`` is for a path that the user named: it may be a link.
    """

    def __init__(
        self,
        s3: S3,
        bucket: str,
        path_of: Callable[[str], str],
        key_of: Callable[[str], str],
        pool: WorkerPool,
        summary: Summary,
        *,
        follow: bool = False,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._follow = follow
        self._path_of = path_of
        self._key_of = key_of
        self._pool = pool
        self._summary = summary
        self._open: set[LargeUpload] = set()

    def copy(self, action: Action) -> None:
        """Raises TransferError, OSError; an object in parts is only begun here."""
        path, key = self._path_of(action.path), self._key_of(action.path)
        descriptor, size = open_regular(path, follow=self._follow)
        if size > PART_SIZE:
            self._begin(action, path, key, descriptor)
            return
        try:
            content = unchanged_content(path, descriptor)
        finally:
            os.close(descriptor)
        self._s3.put_object(self._bucket, key, content, content_type=media_type(path))
        self._summary.carried(len(content))
        self._summary.copied()

    def same(self, action: Action) -> bool:
        """Whether the object has the file's content already."""
        try:
            head = self._s3.head_object(self._bucket, self._key_of(action.path))
        except ObjectMissing:
            return False
        descriptor, _ = open_regular(self._path_of(action.path), follow=self._follow)
        try:
            return same_content(descriptor, head)
        finally:
            os.close(descriptor)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the objects; each that cannot be is a failure."""
        keys = {self._key_of(path): path for path in paths}
        left = self._s3.delete_objects(self._bucket, keys)
        for one in left:
            self._summary.fail(
                Verb.DELETE, keys[one.key], TransferError(f"S3 did not delete it: {one.code}.")
            )
        self._summary.deleted += len(keys) - len(left)

    def finish(self, victims: Collection[str]) -> None:
        """Every upload is finished by its last part, and no object is in another's way."""

    def clean_up(self) -> None:
        """Abort every upload that is unfinished, when nobody is at work any more."""
        self._s3.resume()
        for upload in tuple(self._open):
            upload.abort()

    def close(self) -> None:
        """Nothing is kept between uploads."""

    def _begin(self, action: Action, path: str, key: str, descriptor: int) -> None:
        upload = LargeUpload(
            self._s3, self._bucket, key, path, descriptor, self._summary, self._open.discard
        )
        self._open.add(upload)
        try:
            numbers = upload.begin()
        except BaseException:
            upload.close()
            raise
        self._pool.add(Pieces(upload, numbers).works())


class LargeUpload:
    """A multipart upload of one open file, taken up again where an earlier one ended."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        key: str,
        path: str,
        descriptor: int,
        summary: Summary,
        ended: Callable[[LargeUpload], None],
    ) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self._path, self._descriptor = path, descriptor
        self._summary, self._ended = summary, ended
        self._before = os.fstat(descriptor)
        self._part = part_bytes(self._before.st_size)
        self._had: dict[int, SentPart] = {}
        self._sent: dict[int, SentPart] = {}
        self._id = ""

    def begin(self) -> range:
        """The numbers of all parts. Those S3 has will be compared and not sent."""
        self._id = self._unfinished() or self._s3.create_multipart(
            self._bucket, self._key, content_type=media_type(self._path)
        )
        return range(1, part_count(self._before.st_size, self._part) + 1)

    def _unfinished(self) -> str:
        """The id of the newest earlier upload whose parts can be compared with the file.

        Without the permission to look, or on a server that cannot tell, there is none.
        """
        try:
            uploads = list(self._s3.list_multipart_uploads(self._bucket, self._key))
            mine = [upload for upload in uploads if upload.key == self._key]
            return self._comparable(sorted(mine, key=lambda each: each.initiated, reverse=True))
        except (AccessDenied, UploadMissing, UploadRefused):
            return ""

    def _comparable(self, uploads: Iterable[Unfinished]) -> str:
        for upload in uploads:
            parts = list(self._s3.list_parts(self._bucket, self._key, upload.upload_id))
            if parts and all(part.sha256 for part in parts):
                self._had = {part.number: part for part in parts}
                return upload.upload_id
        return ""

    def carry(self, piece: int) -> None:
        offset, length = span(piece, self._before.st_size, self._part)
        content = FileRange(self._descriptor, offset, length).read()
        had = self._had.get(piece)
        if had and had.size == length and had.sha256 == hashlib.sha256(content).digest():
            self._sent[piece] = had
            self._summary.found(length)
            return
        self._sent[piece] = self._s3.upload_part(self._bucket, self._key, self._id, piece, content)
        self._summary.carried(length)

    def finish(self) -> None:
        if not unchanged(self._before, os.fstat(self._descriptor)):
            raise changed(self._path)
        parts = [self._sent[number] for number in sorted(self._sent)]
        self._s3.complete_multipart(self._bucket, self._key, self._id, parts)
        self._summary.copied()
        self.close()

    def give_up(self, error: Exception) -> None:
        if isinstance(error, Halted):
            return  # S3 cannot be asked for anything now: clean_up() will
        self._summary.fail(Verb.COPY, self._path, error)
        if resumable(error):
            self.close()  # the next transfer of this file takes the parts up again
        else:
            self.abort()

    def abort(self) -> None:
        """Leave nothing in S3."""
        try:
            if self._id:
                self._s3.abort_multipart(self._bucket, self._key, self._id)
        except TransferError as error:
            self._summary.warn(self._key, f"its unfinished upload stays in S3: {error.message}")
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)
        self._ended(self)


def open_regular(path: str, *, follow: bool = False) -> tuple[int, int]:
    """A descriptor of a regular file and its size; through a link only with ``follow``.

    Raises FileUnfit, FileGone, OSError.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise FileGone(f"{path} is not there any more.") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileUnfit(f"{path} is not a regular file.")
    return descriptor, status.st_size


def unchanged_content(path: str, descriptor: int) -> bytes:
    """All of a small file as it was at one moment. Raises FileChanged."""
    before = os.fstat(descriptor)
    for _ in range(_READS):
        content = FileRange(descriptor, 0, before.st_size).read()
        after = os.fstat(descriptor)
        if unchanged(before, after) and len(content) == before.st_size:
            return content
        before = after
    raise changed(path)


def unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def changed(path: str) -> FileChanged:
    return FileChanged(
        f"{path} changed while it was being uploaded.", hint="Try again when nobody writes to it."
    )
