"""Count what became of the files of one scan."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What became of one file."""

    UPLOADED = "uploaded"  # it went up, and is gone here
    THERE_ALREADY = "there already"  # S3 had the same bytes; it is gone here
    WAITING = "waiting"  # kept; nothing is wrong
    FAILED = "failed"  # kept because of an error, its own or its bucket's


@dataclass
class Summary:
    """Files and bytes by outcome. Safe to add to from many threads.

    ``oldest`` is when the oldest file that stays was written, in seconds since 1970;
    ``next_look`` when one that is only too young will be old enough, likewise. ``unseen`` are
    roots, directories and names that could not be looked at, ``left`` those left alone.
    """

    files: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    bytes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    oldest: float | None = None
    next_look: float | None = None
    deferred: bool = False
    unseen: int = 0
    left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome, size: int, modified: float) -> None:
        with self._lock:
            self.files[outcome] += 1
            self.bytes[outcome] += size
            stays = outcome in (Outcome.WAITING, Outcome.FAILED)
            if stays and (self.oldest is None or modified < self.oldest):
                self.oldest = modified

    def look_again(self, when: float) -> None:
        with self._lock:
            self.next_look = when if self.next_look is None else min(self.next_look, when)

    @property
    def uploaded(self) -> int:
        return self.files[Outcome.UPLOADED]

    @property
    def uploaded_bytes(self) -> int:
        return self.bytes[Outcome.UPLOADED]

    @property
    def already_there(self) -> int:
        return self.files[Outcome.THERE_ALREADY]

    @property
    def errors(self) -> int:
        return self.files[Outcome.FAILED] + self.unseen

    @property
    def skipped(self) -> int:
        return self.already_there + self.files[Outcome.WAITING]

    @property
    def processed(self) -> int:
        return sum(self.files.values())

    @property
    def pending(self) -> tuple[int, int]:
        """Files and bytes that stay."""
        stay = (Outcome.WAITING, Outcome.FAILED)
        return sum(self.files[o] for o in stay), sum(self.bytes[o] for o in stay)

    def line(self) -> str:
        return (
            f"Scan complete: processed={self.processed} uploaded={self.uploaded} "
            f"skipped={self.skipped} errors={self.errors} left={self.left}"
        )
