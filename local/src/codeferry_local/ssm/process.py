"""Watches one process group: its output, its timeout, its interrupt, its end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from codeferry_local.ssm.executors import ENDINGS, Ending, Interrupt

_CHUNK = 64 * 1024
_POLL = 0.02

Sink = Callable[[bytes], None]


class Watch:
    """Reads a process's pipes until it and its group are done, or kills the group.

    ``timeout`` is in real seconds. As ``ExecuteCommand`` of the agent (executers.go) does, it
    waits for the end of the pipes, so that a background child that keeps them keeps the step
    running; it kills at once, and takes nothing of what comes after that.

    ``rate``: how many bytes a second it takes of each pipe; None: as fast as they come.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sinks: Mapping[IO[bytes], Sink],
        *,
        timeout: float,
        interrupt: Interrupt,
        rate: float | None = None,
    ) -> None:
        self._process = process
        self._open = dict(sinks)
        self._interrupt = interrupt
        self._deadline = time.monotonic() + timeout
        self._rate = rate
        self._resting: dict[Any, float] = {}
        self._ending = Ending.EXITED
        # Why the group could not be killed, in the words of the system.
        self.unkilled: str | None = None

    def run(self) -> Ending:
        """Block until the end; says how it came."""
        waker_read, waker_write = os.pipe()
        os.set_blocking(waker_write, False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(waker_read, selectors.EVENT_READ)
                for pipe in self._open:
                    selector.register(pipe, selectors.EVENT_READ)
                self._interrupt.listen(lambda: _poke(waker_write))
                self._loop(selector, waker_read)
        finally:
            self._interrupt.listen(None)
            os.close(waker_read)
            os.close(waker_write)
            self._reap()
        return self._ending

    def _loop(self, selector: selectors.BaseSelector, waker: int) -> None:
        while self._open or self._process.poll() is None:
            self._take_up(selector)
            for key, _ in selector.select(self._pause()):
                if key.fd == waker:
                    os.read(waker, _CHUNK)
                else:
                    self._drain(selector, key.fileobj)
            if self._stop():
                return

    def _pause(self) -> float:
        if not self._open:
            return _POLL
        ahead = min([self._deadline, *self._resting.values()])
        return max(0.0, min(ahead - time.monotonic(), 60.0))

    def _drain(self, selector: selectors.BaseSelector, pipe: Any) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            selector.unregister(pipe)
            del self._open[pipe]
            return
        self._open[pipe](chunk)
        if self._rate is not None:
            selector.unregister(pipe)
            self._resting[pipe] = time.monotonic() + len(chunk) / self._rate

    def _take_up(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for pipe in [pipe for pipe, until in self._resting.items() if until <= now]:
            del self._resting[pipe]
            selector.register(pipe, selectors.EVENT_READ)

    def _stop(self) -> bool:
        """Kill the group when it is time to; whether it was."""
        reason = self._interrupt.reason
        if reason is None and time.monotonic() < self._deadline:
            return False
        # Reaped first, as the agent's own waiting does: a zombie could still be signalled.
        if self._process.poll() is not None and not self._open:
            return True
        self._ending = ENDINGS[reason] if reason else Ending.TIMED_OUT
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError as error:
            self.unkilled = (error.strerror or str(error)).lower()
        return True

    def _reap(self) -> None:
        if self.unkilled is None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _poke(waker: int) -> None:
    try:
        os.write(waker, b"!")
    except BlockingIOError:
        return
