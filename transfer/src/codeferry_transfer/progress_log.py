"""Which ranges of a large download have arrived, in a file that outlives a kill.

A line is written after its range. After a crash of the machine, and not only of the process,
a line may be there without its bytes; so a log counts only until the next boot.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from codeferry_transfer.landing import Landing

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Version:
    """What must be the same for a download to go on: the object, and how it is cut."""

    bucket: str
    key: str
    etag: str
    size: int
    part: int


class ProgressLog:
    """The log called ``name`` in the staging directory."""

    def __init__(self, landing: Landing, name: str, version: Version) -> None:
        self._landing = landing
        self._name = name
        self._descriptor = landing.staged(name, os.O_APPEND)
        self._header = json.dumps({**asdict(version), "boot": _boot()})

    def begin(self) -> None:
        """Nothing has arrived."""
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{self._header}\n".encode())

    def done(self) -> dict[int, bytes]:
        """The ranges that have arrived, by number: their SHA-256s, empty where none was made.

        None have of another version of the object.
        """
        header, *lines = self._read()
        arrived = {}
        for line in lines if header == self._header else ():
            number, digest = line.split(" ")
            arrived[int(number)] = bytes.fromhex(digest)
        return arrived

    def note(self, number: int, digest: bytes) -> None:
        """The range is there. One write, so that several threads may."""
        os.write(self._descriptor, f"{number} {digest.hex()}\n".encode())

    def forget(self) -> None:
        self._landing.forget(self._name)

    def close(self, *, forget: bool) -> None:
        os.close(self._descriptor)
        if forget:
            self.forget()

    def _read(self) -> list[str]:
        with open(self._descriptor, "rb", closefd=False) as file:
            text = file.read().decode(errors="replace")
        return text.split("\n")[:-1] or [""]  # behind the last line end is what a kill cut short


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
