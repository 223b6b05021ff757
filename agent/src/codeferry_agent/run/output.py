"""What a program prints: passed on, bounded, its end kept."""

from __future__ import annotations

import os
import select

OUTPUT_LIMIT = 64 << 20  # passed on; Run Command keeps it in a file
KEPT = 64 << 10  # of what is beyond, the last
PIPE_ROOM = 4096  # poll promises as much
STALLED = 10.0  # without a byte taken by the reader of our output


class Output:
    """What programs print: passed on as it comes, up to a limit, and its end kept."""

    def __init__(self, descriptor: int, limit: int = OUTPUT_LIMIT) -> None:
        self.descriptor, self.room = descriptor, limit
        self.bytes = self.left_out = 0
        self.waiting, self.last = bytearray(), bytearray()

    def take(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        self.last += chunk
        del self.last[:-KEPT]
        self.waiting += chunk[: self.room]
        self.left_out += max(0, len(chunk) - self.room)
        self.room -= min(self.room, len(chunk))

    def pass_on(self) -> None:
        """Write what surely does not block."""
        try:
            del self.waiting[: os.write(self.descriptor, self.waiting[:PIPE_ROOM])]
        except OSError:  # nobody listens any more, or their disk is full
            self.waiting.clear()
            self.room = 0

    def finish(self) -> None:
        """Write the end of what was left out, and wait until all is taken or nobody takes it."""
        if self.left_out:
            end = self.last[-self.left_out :]
            omitted = self.left_out - len(end)
            self.waiting += f"\n[codeferry: {omitted:,} bytes are left out here]\n".encode() + end
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        while self.waiting and poll.poll(STALLED * 1000):
            self.pass_on()

    def tail(self) -> str:
        return self.last.decode("utf-8", "replace")
