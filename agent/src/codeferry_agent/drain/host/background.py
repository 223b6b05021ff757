"""One agent in the background of a laptop: started once, stopped gracefully.

    python -m codeferry_agent.drain.host.background start [options of drain]
    python -m codeferry_agent.drain.host.background stop

The PID file is locked for as long as the agent lives, by a descriptor the agent inherits; so a
file that a crash left behind, or a process id used again, is never taken for a running agent."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from codeferry_agent.drain.files.state import user_state_directory

_STARTED = "Draining "
_START_SECONDS, _STOP_SECONDS, _KILL_SECONDS = 30.0, 90.0, 10.0


def start(arguments: Sequence[str]) -> str:
    """Start an agent with these options of ``drain``; what to tell. SystemExit when it fails."""
    place = user_state_directory()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    log, pid_file = place / "drain.log", place / "drain.pid"
    lock = os.open(pid_file, os.O_RDWR | os.O_CREAT, 0o644)
    if not _locked(lock):
        raise SystemExit(f"An agent is running already: process {pid_file.read_text().strip()}.")
    with log.open("ab") as output:
        begin = output.tell()
        agent = subprocess.Popen(
            [sys.executable, "-m", "codeferry_agent.main", "drain", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock],
        )
    os.truncate(lock, 0)
    os.pwrite(lock, f"{agent.pid}\n".encode(), 0)
    os.close(lock)

    def said() -> str:
        return log.read_bytes()[begin:].decode(errors="replace")

    _wait(lambda: agent.poll() is not None or _STARTED in said(), _START_SECONDS)
    if agent.poll() is not None:
        raise SystemExit(f"The agent did not start:\n{said()}")
    return f"The agent runs as process {agent.pid}; its log is {log}."


def stop() -> str:
    """Let the agent drain a last time and end; what to tell. SystemExit when none runs."""
    pid_file = user_state_directory() / "drain.pid"
    try:
        lock = os.open(pid_file, os.O_RDWR)
    except FileNotFoundError:
        raise SystemExit("No agent is running.") from None
    if _locked(lock):
        pid_file.unlink()
        raise SystemExit("No agent is running.")
    pid = int(pid_file.read_text())
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        os.kill(pid, number)
        if _wait(lambda: _locked(lock), seconds):
            pid_file.unlink()
            return f"The agent, process {pid}, has ended by {number.name}."
    raise SystemExit(f"The agent, process {pid}, does not end.")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def main() -> None:
    match sys.argv[1:]:
        case ["start", *arguments]:
            print(start(arguments))
        case ["stop"]:
            print(stop())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
