"""Read the selected files once: scan, hash, and lay them out as tar members.

A file is as it was at one moment: a small one is read whole and read again if it
changed meanwhile; of a large one exactly as many bytes are taken as its header announced.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from codeferry_cli.packing import tar
from codeferry_cli.packing.errors import (
    PackAgain,
    SecretsFound,
    listing,
    path_text,
    show,
    unreadable,
)
from codeferry_cli.packing.secrets import SCANNED_BYTES, find_secret
from codeferry_cli.packing.selection import File, Selection
from codeferry_contracts.archive import Entry, link_entry

WHOLE_BYTES = 8 << 20  # up to this size a file is read before its header is written
BATCH_BYTES = 1 << 20

# A FIFO put in a file's place must not block, nor a link be followed.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READINGS = 5
_PAUSE_SECONDS = 0.02  # for the writer to finish


def refused(selection: Selection) -> dict[bytes, str]:
    """What packing will refuse, by path, and why; only as much of each file is read as for that."""
    found: dict[bytes, str] = {}
    prefix = os.fsencode(selection.root) + b"/"
    for file in selection.files:
        if file.target is not None or file.path in selection.allowed:
            continue
        try:
            with open(os.open(file.source or prefix + file.path, _FLAGS), "rb") as stream:  # noqa: PTH123 - by descriptor
                what = find_secret(file.path, stream.read(SCANNED_BYTES))
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
        if what is not None:
            found[file.path] = what
    return found


class TreeReader:
    """Reads a selection once; ``entries`` and ``warnings`` are complete when ``batches`` is."""

    def __init__(self, selection: Selection, leave_out: frozenset[bytes] = frozenset()) -> None:
        self.entries: list[Entry] = []
        self.warnings: list[str] = []
        self._selection = selection
        self._leave_out = leave_out
        self._prefix = os.fsencode(selection.root) + b"/"
        self._parts: list[bytes] = []
        self._size = 0
        self._secrets: list[str] = []
        self._unreadable: dict[bytes, str] = {}

    def batches(self) -> Iterator[bytes]:
        """The tar members in pieces of about ``BATCH_BYTES``.

        After the first credential or unreadable file nothing more is given out, but all
        files are looked at, so that SecretsFound or FilesUnreadable names every one.
        Raises PackAgain when a large file became shorter than its header says.
        """
        for file in self._selection.files:
            if not self._add_quickly(file):
                yield from self._add_slowly(file)
            if self._size >= BATCH_BYTES:
                yield from self._flush()
        yield from self._flush()
        self._refuse()

    def _add_quickly(self, file: File) -> bool:
        """The common case: a small file, as it was when it was selected."""
        if file.size > WHOLE_BYTES or file.target is not None or file.path in self._leave_out:
            return False
        try:
            descriptor = os.open(file.source or self._prefix + file.path, _FLAGS)
        except OSError:
            return False
        try:
            content = os.read(descriptor, file.size + 1)
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if len(content) != file.size or not _as_selected(found, file):
            return False
        self._add_content(file.path, file.mode, content)
        return True

    def _add_slowly(self, file: File) -> Iterator[bytes]:
        if file.path in self._leave_out:
            self._warn(file.path, "kept changing while it was packed: left out")
        elif file.target is not None:
            self._add_link(file.path, file.target)
        else:
            yield from self._add_opened(file)

    def _add_opened(self, file: File) -> Iterator[bytes]:
        try:
            descriptor = os.open(file.source or self._prefix + file.path, _FLAGS)
            stream = os.fdopen(descriptor, "rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError):
            self._warn(file.path, "vanished while the project was packed: left out")
        except OSError as error:
            self._unreadable[file.path] = os.strerror(error.errno or 0)
        else:
            with stream:
                yield from self._add_stream(file, stream)

    def _add_stream(self, file: File, stream: BinaryIO) -> Iterator[bytes]:
        path = file.path
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            self._warn(path, "is no regular file any more: left out")
        elif found.st_size <= WHOLE_BYTES:
            self._add_settled(file, stream)
        else:
            yield from self._add_large(file, stream, found)

    def _add_settled(self, file: File, stream: BinaryIO) -> None:
        for _ in range(_READINGS):
            before = os.fstat(stream.fileno())
            stream.seek(0)
            content = _read_up_to(stream, before.st_size)
            if _same(before, os.fstat(stream.fileno())) and len(content) == before.st_size:
                break
            time.sleep(_PAUSE_SECONDS)
        else:
            self._warn(file.path, "kept changing while it was packed: packed as last read")
        self._add_content(file.path, file.mode, content)

    def _add_content(self, path: bytes, mode: int, content: bytes) -> None:
        if self._is_secret(path, content):
            return
        digest = hashlib.sha256(content).hexdigest()
        self._record(path, mode, len(content), digest)
        header = tar.file_header(path, mode, len(content))
        self._put(header, content, tar.padding(len(content)))

    def _add_link(self, path: bytes, target: bytes) -> None:
        self.entries.append(link_entry(path_text(path), path_text(target)))
        self._put(tar.symlink_member(path, target))

    def _add_large(self, file: File, stream: BinaryIO, found: os.stat_result) -> Iterator[bytes]:
        head = _read_up_to(stream, SCANNED_BYTES)
        if not self._is_secret(file.path, head) and not self._refusing:
            yield from self._add_large_body(file, stream, head, found)

    def _add_large_body(
        self, file: File, stream: BinaryIO, head: bytes, found: os.stat_result
    ) -> Iterator[bytes]:
        path, size, hashing = file.path, found.st_size, hashlib.sha256()
        self._put(tar.file_header(path, file.mode, size))
        for piece in _exactly(path, stream, head, size):
            hashing.update(piece)
            self._put(piece)
            yield from self._flush()
        self._put(tar.padding(size))
        self._record(path, file.mode, size, hashing.hexdigest())
        if not _same(found, os.fstat(stream.fileno())):
            self._warn(path, f"changed while it was packed: packed its first {size:,} bytes")

    def _record(self, path: bytes, mode: int, size: int, digest: str) -> None:
        self.entries.append(Entry(path_text(path), mode, size, digest))

    def _put(self, *parts: bytes) -> None:
        if not self._refusing:
            self._parts += parts
            self._size += sum(map(len, parts))

    def _flush(self) -> Iterator[bytes]:
        if self._parts and not self._refusing:
            yield b"".join(self._parts)
        self._parts, self._size = [], 0

    @property
    def _refusing(self) -> bool:
        return bool(self._secrets or self._unreadable)

    def _is_secret(self, path: bytes, content: bytes) -> bool:
        what = find_secret(path, content)
        if what is None or path in self._selection.allowed:
            return False
        self._secrets.append(f"{show(path)}: {what}")
        return True

    def _warn(self, path: bytes, what: str) -> None:
        self.warnings.append(f"{show(path)} {what}.")

    def _refuse(self) -> None:
        if self._secrets:
            raise SecretsFound(
                f"{len(self._secrets)} files hold credentials:{listing(self._secrets)}",
                hint="Exclude them in .gitignore or .ferryignore, or pass each one on purpose "
                "with --allow-secret PATH.",
            )
        if self._unreadable:
            raise unreadable(self._unreadable)


def _exactly(path: bytes, stream: BinaryIO, first: bytes, size: int) -> Iterator[bytes]:
    """``first`` and what follows it, ``size`` bytes in all; PackAgain if there are fewer."""
    piece = first
    while piece:
        yield piece
        size -= len(piece)
        try:
            piece = stream.read(min(size, BATCH_BYTES))
        except OSError as error:
            raise PackAgain(path) from error
    if size:
        raise PackAgain(path)


def _read_up_to(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer only at the end: one read may give less than it was asked for."""
    parts: list[bytes] = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _as_selected(found: os.stat_result, file: File) -> bool:
    unchanged = (found.st_size, found.st_mtime_ns) == (file.size, file.mtime_ns)
    return unchanged and stat.S_ISREG(found.st_mode)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


Item = TypeVar("Item")


def read_ahead(items: Iterator[Item], depth: int = 3) -> Generator[Item, None, None]:
    """The same items in the same order, up to ``depth`` of them produced beforehand.

    An error of the iterator is raised where its item would have come. Closing the
    generator waits for the item being produced and leaves no thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        pending: deque[Future[Item | None]] = deque()
        try:
            for _ in range(depth):
                pending.append(thread.submit(next, items, None))
            while (item := pending.popleft().result()) is not None:
                pending.append(thread.submit(next, items, None))
                yield item
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
