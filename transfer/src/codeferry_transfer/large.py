"""An object too large for one request: pieces carried by several threads, then one end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

from codeferry_transfer.crew import Work
from codeferry_transfer.errors import TransferError


class Carrier(Protocol):
    """What the pieces of one object have in common."""

    def carry(self, piece: int) -> None:
        """Carry the piece of that number. Raises TransferError, OSError."""

    def finish(self) -> None:
        """All pieces are there. Raises TransferError, OSError."""

    def give_up(self, error: Exception) -> None:
        """Some piece, or ``finish``, failed; nothing further will be called."""


class Pieces:
    """Carries every piece once, in any order, and ends the carrier once."""

    def __init__(self, carrier: Carrier, pieces: Sequence[int]) -> None:
        self._carrier = carrier
        self._pieces = pieces
        self._left = len(pieces)
        self._lock = threading.Lock()
        self._error: Exception | None = None

    def works(self) -> Iterator[Work]:
        """One for each piece; at least one, because ending is work too."""
        if not self._pieces:
            yield self._end
        for piece in self._pieces:
            yield partial(self._one, piece)

    def _one(self, piece: int) -> None:
        if self._error is None:
            try:
                self._carrier.carry(piece)
            except (TransferError, OSError) as error:
                self._error = error
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._end()

    def _end(self) -> None:
        try:
            if self._error is not None:
                raise self._error
            self._carrier.finish()
        except (TransferError, OSError) as error:
            self._carrier.give_up(error)
