"""Run one program with everything it starts, pass its output on, and see all of it end.

Travels in the SSM document like apply.py, under the same rules. Run Command may kill the
process it started with SIGKILL, and a program may fork twice and leave its session: so a
supervisor in a session of its own adopts every orphan of the program (it is their subreaper)
and ends what is left. It has no children but those, and so has ended all when it has none.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OUTPUT_LIMIT = 64 << 20  # passed on; Run Command keeps it in a file
KEPT = 64 << 10  # of what is beyond, the last
CHUNK = 64 << 10
PIPE_ROOM = 4096  # poll promises as much
GRACE = 5.0  # seconds from TERM to KILL
SETTLE = 1.0  # for children to notice that the program has ended
UNKILLABLE = 5.0  # after KILL: what waits for a dead disk does not die
STALLED = 10.0  # without a byte taken by the reader of our output
PAUSE = 0.05

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Account(NamedTuple):
    """Who a program runs as; ``ids`` is None where we cannot or need not become them."""

    name: str
    home: str
    shell: str
    ids: tuple[int, int] | None

    @property
    def groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.ids[1]) if self.ids else []


def account_of(owner: tuple[int, int] | None, environ: Mapping[str, str]) -> Account:
    """The owner's account, or our own with the home directory we were given."""
    try:
        entry = pwd.getpwuid(owner[0] if owner else os.geteuid())
    except KeyError:  # of a user by number only
        return Account(str(os.geteuid()), environ.get("HOME", "/"), "/bin/sh", owner)
    home = entry.pw_dir if owner else environ.get("HOME", entry.pw_dir)
    return Account(entry.pw_name, home, entry.pw_shell or "/bin/sh", owner)


class Ended(NamedTuple):
    """How a program ended; ``reason`` is why we ended it, if we did."""

    reason: str
    exit_code: int  # -1 unless it exited
    signal: int  # 0 unless one ended it
    seconds: float
    stragglers: int  # processes that it left behind and that were then ended
    survivors: int  # processes that not even KILL has ended
    oom: bool  # the kernel ran out of memory and killed something meanwhile


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


# --- processes


def fork() -> int:
    """As os.fork; a signal that reaches the child at once waits until Python in it can take it.

    Python forgets those that come before its own clean-up behind the fork.
    """
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    )
    try:
        return os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_supervisor(parent: int) -> bool:
    """Leave the parent's session and adopt orphans; whether the parent is still there.

    TERM comes when it dies.
    """
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


LIBC = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def spawn(
    arguments: Sequence[str], directory: Path, variables: Mapping[str, str], account: Account
) -> tuple[int, int]:
    """Start a program in its own session; its pid and the pipe of both its outputs."""
    ids: dict[str, object] = {}
    if account.ids:
        ids = {"user": account.ids[0], "group": account.ids[1], "extra_groups": account.groups}
    ours, its = os.pipe()
    try:
        started = subprocess.Popen(  # type: ignore[call-overload]
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            cwd=directory,
            env=dict(variables),
            umask=0o022,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # after setuid, which would undo it
            **ids,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    started.returncode = 0  # we reap it, not the object
    os.set_blocking(ours, False)
    return started.pid, ours


def _die_with_supervisor() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def processes() -> Iterator[tuple[int, int]]:
    """Pid and parent of every process that is not dead."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all we need, and often
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            state, parent = stat.rpartition(b")")[2].split()[:2]
            if state not in b"ZXx":
                yield int(name), int(parent)


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, parents first."""
    children: dict[int, list[int]] = {}
    for each, parent in processes():
        children.setdefault(parent, []).append(each)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def send(number: int, pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # gone; or a set-uid program's
            continue


def kill_marked(*marks: str) -> None:
    """Kill every process that was started with these variables, until there is none."""
    wanted = {os.fsencode(mark) for mark in marks}
    for _ in range(100):
        found = [pid for pid, _ in processes() if wanted <= variables_of(pid)]
        if not found:
            return
        send(signal.SIGKILL, found)
        time.sleep(PAUSE)


def variables_of(pid: int) -> set[bytes]:
    """As ``NAME=value``; nothing of our own, whose payload is none of a command's variables."""
    try:
        found = set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()
    return set() if any(each.startswith(b"CODEFERRY_PAYLOAD=") for each in found) else found


# --- memory


def oom_kills() -> int:
    """How often the kernel has killed for want of memory: in our cgroup, else at all."""
    for path, word in _counters():
        try:
            found = re.search(rf"^{word} (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counters() -> Iterator[tuple[Path, str]]:
    top = Path("/sys/fs/cgroup")
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for number, controllers, path in (line.split(":", 2) for line in groups):
        if "memory" in controllers.split(","):
            yield top / "memory" / path.lstrip("/") / "memory.oom_control", "oom_kill"
        elif number == "0":
            yield top / path.lstrip("/") / "memory.events", "oom_kill"
    yield Path("/proc/vmstat"), "oom_kill"


# --- supervision


class Supervision:
    """One program from its start until nothing of it is left.

    ``seconds`` is its timeout, 0 for none; ``cancelled`` is asked whenever a signal comes.
    """

    def __init__(self, output: Output, *, seconds: float, cancelled: Callable[[], bool]) -> None:
        self.output, self.cancelled = output, cancelled
        self.seconds = seconds
        self.status: int | None = None
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
        if self.output.waiting:
            poll.register(self.output.descriptor, select.POLLOUT)
        # What is not taken holds the program up, but not its end: that is one pipe full.
        if not self.pipe_ended and (self.alone or not self.output.waiting):
            poll.register(self.pipe, select.POLLIN)
        for descriptor, _ in poll.poll(self.pause() * 1000):
            if descriptor == self.signals:
                os.read(self.signals, CHUNK)
            elif descriptor == self.pipe:
                self.read()
            else:
                self.output.pass_on()

    def pause(self) -> float:
        if self.status is not None or self.reason:
            return PAUSE
        due = self.began + self.seconds - time.monotonic() if self.seconds else 60.0
        return max(0.0, min(due, 60.0))

    def read(self) -> None:
        try:
            chunk = os.read(self.pipe, CHUNK)
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
                    self.status, self.ended_at = status, time.monotonic()
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
        elif self.cancelled():
            self.stop("cancelled")
        elif self.seconds and now >= self.began + self.seconds:
            self.stop("timed_out")

    def stop(self, reason: str) -> None:
        self.reason = reason
        self.terminate()

    def terminate(self) -> None:
        """TERM to all; CONT, because what is stopped could not heed it."""
        self.kill_at = time.monotonic() + GRACE
        found = descendants(os.getpid())
        send(signal.SIGTERM, found)
        send(signal.SIGCONT, found)

    def ended(self, oom: bool) -> Ended:
        status = self.status
        exited = status is not None and os.WIFEXITED(status)
        signalled = status is not None and os.WIFSIGNALED(status)
        return Ended(
            reason=self.reason,
            exit_code=os.WEXITSTATUS(status) if exited and status is not None else -1,
            signal=os.WTERMSIG(status) if signalled and status is not None else 0,
            seconds=round((self.ended_at or time.monotonic()) - self.began, 3),
            stragglers=self.stragglers,
            survivors=0 if self.alone else len(descendants(os.getpid())),
            oom=oom,
        )
