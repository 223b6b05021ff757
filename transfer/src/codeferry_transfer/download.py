"""Download objects into local files: whole or not at all, verified where S3 keeps a checksum.

A large object comes in ranges, several at a time. Which of them have arrived stands in a file that
outlives a kill, so that the next download goes on there.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from codeferry_transfer.destination import Destination, TemporaryFile
from codeferry_transfer.errors import Corrupted, Halted, TransferError, resumable
from codeferry_transfer.parts import MIB, MOST_PARTS, PART_SIZE, part_bytes, part_count, span
from codeferry_transfer.plan import Action, Verb
from codeferry_transfer.s3 import S3, Head, Sink
from codeferry_transfer.s3.checksums import checksum_of, composite_checksum, same_content, verifies
from codeferry_transfer.s3.download import corrupted
from codeferry_transfer.summary import Summary
from codeferry_transfer.workers import Pieces, WorkerPool

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Version:
    """What must be the same for a download to go on: the object, and how it is cut."""

    bucket: str
    key: str
    etag: str
    size: int
    part: int


class ProgressLog:
    """The log called ``name`` in the staging directory."""

    def __init__(self, destination: Destination, name: str, version: Version) -> None:
        self._destination = destination
        self._name = name
        self._descriptor = destination.staged(name, os.O_APPEND)
        self._header = json.dumps({**asdict(version), "boot": _boot()})

    def begin(self) -> None:
        """Nothing has arrived."""
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{self._header}\n".encode())

    def done(self) -> dict[int, bytes]:
        """The ranges that have arrived, by number: their SHA-256s, empty where none was made.

        None have of another version of the object.
        """
        header, *lines = self._read()
        arrived = {}
        for line in lines if header == self._header else ():
            number, digest = line.split(" ")
            arrived[int(number)] = bytes.fromhex(digest)
        return arrived

    def note(self, number: int, digest: bytes) -> None:
        """The range is there. One write, so that several threads may."""
        os.write(self._descriptor, f"{number} {digest.hex()}\n".encode())

    def forget(self) -> None:
        self._destination.forget(self._name)

    def close(self, *, forget: bool) -> None:
        os.close(self._descriptor)
        if forget:
            self.forget()

    def _read(self) -> list[str]:
        with open(self._descriptor, "rb", closefd=False) as file:
            text = file.read().decode(errors="replace")
        return text.split("\n")[:-1] or [""]  # behind the last line end is what a kill cut short


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


_LARGEST_RANGE = 128 * MIB
_RANGES = 4  # times as large as parts: a range is not held in memory, and each costs a request
# Making an MD5 takes longer than the download; beyond this If-Match and the lengths must do,
# when S3 keeps no better checksum.
_LARGEST_MD5 = 64 * MIB


class LargeDownload:
    """One object on its way into the staging directory of a Destination."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        key: str,
        destination: Destination,
        path: str,
        summary: Summary,
        ended: Callable[[LargeDownload], None],
    ) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self._destination, self._path = destination, path
        self._summary, self._ended = summary, ended
        self._temporary: TemporaryFile | None = None
        self._digests: dict[int, bytes] = {}

    def begin(self) -> Sequence[int]:
        """The numbers of the ranges that are still to come."""
        self._head = self._s3.head_object(self._bucket, self._key)
        self._part, self._composite = self._cut(self._head)
        name = hashlib.sha256(f"{self._bucket}/{self._key}".encode()).hexdigest()[:32]
        self._temporary = self._destination.large_temporary_file(self._path, f"{name}.part")
        version = Version(self._bucket, self._key, self._head.etag, self._head.size, self._part)
        self._log = ProgressLog(self._destination, f"{name}.log", version)
        if self._temporary.size == self._head.size:
            self._digests = self._log.done()
        if not self._digests:
            self._log.begin()
            self._temporary.reserve(self._head.size)
        numbers = range(1, part_count(self._head.size, self._part) + 1)
        self._summary.found(sum(self._span(number)[1] for number in self._digests))
        return [number for number in numbers if number not in self._digests]

    def _cut(self, head: Head) -> tuple[int, str]:
        """The size of the ranges, and the composite checksum if they are S3's own parts."""
        kept = head.checksums.get("sha256", "")
        if "-" in kept:
            first = self._s3.head_object(self._bucket, self._key, part=1).part_size
            if (
                first
                and first <= _LARGEST_RANGE
                and part_count(head.size, first) <= MOST_PARTS
                and kept.endswith(f"-{part_count(head.size, first)}")
            ):
                return first, kept
        return _RANGES * part_bytes(head.size), ""

    def _span(self, number: int) -> tuple[int, int]:
        return span(number, self._head.size, self._part)

    def carry(self, piece: int) -> None:
        temporary = self._temporary
        assert temporary is not None
        offset, length = self._span(piece)
        digest, position = hashlib.sha256(), offset

        def sink(data: memoryview) -> None:
            nonlocal position
            temporary.write_at(data, position)
            position += len(data)
            if self._composite:
                digest.update(data)

        self._s3.get_object(
            self._bucket,
            self._key,
            sink,
            first=offset,
            last=offset + length - 1,
            if_match=self._head.etag,
        )
        self._digests[piece] = digest.digest() if self._composite else b""
        self._log.note(piece, self._digests[piece])
        self._summary.carried(length)

    def finish(self) -> None:
        assert self._temporary is not None
        if not self._verified(self._temporary.descriptor):
            raise corrupted(self._bucket, self._key)
        self._temporary.date(self._head.modified)
        self.close(forget=False)
        self._destination.settle(self._temporary.name, self._path, self._head.size, self._settled)

    def _settled(self, error: Exception | None) -> None:
        self._log.forget()
        if error is None:
            self._summary.copied()
        else:
            self._summary.fail(Verb.COPY, self._path, error)

    def _verified(self, descriptor: int) -> bool:
        if self._composite:
            digests = [self._digests[number] for number in sorted(self._digests)]
            return composite_checksum(digests) == self._composite
        checksum = checksum_of(self._head, md5=self._head.size <= _LARGEST_MD5)
        return checksum is None or verifies(descriptor, checksum)

    def give_up(self, error: Exception) -> None:
        if isinstance(error, Halted):
            return  # clean_up() will end it
        self._summary.fail(Verb.COPY, self._path, error)
        self.close(forget=not resumable(error))

    def close(self, *, forget: bool) -> None:
        """Let go of the file; ``forget`` also what has arrived."""
        if self._temporary is not None:
            self._temporary.close(forget=forget)
            self._log.close(forget=forget)
        self._ended(self)


_BUFFERED_BYTES = 256 << 10
_TRIES = 2  # of an object that arrives with other bytes than S3 keeps


class Downloader:
    """Downloads what a plan says below a Destination; ``key_of`` maps the plan's paths to keys."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        key_of: Callable[[str], str],
        destination: Callable[[], Destination],
        pool: WorkerPool,
        summary: Summary,
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key_of = key_of
        self._make_destination = destination
        self._destination_made: Destination | None = None
        self._making = threading.Lock()
        self._pool = pool
        self._summary = summary
        self._open: set[LargeDownload] = set()

    def copy(self, action: Action) -> None:
        """Raises TransferError, OSError; a large object is only begun here."""
        if action.size > PART_SIZE:
            self._begin(action)
            return
        if action.size <= _BUFFERED_BYTES:
            name, head = self._gathered(action)
        else:
            name, head = self._streamed(action)
        self._summary.carried(head.size)
        self._destination.settle(name, action.path, head.size, partial(self._settled, action.path))

    def _gathered(self, action: Action) -> tuple[str, Head]:
        """A small object, verified before anything of it is written."""
        pieces: list[bytes] = []
        key = self._key_of(action.path)
        head = self._verified(key, lambda piece: pieces.append(bytes(piece)), pieces.clear)
        return self._destination.store(b"".join(pieces), head.modified), head

    def _streamed(self, action: Action) -> tuple[str, Head]:
        temporary = self._destination.temporary_file()
        try:
            head = self._verified(self._key_of(action.path), temporary.write, temporary.restart)
            temporary.date(head.modified)
        except BaseException:
            temporary.close(forget=True)
            raise
        temporary.close(forget=False)
        return temporary.name, head

    def _settled(self, path: str, error: Exception | None) -> None:
        if error is None:
            self._summary.copied()
        else:
            self._summary.fail(Verb.COPY, path, error)

    def _verified(self, key: str, sink: Sink, restart: Callable[[], None]) -> Head:
        """Once more from the beginning when other bytes arrive than S3 keeps."""
        for _ in range(_TRIES - 1):
            try:
                return self._s3.get_object(self._bucket, key, sink)
            except Corrupted:
                restart()
        return self._s3.get_object(self._bucket, key, sink)

    def same(self, action: Action) -> bool:
        """Whether the file has the object's content already."""
        try:
            descriptor = self._destination.existing(action.path)
        except FileNotFoundError:
            return False
        try:
            return same_content(
                descriptor, self._s3.head_object(self._bucket, self._key_of(action.path))
            )
        finally:
            os.close(descriptor)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the files, each that cannot be is a failure; what they kept out comes in."""
        for path in paths:
            try:
                self._destination.remove(path)
                self._summary.deleted += 1
            except (TransferError, OSError) as error:
                self._summary.fail(Verb.DELETE, path, error)
        if self._destination_made is not None:
            self._destination_made.settle_blocked()

    def finish(self, victims: Collection[str]) -> None:
        """The last files take their places, but for those that only ``victims`` keep out."""
        if self._destination_made is not None:
            self._destination_made.settle_all()
            self._destination_made.refuse_blocked(victims)

    def clean_up(self) -> None:
        """Leave no temporary file."""
        for download in tuple(self._open):
            download.close(forget=True)

    def close(self) -> None:
        """The end of all downloads."""
        if self._destination_made is not None:
            self._destination_made.close()

    @property
    def _destination(self) -> Destination:
        """Made on first use: a rehearsal makes no directory."""
        with self._making:
            if self._destination_made is None:
                self._destination_made = self._make_destination()
            return self._destination_made

    def _begin(self, action: Action) -> None:
        download = LargeDownload(
            self._s3,
            self._bucket,
            self._key_of(action.path),
            self._destination,
            action.path,
            self._summary,
            self._open.discard,
        )
        self._open.add(download)
        try:
            numbers = download.begin()
        except BaseException as error:
            download.close(forget=not resumable(error))
            raise
        self._pool.add(Pieces(download, numbers).works())
