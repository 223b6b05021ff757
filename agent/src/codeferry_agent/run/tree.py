"""An archive becomes a directory tree, in which nothing leads or was written outside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from codeferry_agent.run.disk import opened
from codeferry_agent.run.entries import Entry, link_entry
from codeferry_agent.run.failures import reached, refused, shown, too_large
from codeferry_agent.run.limits import (
    HEADERS,
    MANIFEST,
    MAX_HOPS,
    MAX_MANIFEST,
    MAX_PATH,
    META,
    SUMS,
)
from codeferry_agent.run.owner import Owner, give
from codeferry_agent.run.tar import Member, Unpacked, members


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


class Tree:
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

    def add(self, member: Member, stream: Unpacked) -> None:
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

    def add_file(self, member: Member, stream: Unpacked) -> None:
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


META_MEMBERS = {(META, "directory"), (MANIFEST, "file"), (SUMS, "file")}


def extract(archive: Path, tree: Path, owner: Owner, payload: SimpleNamespace) -> Tree:
    """Unpack into the empty directory ``tree`` what the payload has announced."""
    most, room = payload.unpacked_files, payload.unpacked_bytes
    with archive.open("rb") as file, opened(tree) as root:
        stream = Unpacked(file, room + HEADERS * most + 2 * MAX_MANIFEST)
        writer = Tree(root, owner, most, room)
        for member in members(stream):
            writer.add(member, stream)
            reached("extracting")
        writer.finish()
    return writer
