"""An archive becomes a directory tree, in which nothing leads or was written outside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from codeferry_agent.run.disk import opened
from codeferry_agent.run.entries import Entry, link_entry
from codeferry_agent.run.failures import reached, refused, shown
from codeferry_agent.run.limits import (
    BYTES_PER_MEMBER,
    MANIFEST,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_HOPS,
    MAX_MEMBERS,
    MAX_PATH,
    MAX_RATIO,
    MEMBERS_FROM,
    META,
    RATIO_FROM,
    SUMS,
)
from codeferry_agent.run.owner import Owner, give
from codeferry_agent.run.tar import Member, Unpacked, members


def leads_out(path: bytes, links: Mapping[bytes, bytes]) -> bool:
    """Whether following the link at ``path``, through all others, ever climbs above the root.

    A loop is no way out: the kernel follows no more than MAX_HOPS links either.
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
            # Nothing of the archive is deeper; joining longer paths would be quadratic.
            link = b"/".join(at) if len(at) <= MAX_DEPTH else b""
            if link in links:
                hops += 1
                at.pop()
                pending.extend(links[link].split(b"/")[::-1])
    return False


class Tree:
    """Writes members into an empty directory that nobody else can enter.

    Each name is claimed first, and symlinks are made last: nothing is written through one.
    """

    def __init__(self, root: int, owner: Owner) -> None:
        self.root, self.owner = root, owner
        self.entries: dict[bytes, Entry] = {}
        self.kinds, self.implied = {b"": "directory"}, {b""}
        self.links: dict[bytes, bytes] = {}

    def add(self, member: Member, stream: Unpacked) -> None:
        path, kind = member.path, member.kind
        if path.split(b"/", 1)[0] == META and (path, kind) not in META_MEMBERS:
            raise refused(f"holds {shown(path)}, a name of Codeferry's own")
        self.claim(path, kind)
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
        parent = path.rpartition(b"/")[0]
        if parent not in self.kinds:
            self.claim(parent, "directory")
            self.implied.add(parent)
        if self.kinds[parent] != "directory":
            raise refused(f"holds {shown(path)} below a {self.kinds[parent]}")
        self.kinds[path] = kind
        if kind == "directory":
            os.mkdir(path, 0o755, dir_fd=self.root)
            give(self.owner, self.root, path)

    def add_file(self, member: Member, stream: Unpacked) -> None:
        flags, digest = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, hashlib.sha256()
        with open(os.open(member.path, flags, 0o600, dir_fd=self.root), "wb") as file:  # noqa: PTH123
            for chunk in stream.content(member.size):
                digest.update(chunk)
                file.write(chunk)
            if self.owner:
                os.fchown(file.fileno(), *self.owner)
            os.fchmod(file.fileno(), member.mode)
        if (member.path, "file") not in META_MEMBERS:
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
        for path, target in self.links.items():
            if leads_out(path, self.links):
                raise refused(f"holds the link {shown(path)}, which leads out to {shown(target)}")
        for path, target in self.links.items():
            os.symlink(target, path, dir_fd=self.root)
            give(self.owner, self.root, path)
            self.entries[path] = link_entry(target)


META_MEMBERS = {(META, "directory"), (MANIFEST, "file"), (SUMS, "file")}


def extract(archive: Path, tree: Path, owner: Owner) -> dict[bytes, Entry]:
    """Unpack into the empty directory ``tree``; its files and links by path."""
    size = archive.stat().st_size
    most = min(MAX_MEMBERS, max(MEMBERS_FROM, size // BYTES_PER_MEMBER))
    with archive.open("rb") as file, opened(tree) as root:
        stream = Unpacked(file, min(MAX_BYTES, max(RATIO_FROM, MAX_RATIO * size)))
        writer = Tree(root, owner)
        for count, member in enumerate(members(stream)):
            if count >= most:
                raise refused(f"holds more than {most:,} members")
            writer.add(member, stream)
            reached("extracting")
        writer.finish()
    return writer.entries
