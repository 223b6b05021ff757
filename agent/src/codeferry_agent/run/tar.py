"""The members of a gzipped tar, read forwards once and believed nothing."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from codeferry_agent.run.failures import invalid, refused, shown, too_large
from codeferry_agent.run.limits import CHUNK, MAX_COMPONENT, MAX_PATH


class Unpacked:
    """What is in a gzip file of one or more members, as tarfile reads it: forwards only."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.gzip, self.limit, self.at = gzip.GzipFile(fileobj=file), limit, 0
        self.last = b""

    def tell(self) -> int:
        return self.at

    def seek(self, position: int) -> None:
        if not 0 <= position - self.at < 512:
            raise invalid("has a damaged header")
        self.read(position - self.at)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        if size > CHUNK:
            raise refused("has a header that is far too long")
        try:
            self.last = self.gzip.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise invalid("is cut short, damaged, or followed by something else") from None
        self.at += len(self.last)
        if self.at > self.limit:
            raise too_large("has more and longer headers than it may")
        return self.last

    def content(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.read(min(size, CHUNK))
            if not chunk:
                raise invalid("ends in the middle of a file")
            size -= len(chunk)
            yield chunk


class Member(NamedTuple):
    path: bytes
    kind: str
    mode: int
    size: int
    target: bytes


KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def members(stream: Unpacked) -> Iterator[Member]:
    """The members in order; the caller reads each file's content before the next."""
    try:
        file: Any = stream
        tar: Any = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
        for header in iter(tar.next, None):
            tar.members.clear()  # or it remembers them all
            yield parse_member(header)
    except (tarfile.TarError, RecursionError, UnicodeError, ValueError):
        raise invalid("has a damaged header" if stream.at > 512 else "is no tar") from None
    # tarfile takes a damaged header for the end.
    if stream.last != bytes(512):
        raise invalid("has a damaged header or no end")
    if any(rest.strip(b"\0") for rest in iter(lambda: stream.read(CHUNK), b"")):
        raise invalid("has more data behind its end")


def parse_member(header: tarfile.TarInfo) -> Member:
    raw = header.name.encode("utf-8", "surrogateescape")
    target = header.linkname.encode("utf-8", "surrogateescape")
    kind = KINDS.get(header.type)
    if header.issparse() or header.type == tarfile.GNUTYPE_SPARSE:
        raise refused(f"holds {shown(raw)} as a sparse file (make it without tar --sparse)")
    if kind is None:  # devices, FIFOs, whatever comes
        raise refused(f"holds {shown(raw)}, which is no plain file, directory or link")
    if header.size < 0 or (header.size and kind != "file"):
        raise refused(f"holds {shown(raw)} with a size that cannot be")
    if kind == "hardlink":
        target = clean_path(target)
    path = clean_path(raw, kind == "directory")
    return Member(path, kind, header.mode & 0o7777, header.size, target)


def clean_path(raw: bytes, directory: bool = False) -> bytes:
    """A path without leading "./"; empty is the root itself."""
    path = raw
    while path.startswith(b"./"):
        path = path[2:]
    if directory and raw and path in (b"", b"."):
        return b""
    parts = path.split(b"/")
    if {b"", b".", b".."} & set(parts) or b"\0" in path:
        raise refused(f"holds the path {shown(raw)}")
    if len(path) > MAX_PATH or max(map(len, parts)) > MAX_COMPONENT:
        raise refused(f"holds a path that is too long for Linux, {shown(raw)}")
    return path
