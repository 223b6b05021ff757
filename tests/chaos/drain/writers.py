"""Programs that write results in every way they do, and remember what they have completed.

Each writes to a name of its own for some turns, then to the next one. At the end, when all has
been drained, the last complete content of every name has to be its newest object, and every
line that was ever appended in some version of it.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import random
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path


class Writer(ABC):
    """Writes below ``<directory>/<key>/`` again and again until it is told to stop."""

    kind: str
    turns = 3  # with one name

    def __init__(self, directory: Path, key: str, seed: int) -> None:
        self.key = key
        self._directory = directory
        self.last: dict[str, bytes] = {}
        self.lines: dict[str, list[bytes]] = defaultdict(list)
        self.defect: BaseException | None = None
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        (self._directory / self.key).mkdir(parents=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.defect is not None:
            raise self.defect

    def _run(self) -> None:
        try:
            for number in itertools.count():
                if self._stop.wait(self._chance.uniform(0, 0.25)):
                    return
                key = f"{self.key}/{number // self.turns}"
                self.write(self._directory / key, key, number)
        except BaseException as error:  # noqa: BLE001 - raised again by stop
            self.defect = error

    def content(self, number: int) -> bytes:
        """Content of this turn: its own, often of the size of the one before."""
        size = self._chance.choice((100, 100, 100, 3_000, 40_000))
        return f"{self.key} {number:08} ".encode() + self._chance.randbytes(size)

    @abstractmethod
    def write(self, path: Path, key: str, number: int) -> None:
        """One turn; notes what it has completed in ``last`` or ``lines``."""

    def lost(self, history: Mapping[str, list[bytes]]) -> str | None:
        """What of the completed is not in the versions of its key, the newest first."""
        wrong = [key for key, last in self.last.items() if history.get(key, [])[:1] != [last]]
        for key, lines in self.lines.items():
            together = b"".join(history.get(key, []))
            wrong += [key for line in lines if line not in together]
        return f"{self.kind}: {len(wrong)} of {len(self.last)}: {wrong[:5]}" if wrong else None


class Rewriter(Writer):
    """Truncates and writes, with the time put back: only the content tells."""

    kind = "rewrite"

    def write(self, path: Path, key: str, number: int) -> None:
        content = self.content(number)
        path.write_bytes(content)
        self.last[key] = content
        if number % 2:
            with contextlib.suppress(FileNotFoundError):  # it has gone up already
                os.utime(path, (1_700_000_000, 1_700_000_000))


class Renamer(Writer):
    """Writes beside it and renames over it, as careful programs do."""

    kind = "rename over"

    def write(self, path: Path, key: str, number: int) -> None:
        content = self.content(number)
        new = path.with_name(f".{path.name}.tmp")
        new.write_bytes(content)
        new.replace(path)
        self.last[key] = content


class Appender(Writer):
    """Opens, appends one line and closes, as loggers do."""

    kind = "append"
    turns = 10

    def write(self, path: Path, key: str, number: int) -> None:
        line = f"<{self.key} line {number}>\n".encode()
        with path.open("ab") as file:
            file.write(line)
        self.lines[key].append(line)


class Holder(Writer):
    """Keeps the file open for writing over pauses longer than the stability time."""

    kind = "held open"
    turns = 1

    def write(self, path: Path, key: str, number: int) -> None:
        pieces = [self.content(number) for _ in range(3)]
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                file.flush()
                self._stop.wait(self._chance.uniform(0, 0.4))
        self.last[key] = b"".join(pieces)


class Mapper(Writer):
    """Writes through a shared mapping, after the descriptor is closed."""

    kind = "mmap"
    turns = 1

    def write(self, path: Path, key: str, number: int) -> None:
        content = self.content(number)
        with path.open("w+b") as file:
            file.truncate(len(content))
            mapping = mmap.mmap(file.fileno(), len(content))
        self._stop.wait(self._chance.uniform(0, 0.4))
        mapping[:] = content
        mapping.close()
        self.last[key] = content


class Creator(Writer):
    """Makes many files, each once."""

    kind = "create"
    turns = 1

    def write(self, path: Path, key: str, number: int) -> None:
        content = self.content(number)
        path.write_bytes(content)
        self.last[key] = content


KINDS: tuple[Callable[[Path, str, int], Writer], ...] = (
    Rewriter,
    Renamer,
    Appender,
    Holder,
    Mapper,
    Creator,
)
