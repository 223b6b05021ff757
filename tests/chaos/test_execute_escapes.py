"""Commands that will not end, print without end, or eat all memory."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeferry_agent.run.command import output, processes
from tests.unit.agent.commands import Machine, machine, processes_with, wait_until
from tests.unit.agent.conftest import Instance

# Ignores every signal that can be, leaves session and group twice, drops its environment's
# marks and its name, and forks for ever: what is left to know it by is its parentage.
ESCAPE = """
import os, signal, sys, time
def hide():
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    for _ in range(2):
        os.setsid() if os.getpid() != os.getsid(0) else None
        if os.fork():
            os._exit(0)
    os.chdir("/")
    os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
for _ in range(5):
    if not os.fork():
        hide()
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
open(sys.argv[2], "w").close()
while True:
    time.sleep(60)
"""


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


@pytest.fixture
def marker() -> Iterator[str]:
    """A number of seconds to sleep that nobody else has; who sleeps on dies in the end."""
    seconds = f"{3600 + os.getpid() % 1000}.{time.monotonic_ns() % 10**9:09}"
    yield seconds
    processes.send(signal.SIGKILL, processes_with(f"sleep\0{seconds}"))


def _sleepers(marker: str) -> list[int]:
    return processes_with(f"sleep\0{marker}")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_nothing_survives_that_forks_twice_and_ignores_term(
    here: Machine, marker: str, how: str
) -> None:
    """Timeout, or SIGKILL to what Run Command started: all dead, and told."""
    ready = here.root / "ready"
    payload = here.command(
        *(sys.executable, "-c", ESCAPE, marker, str(ready)),
        command_seconds=1 if how == "timeout" else 60,
    )
    front = here.start(payload)
    wait_until(lambda: ready.exists() and len(_sleepers(marker)) == 5)
    if how == "kill":
        os.killpg(front.pid, signal.SIGKILL)
    outcome = here.wait(front, payload)
    assert outcome.ran.ending == ("timed_out" if how == "timeout" else "interrupted")
    assert outcome.ran.signal == signal.SIGKILL
    assert _sleepers(marker) == []
    # The command itself was given 1 s, then 5 s of grace; 10 are promised.
    assert how != "timeout" or outcome.ran.seconds < 1 + 10


PRINTED = 1 << 30
FLOOD = f"""
import os
block = (b"x" * 1023 + b"\\n") * 1024
for _ in range({PRINTED} // len(block)):
    os.write(1, block)
os.write(2, b"the last words\\n")
"""


@pytest.mark.slow
def test_a_gigabyte_of_output_costs_neither_disk_nor_memory(here: Machine, tmp_path: Path) -> None:
    """So much is passed on and no more, the end is kept, and what is missing is counted."""
    payload = here.command(sys.executable, "-c", FLOOD)
    front = here.start(payload)
    assert front.stdout is not None
    passed, end, peak = 0, b"", 0
    for chunk in iter(lambda: os.read(front.stdout.fileno(), 1 << 16), b""):
        passed, end = passed + len(chunk), (end + chunk)[-(1 << 17) :]
        if passed % (1 << 22) < 1 << 16:
            peak = max(peak, _peak_of_children(front.pid))
    front.stdout.close()
    front.stdout = None
    outcome = here.wait(front, payload)
    assert outcome.exit == 0
    assert outcome.ran.output_bytes == PRINTED // (1 << 20) * (1 << 20) + len(b"the last words\n")
    assert output.OUTPUT_LIMIT <= passed < output.OUTPUT_LIMIT + (1 << 17)
    assert 0 < peak < 64 << 20
    said = re.search(rb"\[codeferry: ([\d,]+) bytes are left out here\]\n", end)
    assert said
    left_out = int(said[1].replace(b",", b""))
    assert left_out == outcome.ran.output_bytes - output.OUTPUT_LIMIT - output.KEPT
    assert outcome.ran.tail.endswith("x\nthe last words\n")


def _peak_of_children(pid: int) -> int:
    """The highest resident size of a process's children, in bytes."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [Path(f"/proc/{child}/status").read_text() for child in children]
    except OSError:
        return 0
    sizes = [re.search(r"VmHWM:\s+(\d+) kB", status) for status in found]
    return max((int(size[1]) << 10 for size in sizes if size), default=0)


@pytest.mark.slow
def test_a_reader_that_stops_reading_does_not_stop_the_clock(here: Machine) -> None:
    """Output that nobody takes holds the command up, and its timeout ends it all the same."""
    payload = here.command("/bin/sh", "-c", "exec cat /dev/zero", command_seconds=1)
    front = here.start(payload)
    wait_until(lambda: '"timed_out"' in _record(here))
    assert here.wait(front, payload).code == "timed_out"


def _record(here: Machine) -> str:
    return (here.project / "runs/run-1.json").read_text()


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """The file that admits a process to a memory cgroup of 64 MiB."""
    top = Path("/sys/fs/cgroup/memory")
    top = top if top.is_dir() else Path("/sys/fs/cgroup")
    group = top / f"codeferry-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if top.name == "memory" else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(64 << 20))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"this machine does not let us limit memory: {error.strerror}")
    yield group / "cgroup.procs"
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


@pytest.mark.parametrize("through", ["itself", "a shell"])
def test_a_command_without_memory_is_told_from_one_that_was_killed(
    here: Machine, small_memory: Path, through: str
) -> None:
    """The kernel's own count decides; what a shell makes of its child's death counts too."""
    eat = f'{sys.executable} -c \'import os; os.write(1, b"hungry"); b"x" * (256 << 20)\''
    shell = f"exec {eat}" if through == "itself" else f"{eat}; exit $?"
    # The supervisor counts in its own cgroup: so all of them are in this one.
    here.fresh, here.python = True, str(_admitted(here, small_memory))
    outcome = here.run("/bin/sh", "-c", shell)
    assert (outcome.code, outcome.message) == ("out_of_memory", "out of memory")
    assert outcome.ran.exit_code == (-1 if through == "itself" else 137)
    assert outcome.output.startswith(b"hungry")


def _admitted(here: Machine, group: Path) -> Path:
    """A Python that enters a cgroup before it starts."""
    python = here.root / "python"
    python.write_text(f'#!/bin/sh\necho $$ >{group}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python
