"""Unpack an archive, a gzipped tar read forwards once, into a tree that nothing leads out of."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

from codeferry_agent.run.errors import invalid, reached, refused, shown, too_large
from codeferry_agent.run.files import CHUNK, Owner, give, opened
from codeferry_agent.run.payload import META
from codeferry_agent.run.release.manifest import Entry, link_entry

MANIFEST, SUMS = b".codeferry/manifest.json", b".codeferry/SHA256SUMS"
META_MEMBERS = {(META, "directory"), (MANIFEST, "file"), (SUMS, "file")}
MAX_MANIFEST = 256 << 20
HEADERS = 64 << 10  # of one member, and its lines in the manifest, with the longest of names
MAX_PATH, MAX_COMPONENT = 4095, 255  # path_resolution(7)
MAX_HOPS = 40  # path_resolution(7): the kernel follows no more links


class GzipStream:
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


def members(stream: GzipStream) -> Iterator[Member]:
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


def leads_out(path: bytes, links: Mapping[bytes, bytes], deepest: int) -> bool:
    """Whether following the link at ``path``, through all others, ever climbs above the root.

    A loop is no way out: the kernel follows no more than MAX_HOPS links either. No link lies
    below more than ``deepest`` directories.
    """
    pending, at, hops = path.split(b"/")[::-1], list[bytes](), 0
    while pending and hops <= MAX_HOPS:
        part = pending.pop()
        if part == b"..":
            if not at:
                return True
            at.pop()
        elif part not in (b"", b"."):
            at.append(part)
            # Joining longer paths would be quadratic.
            link = b"/".join(at) if len(at) <= deepest + 1 else b""
            if link in links:
                hops += 1
                at.pop()
                pending.extend(links[link].split(b"/")[::-1])
    return False


class TreeWriter:
    """Writes members into an empty directory that nobody else can enter.

    Each name is claimed first, and symlinks are made last: nothing is written through one.
    ``most`` are the files, links and directories there may be, ``room`` the bytes of files.
    """

    def __init__(self, root: int, owner: Owner, most: int, room: int) -> None:
        self.root, self.owner, self.most, self.room = root, owner, most, room
        self.stripped = list[bytes]()  # what lost setuid, setgid or sticky
        self.entries: dict[bytes, Entry] = {}
        self.kinds, self.implied = {b"": "directory"}, {b""}
        self.links: dict[bytes, bytes] = {}

    def add(self, member: Member, stream: GzipStream) -> None:
        path, kind = member.path, member.kind
        if path.split(b"/", 1)[0] == META and (path, kind) not in META_MEMBERS:
            raise refused(f"holds {shown(path)}, a name of Codeferry's own")
        self.claim(path, kind)
        if member.mode & 0o7000:
            self.stripped.append(path or b".")
            member = member._replace(mode=member.mode & 0o777)
        if kind == "file":
            self.add_file(member, stream)
        elif kind == "hardlink":
            self.add_hardlink(path, member.target)
        elif kind == "symlink":
            self.add_symlink(path, member.target)
        elif path:
            # Whatever it says, the owner must be able to enter and to remove it.
            os.chmod(path, member.mode | 0o700, dir_fd=self.root)

    def claim(self, path: bytes, kind: str) -> None:
        """Take the path, and make the directories on the way to it."""
        if path in self.kinds:
            if kind != "directory" or path not in self.implied:
                raise refused(f"holds {shown(path)} twice")
            self.implied.discard(path)
            return
        parent, absent = path.rpartition(b"/")[0], list[bytes]()
        while parent not in self.kinds:
            absent.append(parent)
            parent = parent.rpartition(b"/")[0]
        if self.kinds[parent] != "directory":
            raise refused(f"holds {shown(path)} below a {self.kinds[parent]}")
        self.implied.update(absent)
        for directory in absent[::-1]:
            self.make(directory, "directory")
        self.make(path, kind)

    def make(self, path: bytes, kind: str) -> None:
        if len(self.kinds) > self.most:  # the root is one of them
            raise too_large(f"holds more than the {self.most:,} files and directories it may")
        self.kinds[path] = kind
        if kind == "directory":
            os.mkdir(path, 0o755, dir_fd=self.root)
            give(self.owner, self.root, path)

    def add_file(self, member: Member, stream: GzipStream) -> None:
        meta = (member.path, "file") in META_MEMBERS
        if not meta:
            self.room -= member.size
        if self.room < 0 or (meta and member.size > MAX_MANIFEST):
            raise too_large(f"unpacks to more bytes than it may, with {shown(member.path)}")
        flags, digest = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, hashlib.sha256()
        with open(os.open(member.path, flags, 0o600, dir_fd=self.root), "wb") as file:  # noqa: PTH123
            for chunk in stream.content(member.size):
                digest.update(chunk)
                file.write(chunk)
            if self.owner:
                os.fchown(file.fileno(), *self.owner)
            os.fchmod(file.fileno(), member.mode)
        if not meta:
            self.entries[member.path] = Entry(member.mode, member.size, digest.hexdigest())

    def add_hardlink(self, path: bytes, source: bytes) -> None:
        if self.kinds.get(source) not in ("file", "hardlink") or source not in self.entries:
            raise refused(f"links {shown(path)} to {shown(source)}, no earlier file of it")
        os.link(source, path, src_dir_fd=self.root, dst_dir_fd=self.root, follow_symlinks=False)
        self.entries[path] = self.entries[source]

    def add_symlink(self, path: bytes, target: bytes) -> None:
        if not target or target[:1] == b"/" or b"\0" in target or len(target) > MAX_PATH:
            raise refused(f"holds the link {shown(path)} to {shown(target)}")
        self.links[path] = target

    def finish(self) -> None:
        """Make the symlinks, once each of them is known to stay inside."""
        deepest = max((path.count(b"/") for path in self.links), default=0)
        for path, target in self.links.items():
            if leads_out(path, self.links, deepest):
                raise refused(f"holds the link {shown(path)}, which leads out to {shown(target)}")
        for path, target in self.links.items():
            os.symlink(target, path, dir_fd=self.root)
            give(self.owner, self.root, path)
            self.entries[path] = link_entry(target)


def extract(archive: Path, tree: Path, owner: Owner, payload: SimpleNamespace) -> TreeWriter:
    """Unpack into the empty directory ``tree`` what the payload has announced."""
    most, room = payload.unpacked_files, payload.unpacked_bytes
    with archive.open("rb") as file, opened(tree) as root:
        stream = GzipStream(file, room + HEADERS * most + 2 * MAX_MANIFEST)
        writer = TreeWriter(root, owner, most, room)
        for member in members(stream):
            writer.add(member, stream)
            reached("extracting")
        writer.finish()
    return writer
