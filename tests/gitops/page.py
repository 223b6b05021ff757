"""The page as a person follows it: boxes of shell, pasted one after the other into a terminal."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass

# One shell for all boxes, as a person's terminal is one; a command that fails ends it.
_READ_BOXES = """
set -euo pipefail
while IFS= read -r box; do source "$box" </dev/null; echo "$END_OF_BOX"; done
"""


@dataclass(frozen=True)
class Box:
    """The commands of one box, and the heading they stand under."""

    heading: str
    commands: str


def boxes(markdown):
    """All boxes of shell, in order."""
    found, heading, inside = [], "", None
    for line in markdown.splitlines(keepends=True):
        if inside is not None and line.startswith("```"):
            found.append(Box(heading, "".join(inside)))
            inside = None
        elif inside is not None:
            inside.append(line)
        elif line.startswith("```sh"):
            inside = []
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    return found


class Terminal:
    """A bash that keeps its directory and its variables from box to box."""

    def __init__(self, directory, environment):
        self._directory = directory
        self._end = uuid.uuid4().hex
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", _READ_BOXES],
            cwd=directory,
            env=environment | {"END_OF_BOX": self._end},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def paste(self, commands):
        """What they print; AssertionError with it when one fails."""
        box = self._directory / "box.sh"
        box.write_text(commands)
        self._process.stdin.write(f"{box}\n")
        self._process.stdin.flush()
        printed = []
        for line in self._process.stdout:
            if line.rstrip("\n") == self._end:
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"{commands}\nended with {self._process.wait()}:\n{''.join(printed)}")

    def close(self):
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
