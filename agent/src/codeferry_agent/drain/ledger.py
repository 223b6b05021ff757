"""Which multipart uploads this root's agent has begun: a file of its state, which outlives it.

At the next start those a kill left behind are aborted, and only those: what somebody else
uploads to the same bucket is not ours to abort. An upload killed before its id was written
down is found by nobody but the bucket's lifecycle rule.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import NamedTuple

from codeferry_agent.drain.naming import is_bucket_name
from codeferry_agent.drain.state import UPLOADS, State

_log = logging.getLogger(__name__)


class Begun(NamedTuple):
    """An upload in parts that was begun and, as far as is known, neither ended nor aborted."""

    bucket: str
    key: str
    upload: str


class Ledger:
    """The begun uploads of a root. Safe to use from many threads."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._begun: set[Begun] = set()
        try:
            self._begun = _parsed(state.read(UPLOADS))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("The uploads of %s are forgotten: %s.", state.root, error)

    def begun(self) -> list[Begun]:
        with self._lock:
            return sorted(self._begun)

    def add(self, begun: Begun) -> None:
        with self._lock:
            self._begun.add(begun)
            self._write()

    def remove(self, begun: Begun) -> None:
        with self._lock:
            self._begun.discard(begun)
            self._write()

    def adopt(self, content: bytes) -> bool:
        """Add what another ledger holds; whether it is kept now, as far as it is a ledger."""
        try:
            others = _parsed(content)
        except (ValueError, RecursionError) as error:
            _log.warning("Older uploads of %s are forgotten: %s.", self._state.root, error)
            return True
        with self._lock:
            self._begun |= others
            return self._write()

    def _write(self) -> bool:
        try:
            self._state.replace(UPLOADS, json.dumps(sorted(self._begun)).encode())
        except OSError as error:
            # Going on is right: results on a full disk have to leave, and an upload that
            # nobody remembers costs a little until the lifecycle rule ends it.
            _log.warning("%s/%s could not be written: %s.", self._state.path, UPLOADS, error)
            return False
        return True


def _parsed(content: bytes) -> set[Begun]:
    """Raises ValueError or RecursionError for what is no ledger."""
    document = json.loads(content)
    if not isinstance(document, list) or not all(map(_is_begun, document)):
        raise ValueError("it is no list of uploads")
    return {Begun(*entry) for entry in document}


def _is_begun(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != len(Begun._fields):
        return False
    if not all(isinstance(part, str) and part for part in entry):
        return False
    "".join(entry).encode()  # a lone surrogate is a ValueError, and no key
    return is_bucket_name(entry[0])
