"""Which multipart uploads this root's agent has begun: a file that outlives it.

At the next start those a kill left behind are aborted, and only those: what somebody else
uploads to the same bucket is not ours to abort. An upload killed before its id was written
down is found by nobody but the bucket's lifecycle rule.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import NamedTuple

from codeferry_agent.drain.private import replace_text

_log = logging.getLogger(__name__)


class Begun(NamedTuple):
    """An upload in parts that was begun and, as far as is known, neither ended nor aborted."""

    bucket: str
    key: str
    upload: str


class Ledger:
    """The begun uploads of a root. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._begun = _read(path)

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

    def _write(self) -> None:
        try:
            replace_text(self._path, json.dumps(sorted(self._begun)))
        except OSError as error:
            # Going on is right: results on a full disk have to leave, and an upload that
            # nobody remembers costs a little until the lifecycle rule ends it.
            _log.warning("%s could not be written: %s.", self._path, error.strerror)


def _read(path: Path) -> set[Begun]:
    try:
        return {Begun(*entry) for entry in json.loads(path.read_text())}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        _log.warning("%s could not be read, its uploads are forgotten: %s.", path, error)
        return set()
