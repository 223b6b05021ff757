"""Archives for the tests: ours with manifest and footer, foreign ones, hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codeferry_contracts import archive
from codeferry_contracts.archive import Entry


@dataclass(frozen=True)
class Link:
    """A symlink to make in a tree."""

    target: str


Content = bytes | Link | tuple[bytes, int]  # a file, a link, a file with its mode
Tree = Mapping[str, Content]

SMALL: Tree = {
    "train.py": (b"print('hello')\n", 0o755),
    "pkg/__init__.py": b"",
    "pkg/deep/er/model.py": b"x = 1\n" * 1000,
    "latest": Link("pkg/deep"),
}


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A tar member and its bytes; ``fields`` override the header's."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in fields.items():
        setattr(header, field, value)
    return header, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed tar, with its end marker."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, errors="surrogateescape") as out:
        for header, content in members:
            out.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def hostile(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A foreign tar.gz with these members."""
    return gzip.compress(tar(members, kind), 1)


def entry(path: str, content: Content) -> Entry:
    if isinstance(content, Link):
        return archive.link_entry(path, content.target)
    body, mode = content if isinstance(content, tuple) else (content, 0o644)
    return Entry(path, mode, len(body), hashlib.sha256(body).hexdigest())


def entries(tree: Tree) -> list[Entry]:
    return [entry(path, content) for path, content in tree.items()]


def tree_members(tree: Tree) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [_tree_member(path, content) for path, content in tree.items()]


def _tree_member(path: str, content: Content) -> tuple[tarfile.TarInfo, bytes]:
    if isinstance(content, Link):
        return link(path, content.target)
    body, mode = content if isinstance(content, tuple) else (content, 0o644)
    return member(path, body, mode=mode)


def pack(tree: Tree, *, listed: Tree | None = None, project: str = "demo") -> bytes:
    """An archive as the packer writes it; ``listed`` is what its manifest claims instead."""
    claimed = entries(tree if listed is None else listed)
    summary = archive.summarise(project, claimed)
    meta = tar(
        [
            member(archive.MANIFEST_PATH, b"".join(archive.manifest_lines(summary, claimed))),
            member(archive.SUMS_PATH, b"".join(archive.sha256sums_lines(claimed))),
        ]
    )
    files = gzip.compress(_headless(tree), 1)
    return files + gzip.compress(meta, 1) + archive.footer(len(files))


def _headless(tree: Tree) -> bytes:
    """The files' members without the end marker: the manifest's follow in the same stream."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape") as out:
        for header, content in tree_members(tree):
            out.addfile(header, io.BytesIO(content))
        end = out.offset
    return buffer.getvalue()[:end]
