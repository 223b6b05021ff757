"""Pack a project: select its files, and hand the archive to an upload, a file or stdout."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from codeferry_cli.errors import OutputRefused
from codeferry_cli.options.groups import Packing
from codeferry_cli.packing import Pack, Selection, find_root, select, send
from codeferry_cli.packing.errors import path_text
from codeferry_contracts.archive import Entry, Summary
from codeferry_contracts.names import project_name

Taken = TypeVar("Taken")
# Takes the archive's bytes; it is called anew when a file changed and packing starts over.
Sink = Callable[[Iterator[bytes]], Taken]
# Hears how many bytes the archive has so far, and how many bytes of files are in them.
OnBytes = Callable[[int, int], None]
# Hears the archive's hex SHA-256 and what is in it, when ``sink`` has all bytes and does not know.
BeforeEnd = Callable[[str, Summary], None]


@dataclass(frozen=True)
class Prepared:
    """A project whose files are selected and not yet read."""

    project: str
    selection: Selection

    def without(self, path: Path) -> Prepared:
        """The same less one file: the archive being written must not hold itself."""
        root = self.selection.root
        kept = tuple(f for f in self.selection.files if root / path_text(f.path) != path)
        return Prepared(self.project, dataclasses.replace(self.selection, files=kept))


@dataclass(frozen=True)
class Packed:
    """An archive that was made; ``size`` in bytes, ``sha256`` of the archive itself."""

    summary: Summary
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]
    size: int
    sha256: str


def prepare(directory: Path | None, packing: Packing) -> Prepared:
    """Find the root and select its files. Raises what ``packing.select`` raises."""
    root = find_root(directory, packing.root)
    selection = select(root, packing.include, packing.allow_secrets)
    return Prepared(packing.project or project_name(root.name), selection)


def pack_into(
    prepared: Prepared,
    sink: Sink[Taken],
    tell: OnBytes = lambda archive, files: None,
    before_end: BeforeEnd | None = None,
) -> tuple[Packed, Taken]:
    """Pack, and hand the bytes to ``sink`` as they come. Raises what ``packing.send`` raises."""

    def counted(pack: Pack) -> tuple[_Counted, Taken]:
        chunks = _Counted(pack, tell)

        def whole() -> Iterator[bytes]:
            yield from chunks
            if before_end:
                before_end(chunks.digest.hexdigest(), pack.summary)

        return chunks, sink(whole())

    (chunks, taken), pack = send(prepared.selection, prepared.project, counted)
    packed = Packed(
        summary=pack.summary,
        entries=tuple(pack.entries),
        warnings=tuple(dict.fromkeys(pack.warnings)),
        size=chunks.size,
        sha256=chunks.digest.hexdigest(),
    )
    return packed, taken


def measure(prepared: Prepared) -> Packed:
    """What an archive would be, made and thrown away."""
    return pack_into(prepared, _discard)[0]


class _Counted:
    """An archive's bytes passing through, counted and hashed."""

    def __init__(self, pack: Pack, tell: OnBytes) -> None:
        self._pack = pack
        self._tell = tell
        self._entries_seen = 0
        self._file_bytes = 0
        self.size = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._pack:
            self.size += len(chunk)
            self.digest.update(chunk)
            self._tell(self.size, self._packed_so_far())
            yield chunk

    def _packed_so_far(self) -> int:
        fresh = self._pack.entries[self._entries_seen :]
        self._entries_seen += len(fresh)
        self._file_bytes += sum(entry.size for entry in fresh)
        return self._file_bytes


def _discard(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


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
