"""The archive's format: its manifest, its checksums, and the footer that finds them.

The manifest and checksums are the last members. The digest is defined over (mode, content,
path) alone, so that the same tree is the same release whoever packed it and whichever
compressor wrote the bytes.

An archive is a gzip file of several members: the files; the manifest and checksums;
and an empty member whose extra field holds where the second begins. Every tar reads
the three as one stream, and a ranged GET of the tail is enough for the manifest. The
idea is eStargz's footer (github.com/containerd/stargz-snapshotter, docs/estargz.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codeferry_contracts.errors import ArchiveInvalid

FORMAT = 1
_COUNTS = ("files", "bytes")
META_DIRECTORY = ".codeferry"
MANIFEST_PATH = f"{META_DIRECTORY}/manifest.json"
SUMS_PATH = f"{META_DIRECTORY}/SHA256SUMS"
LINK_MODE = 0o120000


@dataclass(frozen=True, slots=True)
class Entry:
    """One packed file or symlink.

    ``path`` is relative with forward slashes; bytes that are not UTF-8 are surrogate
    escapes. ``mode`` holds the permission bits (0o777) or LINK_MODE. ``sha256`` is the
    lower-case hex digest of the content, for a link of the bytes of its target.
    """

    path: str
    mode: int
    size: int
    sha256: str
    link: str | None = None


def link_entry(path: str, target: str) -> Entry:
    """The entry of a symlink at ``path`` that points to ``target``."""
    digest = hashlib.sha256(path_bytes(target)).hexdigest()
    return Entry(path=path, mode=LINK_MODE, size=0, sha256=digest, link=target)


def path_bytes(path: str) -> bytes:
    """The path's own bytes, as the filesystem and the archive hold them."""
    return path.encode("utf-8", "surrogateescape")


def tree_digest(entries: Iterable[Entry]) -> str:
    """Hex SHA-256 over ``<mode octal> <sha256> <path>\\0`` of all entries in byte order."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: path_bytes(entry.path)):
        digest.update(f"{entry.mode:o} {entry.sha256} ".encode() + path_bytes(entry.path) + b"\0")
    return digest.hexdigest()


def release_id(digest: str) -> str:
    """The release a tree digest stands for: 80 bits of it, enough to tell releases apart."""
    return digest[:20]


@dataclass(frozen=True)
class Summary:
    """What the workflow compares: one tree in a few numbers."""

    project: str
    release_id: str
    digest: str
    files: int
    bytes: int


def summarise(project: str, entries: Sequence[Entry]) -> Summary:
    digest = tree_digest(entries)
    return Summary(
        project=project,
        release_id=release_id(digest),
        digest=digest,
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
    )


def directory_count(entries: Iterable[Entry]) -> int:
    """How many directories it takes to hold the entries, the root not counted."""
    found: set[str] = set()
    for entry in entries:
        directory = entry.path.rpartition("/")[0]
        while directory and directory not in found:
            found.add(directory)
            directory = directory.rpartition("/")[0]
    return len(found)


def manifest_lines(summary: Summary, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The manifest: ASCII JSON, one entry a line, so that a person can read and diff it.

    A line at a time: of 100,000 entries the whole is many MiB.
    """
    head = {
        "format": FORMAT,
        "project": summary.project,
        "release_id": summary.release_id,
        "digest": summary.digest,
        "files": summary.files,
        "bytes": summary.bytes,
    }
    yield f'{json.dumps(head)[:-1]},\n"entries": [\n'.encode("ascii")
    between = ""
    for entry in entries:
        yield f"{between}{_entry_json(entry)}".encode("ascii")
        between = ",\n"
    yield b"\n]}\n"


def _entry_json(entry: Entry) -> str:
    """One line of the manifest. Only names need escaping; a dict for each entry is slow."""
    begin = f'{{"path": {json.dumps(entry.path)}, "mode": "{entry.mode:o}", '
    if entry.link is not None:
        return f'{begin}"link": {json.dumps(entry.link)}}}'
    return f'{begin}"size": {entry.size}, "sha256": "{entry.sha256}"}}'


def sha256sums_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """``sha256sum -c`` input for the files (links have no content of their own).

    A name with a newline, return or backslash is escaped and its line starts with a
    backslash, as coreutils writes and reads it.
    """
    return (_sum_line(entry) for entry in entries if entry.link is None)


def _sum_line(entry: Entry) -> bytes:
    path = path_bytes(entry.path)
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != path else b""
    return mark + entry.sha256.encode() + b"  " + escaped + b"\n"


@dataclass(frozen=True)
class Manifest:
    summary: Summary
    entries: tuple[Entry, ...]


def parse_manifest(document: bytes) -> Manifest:
    """Read a manifest back; ArchiveInvalid when it is not one of this format."""
    try:
        # Each entry as soon as it is read: of a million the parsed JSON alone is a gigabyte.
        loaded = json.loads(document, object_hook=_entry_or_head)
        if loaded["format"] != FORMAT:
            raise ArchiveInvalid(f"The archive's manifest has format {loaded['format']!r}, not 1.")
        entries = tuple(loaded["entries"])
        if not all(isinstance(entry, Entry) for entry in entries):
            raise ArchiveInvalid("The archive's manifest lists what is no entry.")
        if not all(type(loaded[field]) is int and loaded[field] >= 0 for field in _COUNTS):
            raise ArchiveInvalid("The archive's manifest counts in what is no number.")
        summary = Summary(**{field: loaded[field] for field in Summary.__dataclass_fields__})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveInvalid(f"The archive's manifest cannot be read: {error!r}.") from error
    return Manifest(summary=summary, entries=entries)


def _entry_or_head(document: dict[str, Any]) -> Any:
    if "path" not in document:
        return document
    if not isinstance(document["path"], str):
        raise TypeError("a path that is no text")
    if "link" in document:
        return link_entry(document["path"], document["link"])
    return Entry(
        path=document["path"],
        mode=int(document["mode"], 8),
        size=document["size"],
        sha256=document["sha256"],
    )


_HEADER = struct.Struct("<4sL2sH2sH16s")
_MAGIC = b"\x1f\x8b\x08\x04"  # gzip, deflate, FEXTRA
_SUBFIELD = b"CF"
_EMPTY = b"\x03\x00" + bytes(8)  # an empty deflate block, CRC 0, size 0
FOOTER_SIZE = _HEADER.size + len(_EMPTY)

# What the functions that read a manifest have memory for, and what its member has at most: of
# each file two hashes, which do not compress.
MOST_FILES = 1_000_000
MANIFEST_LIMIT = 128 << 20
# Bytes of a path and of a name in it that Linux can open: path_resolution(7).
MAX_PATH, MAX_NAME = 4095, 255
# What may come out of an archive without a manifest, when its request does not say either.
UNPACKED_BYTES, UNPACKED_RATIO = 8 << 30, 200
UNPACKED_FILES = 250_000


def footer(offset: int) -> bytes:
    """The last ``FOOTER_SIZE`` bytes of an archive whose manifest member begins at ``offset``."""
    header = _HEADER.pack(_MAGIC, 0, b"\x00\xff", 20, _SUBFIELD, 16, b"%016x" % offset)
    return header + _EMPTY


def manifest_offset(tail: bytes) -> int | None:
    """Where the manifest member begins, read from an archive's end; None in a foreign one."""
    end = tail[-FOOTER_SIZE:]
    if len(end) < FOOTER_SIZE or not end.endswith(_EMPTY):
        return None
    magic, _, _, length, subfield, size, offset = _HEADER.unpack_from(end)
    if (magic, length, subfield, size) != (_MAGIC, 20, _SUBFIELD, 16):
        return None
    try:
        return int(offset, 16)
    except ValueError:
        return None


def read_manifest(member: bytes) -> Manifest:
    """The manifest from the bytes between ``manifest_offset`` and the footer.

    Raises ArchiveInvalid when they hold none.
    """
    try:
        # As a stream: the checksums behind it need not be unpacked.
        with tarfile.open(fileobj=io.BytesIO(member), mode="r|gz") as archive:
            for header in archive:
                stream = archive.extractfile(header) if header.name == MANIFEST_PATH else None
                if stream:
                    return parse_manifest(stream.read())
    except (zlib.error, tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveInvalid(f"The archive's manifest cannot be read: {error}.") from error
    raise ArchiveInvalid("The archive's footer points to no manifest.")
