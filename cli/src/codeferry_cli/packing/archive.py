"""A project as one stream of gzip bytes, made while it is sent."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TypeVar

from isal import isal_zlib

from codeferry_cli.packing import tar
from codeferry_cli.packing.errors import NoFiles, PackAgain, PathsImpossible
from codeferry_cli.packing.reader import TreeReader, read_ahead
from codeferry_cli.packing.selection import Selection
from codeferry_contracts.archive import (
    MANIFEST_PATH,
    SUMS_PATH,
    Entry,
    Summary,
    footer,
    manifest_lines,
    sha256sums_lines,
    summarise,
)

# ISA-L's tightest. Measured: levels 1 and 2 compress twice as fast, but reading, hashing
# and scanning in the other thread take longer than even this one, and on source it gives
# 5 % less to upload. zlib's 6 is eight times slower for another 10 %.
_LEVEL = 3
_GZIP = 16 + zlib.MAX_WBITS
_TRIES = 3
_MOST_METADATA = 256 << 20  # bytes of the manifest that codeferry_agent.run reads
_LINES = 5000  # of the manifest at a time, about half a MiB

Result = TypeVar("Result")


class Pack:
    """Iterate once for the archive's bytes; afterwards it says what they hold.

    The archive is that of ``codeferry_contracts.archive``: the files in the order of their
    paths' bytes, directories implied; the manifest and checksums; the footer. Iterating
    raises SecretsFound, FilesUnreadable, NoFiles, PathsImpossible or PackAgain; the bytes
    given out before are then worthless.
    """

    def __init__(
        self, selection: Selection, project: str, *, leave_out: frozenset[bytes] = frozenset()
    ) -> None:
        self._reader = TreeReader(selection, leave_out)
        self._project = project
        self._summary: Summary | None = None
        self._early_warnings = selection.warnings

    @property
    def summary(self) -> Summary:
        """The tree in a few numbers; only once the archive is complete."""
        if self._summary is None:
            raise RuntimeError("the archive is not complete yet")
        return self._summary

    @property
    def entries(self) -> Sequence[Entry]:
        """What is packed so far, in the archive's order."""
        return self._reader.entries

    @property
    def warnings(self) -> tuple[str, ...]:
        """The selection's warnings and those of packing so far."""
        return (*self._early_warnings, *self._reader.warnings)

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        with closing(read_ahead(self._reader.batches())) as batches:
            for data in _compressed(batches):
                sent += len(data)
                yield data
        if not self.entries:
            raise NoFiles("No files to sync: every selected file vanished.")
        self._summary = summarise(self._project, self.entries)
        yield from _compressed(self._metadata())
        yield footer(sent)

    def _metadata(self) -> Iterator[bytes]:
        # Line by line and twice, to count and to write: of 100,000 files each document is
        # many MiB, and upload buffers want that memory at the same time.
        yield from _member(MANIFEST_PATH, lambda: manifest_lines(self.summary, self.entries))
        yield from _member(SUMS_PATH, lambda: sha256sums_lines(self.entries))
        yield tar.END


def pack(selection: Selection, project: str, *, leave_out: frozenset[bytes] = frozenset()) -> Pack:
    """The archive of ``selection`` under the name ``project``, to be iterated once."""
    return Pack(selection, project, leave_out=leave_out)


def send(
    selection: Selection, project: str, sink: Callable[[Pack], Result], *, tries: int = _TRIES
) -> tuple[Result, Pack]:
    """Pack into ``sink`` and give its answer with the finished pack.

    When a large file becomes shorter under the reader the whole is packed again; a file
    that does so ``tries`` times is left out with a warning.
    """
    trouble: Counter[bytes] = Counter()
    while True:
        leave_out = frozenset(path for path, times in trouble.items() if times >= tries)
        archive = pack(selection, project, leave_out=leave_out)
        try:
            return sink(archive), archive
        except PackAgain as again:
            trouble[again.path] += 1


def _compressed(batches: Iterator[bytes]) -> Iterator[bytes]:
    """One gzip member."""
    compressor = isal_zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for batch in batches:
        if data := compressor.compress(batch):
            yield data
    yield compressor.flush()


def _member(path: str, lines: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """A tar member of lines that come the same each time they are asked for."""
    size = sum(map(len, lines()))
    if size > _MOST_METADATA:
        raise PathsImpossible(
            f"There are too many files: {path} would have {size:,} bytes,"
            f" and an instance takes {_MOST_METADATA:,}.",
            hint="Put many small files into an archive of their own, or exclude them.",
        )
    yield tar.file_header(path.encode(), 0o644, size)
    yield from _gathered(lines())
    yield tar.padding(size)


def _gathered(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a call of the compressor."""
    remaining = iter(lines)
    while piece := b"".join(islice(remaining, _LINES)):
        yield piece
