"""A large object in ranges, several at a time, taken up again where a killed process ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from codeferry_transfer.comparing import proves
from codeferry_transfer.composite import composite_of
from codeferry_transfer.errors import Halted, resumable
from codeferry_transfer.landing import Arriving, Landing
from codeferry_transfer.partition import part_bytes, part_count, span
from codeferry_transfer.parts import MIB, MOST_PARTS
from codeferry_transfer.plan import Verb
from codeferry_transfer.progress_log import ProgressLog, Version
from codeferry_transfer.s3 import S3, Head
from codeferry_transfer.s3.download import corrupted
from codeferry_transfer.s3.proof import proof_of
from codeferry_transfer.tally import Tally

_LARGEST_RANGE = 128 * MIB
_RANGES = 4  # times as large as parts: a range is not held in memory, and each costs a request
# Making an MD5 takes longer than the download; beyond this If-Match and the lengths must do,
# when S3 keeps no better checksum.
_LARGEST_MD5 = 64 * MIB


class LargeDownload:
    """One object on its way into the staging directory of a Landing."""

    def __init__(
        self,
        s3: S3,
        bucket: str,
        key: str,
        landing: Landing,
        path: str,
        tally: Tally,
        ended: Callable[[LargeDownload], None],
    ) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self._landing, self._path = landing, path
        self._tally, self._ended = tally, ended
        self._arriving: Arriving | None = None
        self._digests: dict[int, bytes] = {}

    def begin(self) -> Sequence[int]:
        """The numbers of the ranges that are still to come."""
        self._head = self._s3.head_object(self._bucket, self._key)
        self._part, self._composite = self._cut(self._head)
        name = hashlib.sha256(f"{self._bucket}/{self._key}".encode()).hexdigest()[:32]
        self._arriving = self._landing.arriving_large(self._path, f"{name}.part")
        version = Version(self._bucket, self._key, self._head.etag, self._head.size, self._part)
        self._log = ProgressLog(self._landing, f"{name}.log", version)
        if self._arriving.size == self._head.size:
            self._digests = self._log.done()
        if not self._digests:
            self._log.begin()
            self._arriving.reserve(self._head.size)
        numbers = range(1, part_count(self._head.size, self._part) + 1)
        self._tally.found(sum(self._span(number)[1] for number in self._digests))
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
        arriving = self._arriving
        assert arriving is not None
        offset, length = self._span(piece)
        digest, position = hashlib.sha256(), offset

        def sink(data: memoryview) -> None:
            nonlocal position
            arriving.write_at(data, position)
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
        self._tally.carried(length)

    def finish(self) -> None:
        assert self._arriving is not None
        if not self._proven(self._arriving.descriptor):
            raise corrupted(self._bucket, self._key)
        self._arriving.date(self._head.modified)
        self.close(forget=False)
        self._landing.settle(self._arriving.name, self._path, self._head.size, self._settled)

    def _settled(self, error: Exception | None) -> None:
        self._log.forget()
        if error is None:
            self._tally.copied()
        else:
            self._tally.fail(Verb.COPY, self._path, error)

    def _proven(self, descriptor: int) -> bool:
        if self._composite:
            digests = [self._digests[number] for number in sorted(self._digests)]
            return composite_of(digests) == self._composite
        proof = proof_of(self._head, md5=self._head.size <= _LARGEST_MD5)
        return proof is None or proves(descriptor, proof)

    def give_up(self, error: Exception) -> None:
        if isinstance(error, Halted):
            return  # clean_up() will end it
        self._tally.fail(Verb.COPY, self._path, error)
        self.close(forget=not resumable(error))

    def close(self, *, forget: bool) -> None:
        """Let go of the file; ``forget`` also what has arrived."""
        if self._arriving is not None:
            self._arriving.close(forget=forget)
            self._log.close(forget=forget)
        self._ended(self)
