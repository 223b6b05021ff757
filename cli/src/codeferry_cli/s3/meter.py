"""How far a transfer is, in bytes and files, with its rate and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from codeferry_cli.progress import Progress
from codeferry_contracts import formatting

if TYPE_CHECKING:
    from codeferry_transfer.tally import Tally

_STEPS = 10  # lines of progress off a terminal
_SOON = 1.0  # seconds, before which a rate says nothing


class Meter:
    """Called while a transfer runs; ``doing`` is what it does, such as "Uploading"."""

    def __init__(
        self,
        doing: str,
        tally: Tally,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing = doing
        self._tally = tally
        self._progress = progress
        self._clock = clock
        self._began = clock()

    def __call__(self) -> None:
        tally = self._tally
        if tally.planned_files:
            done = tally.bytes + tally.resumed
            share = _share(done, tally.planned_bytes, tally.files, tally.planned_files)
            mark = int(share * _STEPS) if tally.plan_complete else "planning"
            self._progress.now(f"{self._doing}… {self._state(done, share)}", mark=mark)

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def _state(self, done: int, share: float) -> str:
        tally, more = self._tally, "" if self._tally.plan_complete else "+"
        files = f"{tally.files:,} of {tally.planned_files:,}{more} files"
        size = f"{formatting.size(done)} of {formatting.size(tally.planned_bytes)}{more}"
        # Of a single file all bytes may be there a moment before it is: not "0 of 1", then.
        alone = tally.planned_files == 1 and tally.plan_complete
        parts = [size] if alone else [files, size]
        return ", ".join([*parts, *self._speed(done)]) + f" ({share:.0%})"

    def _speed(self, done: int) -> list[str]:
        spent = self.seconds
        if spent < _SOON or not self._tally.bytes:
            return []
        rate = self._tally.bytes / spent
        told = [f"{formatting.size(int(rate))}/s"]
        if self._tally.plan_complete:
            told.append(f"{formatting.seconds((self._tally.planned_bytes - done) / rate)} left")
        return told


def _share(done: int, of: int, files: int, of_files: int) -> float:
    """By bytes, or by files where there are none."""
    return min(1.0, done / of if of else files / max(1, of_files))
