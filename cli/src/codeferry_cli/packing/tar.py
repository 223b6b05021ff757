"""Tar members as bytes: the few lines of the format an archive of ours needs.

Written directly because building them through tarfile takes longer than reading,
hashing and compressing a small file together. GNU format: names are raw bytes of any
length, sizes have no limit, and GNU tar, bsdtar and Python read it.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)

# 2 January 1980: one constant, so that the same tree gives the same bytes; zip files
# know no earlier day, and the 1st is still 1979 west of Greenwich.
MTIME = 315_619_200

_NAME_BYTES = 100
_OWNER = b"0000000\0" * 2  # root, as numbers; the instance gives the tree its owner
_TIME = b"%011o\0" % MTIME
_MAGIC = b"ustar  \0"  # GNU's
_TAIL = _MAGIC + bytes(BLOCK - 257 - len(_MAGIC))
_SPACES = b"        "  # the checksum's own field counts as spaces
_CONSTANT_SUM = sum(_OWNER + _TIME + _MAGIC + _SPACES)
_MOST_OCTAL = 8**11
_LONG_LINK = b"././@LongLink"
_FILE, _SYMLINK, _LONG_NAME, _LONG_TARGET = b"0", b"2", b"L", b"K"


def file_header(name: bytes, mode: int, size: int) -> bytes:
    """What precedes a regular file's content of ``size`` bytes, a multiple of ``BLOCK`` long."""
    if len(name) <= _NAME_BYTES:
        return _header(name, mode, size, _FILE)
    return _long(_LONG_NAME, name) + _header(name[:_NAME_BYTES], mode, size, _FILE)


def symlink_member(name: bytes, target: bytes) -> bytes:
    """A whole symlink member; its mode is what every Linux symlink shows."""
    long_target = _long(_LONG_TARGET, target) if len(target) > _NAME_BYTES else b""
    long_name = _long(_LONG_NAME, name) if len(name) > _NAME_BYTES else b""
    short = _header(name[:_NAME_BYTES], 0o777, 0, _SYMLINK, target[:_NAME_BYTES])
    return long_target + long_name + short


def padding(size: int) -> bytes:
    """What fills a content of ``size`` bytes up to a whole block."""
    return bytes(-size % BLOCK)


def _long(kind: bytes, text: bytes) -> bytes:
    data = text + b"\0"
    return _header(_LONG_LINK, 0o644, len(data), kind) + data + padding(len(data))


def _header(name: bytes, mode: int, size: int, kind: bytes, target: bytes = b"") -> bytes:
    mode_field = b"%07o\0" % mode
    size_field = b"%011o\0" % size if size < _MOST_OCTAL else b"\x80" + size.to_bytes(11, "big")
    variable = sum(name) + sum(mode_field) + sum(size_field) + sum(target) + kind[0]
    return b"%b%b%b%b%b%06o\0 %b%b%b" % (
        name.ljust(_NAME_BYTES, b"\0"),
        mode_field,
        _OWNER,
        size_field,
        _TIME,
        _CONSTANT_SUM + variable,
        kind,
        target.ljust(_NAME_BYTES, b"\0"),
        _TAIL,
    )
