"""Watches one process group: its output, its timeout, its interrupt, its end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from codeferry_local.ssm.executors import Ending, Interrupt, Reason

_CHUNK = 64 * 1024
_POLL = 0.02
# After KILL, a process that left the group may still hold the pipes; it gets no more than this.
_AFTER_KILL = 1.0
_ENDINGS = {Reason.CANCEL: Ending.CANCELLED, Reason.LOST: Ending.LOST, Reason.STOP: Ending.LOST}

Sink = Callable[[bytes], None]


class Watch:
    """Reads a process's pipes until it and its group are done, or stops them.

    ``timeout`` and ``grace`` (between TERM and KILL) are real seconds. Like the
    agent, it waits for the end of the pipes, so a background child that keeps them
    keeps the step running.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sinks: Mapping[IO[bytes], Sink],
        *,
        timeout: float,
        grace: float,
        interrupt: Interrupt,
    ) -> None:
        self._process = process
        self._open = dict(sinks)
        self._grace = grace
        self._interrupt = interrupt
        self._deadline = time.monotonic() + timeout
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._ending = Ending.EXITED

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
            for key, _ in selector.select(self._pause()):
                if key.fd == waker:
                    os.read(waker, _CHUNK)
                else:
                    self._drain(selector, key.fileobj)
            self._enforce()
            if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                return

    def _pause(self) -> float:
        if not self._open:
            return _POLL
        ahead = self._give_up_at or self._kill_at or self._deadline
        return max(0.0, min(ahead - time.monotonic(), 60.0))

    def _drain(self, selector: selectors.BaseSelector, pipe: Any) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if chunk:
            self._open[pipe](chunk)
            return
        selector.unregister(pipe)
        del self._open[pipe]

    def _enforce(self) -> None:
        now = time.monotonic()
        reason = self._interrupt.reason
        if reason in (Reason.LOST, Reason.STOP) and self._give_up_at is None:
            self._ending = _ENDINGS[reason]
            self._kill(now)
        elif self._kill_at is None and (reason is not None or now >= self._deadline):
            self._ending = _ENDINGS[reason] if reason else Ending.TIMED_OUT
            self._kill_at = now + self._grace
            self._signal(signal.SIGTERM)
        elif self._kill_at is not None and now >= self._kill_at and self._give_up_at is None:
            self._kill(now)

    def _kill(self, now: float) -> None:
        self._kill_at = now
        self._give_up_at = now + _AFTER_KILL
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _reap(self) -> None:
        if self._process.poll() is None or self._ending is not Ending.EXITED:
            self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _poke(waker: int) -> None:
    try:
        os.write(waker, b"!")
    except BlockingIOError:
        return
