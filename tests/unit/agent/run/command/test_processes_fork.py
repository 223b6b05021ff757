"""A cancellation that comes while the supervisor is being forked."""

from __future__ import annotations

import subprocess
import sys

FORKS = 50
# In a process of its own: this one has threads. A child says 0 when its handler was called.
PROGRAM = f"""
import os, signal, time
from codeferry_agent.run.command import processes

came = []
signal.signal(signal.SIGTERM, lambda *_: came.append(True))
for _ in range({FORKS}):
    child = processes.fork()
    if not child:
        end = time.monotonic() + 20
        while not came and time.monotonic() < end:
            time.sleep(0.01)
        os._exit(0 if came else 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == 0, "the child never heard of it"
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
"""


def test_a_signal_right_after_the_fork_is_heard() -> None:
    """Python forgets what reaches a child before its clean-up: nearly all of these, unheld."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# The signal is there before the wait begins, and no handler has seen it: as when it comes between
# the last look and the wait. The child ends by itself in time to tell.
WAITING = """
import os, signal, time
from codeferry_agent.run.command import processes

child = processes.fork()
if not child:
    time.sleep(10)
    os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.kill(os.getpid(), signal.SIGTERM)
assert processes.wait_passing_on(child, lambda: False) == -signal.SIGTERM
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
child = processes.fork()
if not child:
    time.sleep(10)
    os._exit(0)
assert processes.wait_passing_on(child, lambda: True) == -signal.SIGTERM
child = processes.fork()
if not child:
    os._exit(3)
time.sleep(0.2)
assert processes.wait_passing_on(child, lambda: False) == 3
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
"""


def test_a_signal_right_before_the_wait_is_passed_on() -> None:
    """A handler would run when the child has ended by itself."""
    done = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
