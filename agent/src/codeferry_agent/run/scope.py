"""Out of the SSM agent's unit: systemd stops it when the kernel kills one of its processes for want
of memory (``OOMPolicy=stop``, systemd.service(5)), and with it the way to this instance.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from codeferry_agent.run.failures import log

UNIT = "amazon-ssm-agent"  # also within a snap's name
OWN_CGROUP = Path("/proc/self/cgroup")
MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
SECONDS = 5.0  # for systemd to answer, and again to do it
PAUSE = 0.01


def leave_agents_unit(run_id: str, path: str) -> None:
    """Move this process into a transient scope of its own, where it is in the SSM agent's unit.

    What it starts from then on is there as well. Where that cannot be it goes on as it is. Scopes
    have a policy of their own since systemd 253, which then would be to kill us too.
    """
    if UNIT not in OWN_CGROUP.read_text():
        return
    pids = ("PIDs", "au", "1", str(os.getpid()))
    for policy in (("OOMPolicy", "s", "continue"), ()):
        properties = (str(2 if policy else 1), *pids, *policy)
        if ask_for_scope(f"codeferry-{run_id}-{os.getpid()}.scope", properties, path):
            break
    else:
        return
    end = time.monotonic() + SECONDS
    while UNIT in OWN_CGROUP.read_text() and time.monotonic() < end:
        time.sleep(PAUSE)


def ask_for_scope(name: str, properties: tuple[str, ...], path: str) -> bool:
    """Whether systemd will make it: there is no command that puts into one who runs already."""
    call = ("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", *properties, "0")
    try:
        done = subprocess.run(
            ("busctl", "--quiet", "call", *MANAGER, *call),
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log(f"No scope: {type(error).__name__}")
        return False
    return done.returncode == 0
