"""A delivery, with a kill or a full disk just before its nth change of the disk.

CODEFERRY_STEP says which change, CODEFERRY_STEP_DOES what to do: kill, bytes or inodes.
Python's audit events tell of every change, so that no step is forgotten when it gets a new one.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).parents[1] / "unit/agent/launch.py"
CHANGES = {f"os.{name}" for name in ("mkdir", "rename", "symlink", "link", "remove", "rmdir")}
CHANGES |= {"os.chmod", "os.chown", "os.truncate", "ctypes.dlsym"}  # syncfs and renameat2
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts the changes, and acts before the one it was told."""

    def __init__(self, last: int, action: str) -> None:
        self.left, self.action = last, action

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(arguments[2] & WRITING)
        if event in CHANGES or writes:
            self.left -= 1
            if self.left == 0:
                self.act()

    def act(self) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        effective = os.geteuid()  # the owner's, while something is made in a directory of theirs
        os.seteuid(os.getuid())
        self.fill()
        os.seteuid(effective)

    def fill(self) -> None:
        filler = Path(os.environ["CODEFERRY_ROOT"], "filler")
        filler.mkdir()
        with contextlib.suppress(OSError):
            if self.action == "bytes":
                with (filler / "bytes").open("wb", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            for number in range(100_000):
                (filler / str(number)).touch()


def main() -> None:
    environ = os.environ
    sys.addaudithook(Steps(int(environ["CODEFERRY_STEP"]), environ["CODEFERRY_STEP_DOES"]))
    runpy.run_path(str(LAUNCH))


if __name__ == "__main__":
    main()
