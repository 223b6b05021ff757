"""How an archive's manifest is found without reading the archive.

An archive is a gzip file of several members: the files; the manifest and checksums;
and an empty member whose extra field tells where the second begins. Every tar reads
the three as one stream, and a ranged GET of the tail is enough for the manifest. The
idea is eStargz's footer (github.com/containerd/stargz-snapshotter, docs/estargz.md).
"""

from __future__ import annotations

import io
import struct
import tarfile
import zlib

from codeferry_contracts.errors import ArchiveInvalid
from codeferry_contracts.manifest import MANIFEST_PATH, Manifest, parse_manifest

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
