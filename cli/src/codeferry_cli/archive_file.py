"""The archive as a local file: there whole, or not there."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codeferry_cli.archive import Packed, Prepared, pack_into
from codeferry_cli.errors import OutputRefused


def write_file(prepared: Prepared, path: Path) -> Packed:
    """Write the archive to ``path`` through a temporary file beside it.

    What was at ``path`` stays until the new archive is complete and on disk; the new one has
    its mode. A link is followed: it was named. Raises OutputRefused for what is no file.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    mode = _mode_for(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            packed, _ = pack_into(prepared, lambda chunks: _fill(file.fileno(), chunks))
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return packed


def write_stdout(prepared: Prepared) -> Packed:
    """Write the archive to stdout, unless that is a terminal. Raises OutputRefused.

    Bytes that went down a pipe cannot be taken back, so the whole is packed once before.
    """
    if sys.stdout.isatty():
        raise OutputRefused(
            "An archive is not written to a terminal.",
            hint="Redirect it (ferry pack -o - > FILE), or name a file with -o.",
        )
    with tempfile.TemporaryFile() as file:
        packed, _ = pack_into(prepared, lambda chunks: _fill(file.fileno(), chunks))
        file.seek(0)
        while chunk := file.read(1 << 20):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return packed


def _fill(descriptor: int, chunks: Iterator[bytes]) -> None:
    """From its beginning: packing may have begun again."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "wb", closefd=False) as file:
        file.writelines(chunks)


def _mode_for(path: Path) -> int:
    """That of the file that will be replaced, or that of a new one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return 0o666 & ~_umask()
    if not stat.S_ISREG(mode):
        raise OutputRefused(
            f"{path} is no file, and nothing else is replaced.",
            hint="Name a file with -o; -o - is stdout.",
        )
    return mode & 0o777


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
