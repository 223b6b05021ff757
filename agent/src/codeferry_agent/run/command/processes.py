"""Processes below and around this one, by /proc, prctl, signals and systemd."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from codeferry_agent.run.errors import ENDING_SIGNALS, log
from codeferry_agent.run.files import LIBC

PAUSE = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def fork() -> int:
    """As os.fork; a signal that reaches the child at once waits until Python in it can take it.

    Python forgets those that come before its own clean-up behind the fork.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        return os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_passing_on(pid: int, asked: Callable[[], bool]) -> int:
    """The exit code of a child, as ``os.waitstatus_to_exitcode`` has it; whoever asks us to end, or
    had ``asked`` before, asks the child.

    Signals are waited for, not handled: one that came between a look and a wait would be forgotten
    until the child ends by itself.
    """
    news = (*ENDING_SIGNALS, signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, news)
    try:
        if asked():
            send(signal.SIGTERM, [pid])
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if signal.sigwait(news) != signal.SIGCHLD:
                send(signal.SIGTERM, [pid])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def become_supervisor() -> None:
    """Leave the parent's session and adopt orphans; TERM comes when the parent dies."""
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


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
        for pid in found:
            kill_if(pid, lambda pid: wanted <= variables_of(pid))
        time.sleep(PAUSE)


def kill_if(pid: int, wanted: Callable[[int], bool]) -> None:
    """Kill a process if it is wanted, and no other that has got its number meanwhile."""
    if not hasattr(os, "pidfd_open"):  # a Python that was built for an old C library
        send(signal.SIGKILL, [pid])
        return
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS:  # Linux before 5.3
            send(signal.SIGKILL, [pid])
        return
    try:
        if wanted(pid):  # still, now that its number cannot become another's unnoticed
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)


def variables_of(pid: int) -> set[bytes]:
    """As ``NAME=value``; nothing of a delivery, whose payload is none of a command's variables.

    Only of one: who runs as somebody else cannot pass for it by such a variable.
    """
    try:
        place = Path("/proc", str(pid))
        found = set((place / "environ").read_bytes().split(b"\0"))
        may_be_ours = place.stat().st_uid == os.geteuid()
    except OSError:
        return set()
    delivery = may_be_ours and any(each.startswith(b"CODEFERRY_PAYLOAD=") for each in found)
    return set() if delivery else found


AGENT_UNIT = "amazon-ssm-agent"  # also within a snap's name
OWN_CGROUP = Path("/proc/self/cgroup")
MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
SCOPE_SECONDS = 5.0  # for systemd to answer, and again to do it
SCOPE_PAUSE = 0.01


def leave_agents_unit(run_id: str, path: str) -> None:
    """Move this process into a transient scope of its own, where it is in the SSM agent's unit.

    What it starts from then on is there as well. Where that cannot be it goes on as it is. Scopes
    have a policy of their own since systemd 253, which then would be to kill us too.
    """
    if AGENT_UNIT not in OWN_CGROUP.read_text():
        return
    pids = ("PIDs", "au", "1", str(os.getpid()))
    for policy in (("OOMPolicy", "s", "continue"), ()):
        properties = (str(2 if policy else 1), *pids, *policy)
        if ask_for_scope(f"codeferry-{run_id}-{os.getpid()}.scope", properties, path):
            break
    else:
        return
    end = time.monotonic() + SCOPE_SECONDS
    while AGENT_UNIT in OWN_CGROUP.read_text() and time.monotonic() < end:
        time.sleep(SCOPE_PAUSE)


def ask_for_scope(name: str, properties: tuple[str, ...], path: str) -> bool:
    """Whether systemd will make it: there is no command that puts into one who runs already."""
    call = ("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", *properties, "0")
    try:
        done = subprocess.run(
            ("busctl", "--quiet", "call", *MANAGER, *call),
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SCOPE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log(f"No scope: {type(error).__name__}")
        return False
    return done.returncode == 0
