"""Whether the kernel has killed for want of memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


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
