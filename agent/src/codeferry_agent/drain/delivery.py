"""Making a store hold exactly the bytes of one held file, with as few requests as it takes.

A file of one body is one conditional request. Only if there is an object already is it asked
what that is: the same bytes are left alone, others replaced. A larger file goes up in parts
from its one descriptor; there the question is asked first, because the answer may save a lot.

What decides is always a checksum of the contents, never size or time.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from codeferry_agent.drain.errors import FileBusy
from codeferry_agent.drain.held import HeldFile
from codeferry_agent.drain.ledger import Begun, Ledger
from codeferry_agent.drain.stores.store import Kept, Occupied, Part, Store, composite
from codeferry_contracts.errors import CodeferryError
from codeferry_transfer.errors import AccessDenied

_log = logging.getLogger(__name__)

MIB = 1 << 20
_MOST_PARTS = 10_000


class Delivered(Enum):
    """How the store came to hold the bytes."""

    UPLOADED = "uploaded"
    REPLACED = "uploaded in the place of another object, of which no version is kept"
    THERE_ALREADY = "there already"


def _instead_of(kept: Kept | None, *, versions: bool) -> Delivered:
    return Delivered.UPLOADED if kept is None or versions else Delivered.REPLACED


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
class Courier:
    """Takes held files to a store. Safe to use from many threads; ``close`` ends its own."""

    store: Store
    sizes: Sizes = field(default_factory=Sizes)
    part_threads: int = 4

    def __post_init__(self) -> None:
        self._budget = Budget(self.sizes.memory)
        self._parts = ThreadPoolExecutor(self.part_threads, thread_name_prefix="part")

    def close(self) -> None:
        self._parts.shutdown(cancel_futures=True)

    def deliver(self, file: HeldFile, bucket: str, key: str, ledger: Ledger) -> Delivered:
        """Return when the store has shown that it holds the file's bytes under the key.

        Raises NotNow when the file is written to meanwhile, TransferError, Unproven, OSError.
        """
        if file.size <= self.sizes.single:
            with self._budget.of(file.size):
                return self._in_one(file, bucket, key)
        return self._in_parts(file, bucket, key, ledger)

    def _in_one(self, file: HeldFile, bucket: str, key: str) -> Delivered:
        body = file.read(0, file.size)
        try:
            self.store.put(bucket, key, body, replace=False)
        except Occupied:
            kept = self.store.kept(bucket, key)
            if self._keeps(body, kept):
                return Delivered.THERE_ALREADY
            versions = self.store.put(bucket, key, body, replace=True)
            return _instead_of(kept, versions=versions)
        return Delivered.UPLOADED

    @staticmethod
    def _keeps(body: bytes, kept: Kept | None) -> bool:
        if kept is None or kept.size != len(body):
            return False
        return kept.sha256 == b64encode(hashlib.sha256(body).digest()).decode()

    def _in_parts(self, file: HeldFile, bucket: str, key: str, ledger: Ledger) -> Delivered:
        part_size = self.sizes.part_of(file.size)
        kept = self._kept(bucket, key)
        if self._keeps_parts(file, part_size, kept):
            return Delivered.THERE_ALREADY
        begun = Begun(bucket, key, self.store.begin(bucket, key))
        ledger.add(begun)  # and if this process is killed, its next start aborts it
        try:
            parts = self._send(file, begun, part_size)
            versions = self.store.complete(*begun, parts)
        except BaseException:
            self.abort(begun, ledger)
            raise
        ledger.remove(begun)
        return _instead_of(kept, versions=versions)

    def _kept(self, bucket: str, key: str) -> Kept | None:
        """What is there; None also where a missing key is answered with 403, because the
        credentials may not list the bucket."""
        try:
            return self.store.kept(bucket, key)
        except AccessDenied:
            return None

    def abort(self, begun: Begun, ledger: Ledger) -> None:
        """Drop an upload that was not completed; if S3 cannot be reached, it stays noted."""
        try:
            self.store.abort(*begun)
        except CodeferryError as error:  # also that nobody knows whose bucket it is
            _log.warning("An unfinished upload stays for now: %s", error)
        else:
            ledger.remove(begun)

    def _keeps_parts(self, file: HeldFile, part_size: int, kept: Kept | None) -> bool:
        if kept is None or kept.size != file.size:
            return False
        if "-" not in kept.sha256:
            return bool(kept.sha256) and kept.sha256 == self._whole_sha256(file)
        digests = [
            hashlib.sha256(self._part_body(file, offset, part_size)).digest()
            for offset in range(0, file.size, part_size)
        ]
        return kept.sha256 == composite(digests)

    def _whole_sha256(self, file: HeldFile) -> str:
        whole = hashlib.sha256()
        for offset in range(0, file.size, self.sizes.part):
            whole.update(self._part_body(file, offset, self.sizes.part))
        return b64encode(whole.digest()).decode()

    @staticmethod
    def _part_body(file: HeldFile, offset: int, part_size: int) -> bytes:
        if not file.unwritten():
            raise FileBusy("Somebody opened it for writing while it was read.")
        return file.read(offset, min(part_size, file.size - offset))

    def _send(self, file: HeldFile, begun: Begun, part_size: int) -> list[Part]:
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
