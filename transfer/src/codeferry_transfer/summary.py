"""Count a transfer's files and bytes, and what failed, while it goes on and at its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from codeferry_contracts.errors import CodeferryError
from codeferry_transfer.errors import FileUnfit
from codeferry_transfer.plan import Action, Verb
from codeferry_transfer.tree import GONE


@dataclass(frozen=True)
class Failure:
    """One path that could not be dealt with, and why."""

    verb: Verb
    path: str
    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        return {
            "action": str(self.verb),
            "path": self.path,
            "code": self.code,
            "message": self.message,
        }


@dataclass
class Summary:
    """Written by many threads. ``planned`` counts what is to be copied, as far as is known.

    ``resumed`` are bytes an earlier, interrupted transfer had carried already; ``spared`` is
    what was not deleted because something failed, ``kept`` what was not because it lies at or
    below something ``left_out``. ``warnings`` are about paths or patterns, with the reason.
    """

    planned_files: int = 0
    planned_bytes: int = 0
    plan_complete: bool = False
    files: int = 0
    bytes: int = 0
    resumed: int = 0
    skipped: int = 0
    deleted: int = 0
    spared: int = 0
    kept: int = 0
    failures: list[Failure] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    _unseen: dict[str, str] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def plan(self, action: Action) -> None:
        self.planned_files += 1
        self.planned_bytes += action.size

    def unplan(self, action: Action) -> None:
        """It need not be copied after all."""
        with self._lock:
            self.planned_files -= 1
            self.planned_bytes -= action.size
            self.skipped += 1

    def vanish(self, action: Action) -> None:
        """It is not there any more: no error, but said."""
        with self._lock:
            self.planned_files -= 1
            self.planned_bytes -= action.size
        self.left_out.append((action.path, GONE))

    def carried(self, size: int) -> None:
        with self._lock:
            self.bytes += size

    def found(self, size: int) -> None:
        """Bytes that were carried by an earlier attempt."""
        with self._lock:
            self.resumed += size

    def copied(self) -> None:
        with self._lock:
            self.files += 1

    def fail(self, verb: Verb, path: str, error: Exception) -> None:
        known = error if isinstance(error, CodeferryError) else file_unfit(path, error)
        with self._lock:
            self.failures.append(Failure(verb, path, known.code, known.message))

    def leave_out(self, path: str, why: str) -> None:
        """Of the source: nothing is known of what the path stands for, nor of what is below."""
        self.left_out.append((path, why))
        self._unseen[path] = f"{path} is {why}"

    def pass_over(self, path: str) -> None:
        """Like ``leave_out`` of what the user knows of, who named it."""
        self._unseen[path] = f"{path} is excluded"

    def unseen(self, path: str) -> str:
        """Why nothing is known of this path; empty when it was looked at."""
        parts = path.rstrip("/").split("/")
        above = ("/".join(parts[:number]) for number in range(1, len(parts) + 1))
        return next((why for each in above if (why := self._unseen.get(each))), "")

    def warn(self, about: str, why: str) -> None:
        self.warnings.append((about, why))


def file_unfit(path: str, error: Exception) -> FileUnfit:
    """The operating system's reason, with the path it is about."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return FileUnfit(f"{path}: {reason}.")
