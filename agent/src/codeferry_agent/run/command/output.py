"""Output of programs: taken at once, passed on as its reader takes it, its end kept.

The SSM agent reads about half a megabyte a second (byte by byte, into two files). A program that
had to wait for that would run as slowly and lose its timeout to it."""

from __future__ import annotations

import os
import select
import tempfile
import time
from pathlib import Path

OUTPUT_LIMIT = 64 << 20  # bytes passed on at most, and so waiting at most
IN_MEMORY = 1 << 20  # of those waiting
DISK_FLOOR = 256 << 20  # free on the disk of those waiting, or they do not go there
KEPT = 64 << 10  # of what is left out, the last
PIPE_ROOM = 4096  # poll promises as much
STALLED = 10.0  # seconds without a byte taken by the reader of our output
FINISH_SECONDS = (
    25.0  # seconds for what waits at the end; Run Command ends the step 60 s after a timeout
)


class Spool:
    """Bytes first in, first out, in a file of our own (0600) that has no name and goes with us.

    ``add`` says how many it has taken: fewer where the disk has no room to spare.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = -1
        self.start = self.end = 0

    def __len__(self) -> int:
        return self.end - self.start

    def add(self, chunk: bytes) -> int:
        try:
            if self.file < 0:
                with tempfile.TemporaryFile(dir=self.directory, buffering=0) as made:
                    self.file = os.dup(made.fileno())
            disk = os.fstatvfs(self.file)
            if disk.f_bavail * disk.f_frsize < DISK_FLOOR:
                return 0
            taken = os.pwrite(self.file, chunk, self.end)
        except OSError:
            return 0
        self.end += taken
        return taken

    def take(self, most: int) -> bytes:
        """The first of them; an empty spool takes no room."""
        found = os.pread(self.file, min(most, len(self)), self.start)
        self.start += len(found)
        if not self:
            os.ftruncate(self.file, 0)
            self.start = self.end = 0
        return found

    def close(self) -> None:
        self.start = self.end = 0
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


class Output:
    """What programs print: what ``descriptor`` does not take yet waits, up to a limit, first in
    memory and then in a spool in ``directory``; beyond it the middle is left out."""

    def __init__(self, descriptor: int, directory: Path, limit: int = OUTPUT_LIMIT) -> None:
        self.descriptor, self.room = descriptor, limit
        self.bytes = self.left_out = 0
        self.waiting, self.last = bytearray(), bytearray()
        self.spool = Spool(directory)
        self.gone = False  # its reader

    def take(self, chunk: bytes) -> None:
        """Whatever becomes of it, at once."""
        self.bytes += len(chunk)
        self.last += chunk
        del self.last[:-KEPT]
        fits = chunk[: self.room]
        if not self.spool and len(self.waiting) < IN_MEMORY:
            self.waiting += fits
            taken = len(fits)
        else:
            taken = self.spool.add(fits)
        self.left_out += len(chunk) - taken
        # Nothing may follow what is left out but the end.
        self.room = self.room - taken if taken == len(chunk) else 0

    def pass_on(self) -> None:
        """Write what surely does not block."""
        try:
            del self.waiting[: os.write(self.descriptor, self.waiting[:PIPE_ROOM])]
        except BrokenPipeError:
            self.lose_reader()
        except OSError:  # its disk is full
            self.give_up()
        if not self.waiting and self.spool:
            self.waiting += self.spool.take(IN_MEMORY)

    def lose_reader(self) -> None:
        self.gone = True
        self.give_up()

    def give_up(self) -> None:
        self.waiting.clear()
        self.spool.close()
        self.room = self.left_out = 0

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Pass on what waits, for as long as that may take, and then the end of what does not."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        while self.waiting and time.monotonic() < end and poll.poll(STALLED * 1000):
            self.pass_on()
        self.left_out += len(self.waiting) + len(self.spool)
        self.waiting.clear()
        self.spool.close()
        if self.left_out:
            last = self.last[-self.left_out :]
            omitted = self.left_out - len(last)
            note = f"\n[codeferry: {omitted:,} bytes are left out here]\n" if omitted else ""
            self.waiting += note.encode() + last
            while self.waiting and poll.poll(STALLED * 1000):
                self.pass_on()

    def tail(self) -> str:
        return self.last.decode("utf-8", "replace")
