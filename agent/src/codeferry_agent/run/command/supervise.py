"""Run one program with everything it starts, pass its output on, and see all of it end.

Run Command may kill the process it started with SIGKILL, and a program may fork twice and leave
its session: so a supervisor in a session of its own adopts every orphan of the program (it is
their subreaper) and ends what is left. It has no children but those, and so has ended all when
it has none.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codeferry_agent.run.command.output import STALLED, Output
from codeferry_agent.run.command.processes import PAUSE, descendants, send
from codeferry_agent.run.errors import RunFailed

PIPE_CHUNK = 64 << 10
GRACE = 5.0  # seconds from TERM to KILL
SETTLE = 1.0  # for children to notice that the program has ended
UNKILLABLE = 5.0  # after KILL: what waits for a dead disk does not die


class Ended(NamedTuple):
    """How a program ended; ``reason`` is why we ended it, if we did."""

    reason: str
    exit_code: int  # -1 unless it exited
    signal: int  # 0 unless one ended it
    seconds: float
    stragglers: int  # processes that it left behind and that were then ended
    survivors: int  # processes that not even KILL has ended
    oom: bool  # the kernel ran out of memory and killed something meanwhile

    @property
    def outcome(self) -> str:
        """One of contracts' Ending."""
        if self.reason:
            return self.reason
        if self.oom and (self.signal == signal.SIGKILL or self.exit_code == 128 + signal.SIGKILL):
            return "out_of_memory"  # a shell says so of its child
        return "signalled" if self.signal else "exited"

    def exit_status(self) -> dict[str, Any]:
        """How it ended, as a result has it."""
        status = {"exit_code": self.exit_code, "signal": self.signal, "seconds": self.seconds}
        return {"ending": self.outcome, **status}

    def failure(self, seconds: int) -> RunFailed | None:
        """The failure, where it has one; ``seconds`` was its timeout."""
        if self.outcome == "exited":
            code = self.exit_code
            return RunFailed("exit_code", f"exit code {code}") if code else None
        # A real-time signal has no name.
        named = self.signal in set(signal.Signals)
        name = f" ({signal.Signals(self.signal).name})" if named else ""
        words = {
            "timed_out": f"timed out after {seconds} s",
            "out_of_memory": "out of memory",
            "signalled": f"killed by signal {self.signal}{name}",
        }
        return RunFailed(self.outcome, words.get(self.outcome, self.outcome))


class Supervision:
    """One program from its start until nothing of it is left.

    ``seconds`` is its timeout, 0 for none; ``stopped`` is asked whenever a signal comes or the
    output's reader goes, and says why the program has to end, or nothing.
    """

    def __init__(self, output: Output, *, seconds: float, stopped: Callable[[], str]) -> None:
        self.output, self.stopped = output, stopped
        self.seconds = seconds
        self.status: int | None = None  # as subprocess has it: below 0 a signal
        self.reason = ""
        self.ended_at = self.kill_at = 0.0
        self.alone = self.pipe_ended = False
        self.stragglers = 0

    def run(self, start: Callable[[], tuple[int, int]]) -> Ended:
        """Start the program and stay until the end."""
        ours, its = os.pipe()
        for end in (ours, its):
            os.set_blocking(end, False)
        before = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(its, warn_on_full_buffer=False)
        try:
            return self._run(start, ours)
        finally:
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGCHLD, before)
            os.close(ours)
            os.close(its)

    def _run(self, start: Callable[[], tuple[int, int]], signals: int) -> Ended:
        oom, self.began = oom_kills(), time.monotonic()
        self.pid, self.pipe = start()
        self.signals = signals
        try:
            while not self.over():
                self.wait()
                self.reap()
                self.enforce()
        finally:
            os.close(self.pipe)
            if not self.alone:
                send(signal.SIGKILL, descendants(os.getpid()))
        return self.ended(oom_kills() > oom)

    def over(self) -> bool:
        """Whether nothing is left, and nothing more is to be read or worth waiting for."""
        now = time.monotonic()
        if self.alone:  # another's process may have our pipe
            return self.pipe_ended or now >= self.ended_at + STALLED
        return bool(self.kill_at) and now >= self.kill_at + UNKILLABLE

    def wait(self) -> None:
        """Until something happens or is due; read and write what can be."""
        poll = select.poll()
        poll.register(self.signals, select.POLLIN)
        if not self.output.gone:  # an error is reported in any case
            poll.register(self.output.descriptor, select.POLLOUT if self.output.waiting else 0)
        if not self.pipe_ended:
            poll.register(self.pipe, select.POLLIN)
        for descriptor, event in poll.poll(self.pause() * 1000):
            if descriptor == self.signals:
                os.read(self.signals, PIPE_CHUNK)
            elif descriptor == self.pipe:
                self.read()
            elif event & ~select.POLLOUT:
                self.output.lose_reader()
            else:
                self.output.pass_on()

    def pause(self) -> float:
        if self.status is not None or self.reason:
            return PAUSE
        due = self.began + self.seconds - time.monotonic() if self.seconds else 60.0
        return max(0.0, min(due, 60.0))

    def read(self) -> None:
        try:
            chunk = os.read(self.pipe, PIPE_CHUNK)
        except BlockingIOError:
            return
        self.output.take(chunk)
        self.pipe_ended = not chunk

    def reap(self) -> None:
        """Bury the dead; without children there are no descendants either."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self.pid:
                    self.status = os.waitstatus_to_exitcode(status)
                    self.ended_at = time.monotonic()
        except ChildProcessError:
            self.alone = True

    def enforce(self) -> None:
        now = time.monotonic()
        if self.alone:
            return
        if self.kill_at:
            if now >= self.kill_at:
                send(signal.SIGKILL, descendants(os.getpid()))
        elif self.status is not None:
            if now >= self.ended_at + SETTLE:
                self.stragglers = len(descendants(os.getpid()))
                self.terminate()
        else:
            late = self.seconds and now >= self.began + self.seconds
            self.reason = self.stopped() or ("timed_out" if late else "")
            if self.reason:
                self.terminate()

    def terminate(self) -> None:
        """TERM to all; CONT, because what is stopped could not act on it."""
        self.kill_at = time.monotonic() + GRACE
        found = descendants(os.getpid())
        send(signal.SIGTERM, found)
        send(signal.SIGCONT, found)

    def ended(self, oom: bool) -> Ended:
        return Ended(
            reason=self.reason,
            exit_code=-1 if self.status is None else max(-1, self.status),
            signal=0 if self.status is None else max(0, -self.status),
            seconds=round((self.ended_at or time.monotonic()) - self.began, 3),
            stragglers=self.stragglers,
            survivors=0 if self.alone else len(descendants(os.getpid())),
            oom=oom,
        )


def oom_kills() -> int:
    """How often the kernel has killed for want of memory: in our cgroup, else at all."""
    for path in _counters():
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counters() -> Iterator[Path]:
    top = Path("/sys/fs/cgroup")
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for number, controllers, path in (line.split(":", 2) for line in groups):
        if "memory" in controllers.split(","):
            yield top / "memory" / path.lstrip("/") / "memory.oom_control"
        elif number == "0":
            yield top / path.lstrip("/") / "memory.events"
    yield Path("/proc/vmstat")
