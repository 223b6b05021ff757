"""Upload one open file: make S3 hold exactly its bytes, with as few requests as it takes.

A file of one body is one conditional request. Only if there is an object already is it asked
what that is: the same bytes are left alone, others replaced. A larger file goes up in parts
from its one descriptor; there the question is asked first, because the answer may save a lot.

What decides is always a checksum of the contents, never size or time. Every request names the
account that has to own the bucket."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from codeferry_agent.drain.errors import ChecksumUnavailable, FileBusy
from codeferry_agent.drain.files.open_file import OpenFile
from codeferry_agent.drain.files.scan import shown
from codeferry_agent.drain.files.state import Ledger, MultipartUpload
from codeferry_contracts.errors import CodeferryError
from codeferry_transfer.errors import AccessDenied, ObjectMissing, PreconditionFailed
from codeferry_transfer.media_type import media_type
from codeferry_transfer.s3 import S3, SentPart, Stored
from codeferry_transfer.s3.checksums import composite_checksum


@dataclass(frozen=True)
class Part:
    """A part the store has acknowledged.

    ``sha256`` is that of its bytes, raw; ``shown`` is True when the store's own checksum of
    the part was compared.
    """

    number: int
    size: int
    sha256: bytes
    etag: str
    shown: bool = False


@dataclass(frozen=True)
class ExistingObject:
    """What a store keeps under a key: bytes, and the checksum it has made or checked itself.

    ``sha256`` is base64, as S3 writes it: of the whole object, or, of one put together of
    parts, ``<SHA-256 of the parts' SHA-256s>-<parts>``. Empty when the store keeps none.
    """

    size: int
    sha256: str


class Occupied(Exception):
    """There is an object under the key, and it was not to be replaced."""


class Store(Protocol):
    """Objects by bucket and key. Every method may be called from any thread.

    Raises TransferError: BucketMissing, AccessDenied, CredentialsUnusable, ConnectionFailed,
    Throttled when that is what is wrong.
    """

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        """Keep ``body``; returns only when the store has shown that it does: then whether what
        was there before stays, as a version.

        Raises Occupied when there is an object and ``replace`` is False (a store that cannot
        tell replaces it), ChecksumUnavailable when it is not clear what the store keeps now.
        """

    def kept(self, bucket: str, key: str) -> ExistingObject | None:
        """What is under the key; None when there is nothing."""

    def begin(self, bucket: str, key: str) -> str:
        """Start an upload in parts; its id."""

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part: ...

    def complete(self, bucket: str, key: str, upload: str, parts: Sequence[Part]) -> bool:
        """Make the object; returns only when the store has shown that it keeps these parts: then
        as ``put``.

        Raises ChecksumUnavailable when it is not clear what the store keeps now.
        """

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Drop an unfinished upload; one that is gone is dropped."""


_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')


class S3Store:
    """The buckets S3 has; ``client_of`` gives the client for a bucket.

    What shows that S3 keeps the bytes: the ETag where it is their MD5 (any server computes
    that from what it has stored), else the SHA-256 that S3 compared with the body and keeps.
    A server that ignores the SHA-256 sent along is found out in either case.
    """

    def __init__(self, client_of: Callable[[str], S3]) -> None:
        self._client_of = client_of
        # Buckets that were seen to keep the SHA-256 of parts: theirs need no MD5.
        self._keeping: set[str] = set()

    def put(self, bucket: str, key: str, body: bytes, *, replace: bool) -> bool:
        client = self._client_of(bucket)
        try:
            stored = client.put_object(
                bucket, key, body, if_none_match=not replace, content_type=media_type(key)
            )
        except PreconditionFailed:
            raise Occupied from None
        if not _is_md5_of(stored.etag, body):
            sha256 = b64encode(hashlib.sha256(body).digest()).decode()
            self._compare(bucket, key, ExistingObject(len(body), sha256))
        return _keeps_versions(stored)

    def kept(self, bucket: str, key: str) -> ExistingObject | None:
        try:
            head = self._client_of(bucket).head_object(bucket, key)
        except ObjectMissing:
            return None
        return ExistingObject(head.size, head.checksums.get("sha256", ""))

    def begin(self, bucket: str, key: str) -> str:
        return self._client_of(bucket).create_multipart(bucket, key, content_type=media_type(key))

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Part:
        sent = self._client_of(bucket).upload_part(bucket, key, upload, number, body)
        digest = sent.sha256 or hashlib.sha256(body).digest()
        shown_by_md5 = bucket not in self._keeping and _is_md5_of(sent.etag, body)
        return Part(number, len(body), digest, sent.etag, shown_by_md5)

    def complete(self, bucket: str, key: str, upload: str, parts: Sequence[Part]) -> bool:
        sent = [SentPart(part.number, part.size, part.etag, part.sha256) for part in parts]
        stored = self._client_of(bucket).complete_multipart(bucket, key, upload, sent)
        size = sum(part.size for part in parts)
        if self.kept(bucket, key) == ExistingObject(size, ""):
            self._trust_parts(bucket, key, parts)
        else:
            self._compare(
                bucket,
                key,
                ExistingObject(size, composite_checksum([part.sha256 for part in parts])),
            )
            self._keeping.add(bucket)
        return _keeps_versions(stored)

    def _trust_parts(self, bucket: str, key: str, parts: Sequence[Part]) -> None:
        """No checksum of the whole is kept; then every part has to have been shown."""
        if not all(part.shown for part in parts):
            self._keeping.discard(bucket)
            raise _checksum_unavailable(bucket, key)

    def abort(self, bucket: str, key: str, upload: str) -> None:
        self._client_of(bucket).abort_multipart(bucket, key, upload)

    def _compare(self, bucket: str, key: str, wanted: ExistingObject) -> None:
        if self.kept(bucket, key) != wanted:
            raise _checksum_unavailable(bucket, key)


def _keeps_versions(stored: Stored) -> bool:
    """Where versioning is not enabled (any more) an object has none, or "null" (S3 user guide,
    "How S3 Versioning works")."""
    return stored.version_id not in (None, "null")


def _checksum_unavailable(bucket: str, key: str) -> ChecksumUnavailable:
    return ChecksumUnavailable(
        f"s3://{bucket}/{shown(key)} does not show the checksum of what was sent.",
        hint="Something else writes this key, or the server keeps no checksums.",
    )


def _is_md5_of(etag: str, body: bytes) -> bool:
    found = _MD5_ETAG.fullmatch(etag)
    return found is not None and found[1] == hashlib.md5(body, usedforsecurity=False).hexdigest()


_log = logging.getLogger(__name__)

MIB = 1 << 20
_MOST_PARTS = 10_000


class UploadResult(Enum):
    """How the store came to hold the bytes."""

    UPLOADED = "uploaded"
    REPLACED = "uploaded in the place of another object, of which no version is kept"
    THERE_ALREADY = "there already"


def _instead_of(kept: ExistingObject | None, *, versions: bool) -> UploadResult:
    return UploadResult.UPLOADED if kept is None or versions else UploadResult.REPLACED


@dataclass(frozen=True)
class Sizes:
    """In bytes: the largest file that goes up in one request, the parts of larger ones, and
    the most that is in memory of all bodies at a time."""

    single: int = 8 * MIB
    part: int = 8 * MIB
    memory: int = 40 * MIB

    def part_of(self, size: int) -> int:
        """The part size of a file of ``size`` bytes: S3 takes 10,000 parts."""
        fitting = -(-size // _MOST_PARTS)
        return max(self.part, -(-fitting // MIB) * MIB)


class Budget:
    """So many bytes may be in memory; whoever wants more waits for others to be done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def of(self, wanted: int) -> Iterator[None]:
        taken = min(wanted, self._total)  # a body larger than all of it goes alone
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


@dataclass
class Uploader:
    """Uploads open files to a store. Safe to use from many threads; ``close`` ends its own."""

    store: Store
    sizes: Sizes = field(default_factory=Sizes)
    part_threads: int = 4

    def __post_init__(self) -> None:
        self._budget = Budget(self.sizes.memory)
        self._parts = ThreadPoolExecutor(self.part_threads, thread_name_prefix="part")

    def close(self) -> None:
        self._parts.shutdown(cancel_futures=True)

    def upload(self, file: OpenFile, bucket: str, key: str, ledger: Ledger) -> UploadResult:
        """Return when the store has shown that it holds the file's bytes under the key.

        Raises NotNow when the file is written to meanwhile, TransferError, ChecksumUnavailable
        and OSError.
        """
        if file.size <= self.sizes.single:
            with self._budget.of(file.size):
                return self._in_one(file, bucket, key)
        return self._in_parts(file, bucket, key, ledger)

    def _in_one(self, file: OpenFile, bucket: str, key: str) -> UploadResult:
        body = file.read(0, file.size)
        try:
            self.store.put(bucket, key, body, replace=False)
        except Occupied:
            kept = self.store.kept(bucket, key)
            if self._keeps(body, kept):
                return UploadResult.THERE_ALREADY
            versions = self.store.put(bucket, key, body, replace=True)
            return _instead_of(kept, versions=versions)
        return UploadResult.UPLOADED

    @staticmethod
    def _keeps(body: bytes, kept: ExistingObject | None) -> bool:
        if kept is None or kept.size != len(body):
            return False
        return kept.sha256 == b64encode(hashlib.sha256(body).digest()).decode()

    def _in_parts(self, file: OpenFile, bucket: str, key: str, ledger: Ledger) -> UploadResult:
        part_size = self.sizes.part_of(file.size)
        kept = self._kept(bucket, key)
        if self._keeps_parts(file, part_size, kept):
            return UploadResult.THERE_ALREADY
        begun = MultipartUpload(bucket, key, self.store.begin(bucket, key))
        ledger.add(begun)  # and if this process is killed, its next start aborts it
        try:
            parts = self._send(file, begun, part_size)
            versions = self.store.complete(*begun, parts)
        except BaseException:
            self.abort(begun, ledger)
            raise
        ledger.remove(begun)
        return _instead_of(kept, versions=versions)

    def _kept(self, bucket: str, key: str) -> ExistingObject | None:
        """What is there; None also where a missing key is answered with 403, because the
        credentials may not list the bucket."""
        try:
            return self.store.kept(bucket, key)
        except AccessDenied:
            return None

    def abort(self, begun: MultipartUpload, ledger: Ledger) -> None:
        """Drop an upload that was not completed; if S3 cannot be reached, it stays noted."""
        try:
            self.store.abort(*begun)
        except CodeferryError as error:  # also that nobody knows whose bucket it is
            _log.warning("An unfinished upload stays for now: %s", error)
        else:
            ledger.remove(begun)

    def _keeps_parts(self, file: OpenFile, part_size: int, kept: ExistingObject | None) -> bool:
        if kept is None or kept.size != file.size:
            return False
        if "-" not in kept.sha256:
            return bool(kept.sha256) and kept.sha256 == self._whole_sha256(file)
        digests = [
            hashlib.sha256(self._part_body(file, offset, part_size)).digest()
            for offset in range(0, file.size, part_size)
        ]
        return kept.sha256 == composite_checksum(digests)

    def _whole_sha256(self, file: OpenFile) -> str:
        whole = hashlib.sha256()
        for offset in range(0, file.size, self.sizes.part):
            whole.update(self._part_body(file, offset, self.sizes.part))
        return b64encode(whole.digest()).decode()

    @staticmethod
    def _part_body(file: OpenFile, offset: int, part_size: int) -> bytes:
        if not file.unwritten():
            raise FileBusy("Somebody opened it for writing while it was read.")
        return file.read(offset, min(part_size, file.size - offset))

    def _send(self, file: OpenFile, begun: MultipartUpload, part_size: int) -> list[Part]:
        """All parts, a few at a time; on an error those on their way are waited for."""

        def one(number: int, offset: int) -> Part:
            with self._budget.of(part_size):
                body = self._part_body(file, offset, part_size)
                return self.store.part(*begun, number, body)

        going: list[Future[Part]] = []
        done: list[Part] = []
        try:
            for number, offset in enumerate(range(0, file.size, part_size), start=1):
                going.append(self._parts.submit(one, number, offset))
                if len(going) >= 2 * self.part_threads:
                    done.append(going.pop(0).result())
            done += [future.result() for future in going]
        except BaseException:
            for future in going:
                future.cancel()
            wait(going)
            raise
        return done
