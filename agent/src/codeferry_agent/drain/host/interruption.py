"""Interruption notices: this instance will soon be gone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime

from codeferry_agent.drain.host.environment import Metadata, MetadataUnreachable

_SPOT = "/latest/meta-data/spot/instance-action"
_AUTO_SCALING = "/latest/meta-data/autoscaling/target-lifecycle-state"
_NOTICE_SECONDS = 120.0
LOOK_SECONDS = 5.0  # what AWS recommends for spot


def seconds_left(metadata: Metadata) -> float | None:
    """Seconds until the instance goes; None when nothing says that it does.

    Raises MetadataUnreachable.
    """
    spot = metadata.get(_SPOT)
    if spot is not None:
        return _until(spot)
    if metadata.get(_AUTO_SCALING) == "Terminated":
        return _NOTICE_SECONDS
    return None


def _until(notice: str) -> float:
    try:
        moment = datetime.fromisoformat(json.loads(notice)["time"])
        return min(_NOTICE_SECONDS, max(0.0, moment.timestamp() - time.time()))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _NOTICE_SECONDS


class InterruptionWatch:
    """Looks for a notice every few seconds and calls ``on_notice`` with the seconds left, once."""

    def __init__(
        self, metadata: Metadata, on_notice: Callable[[float], None], every: float = LOOK_SECONDS
    ) -> None:
        self._metadata = metadata
        self._on_notice = on_notice
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="interruption", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                left = seconds_left(self._metadata)
            except MetadataUnreachable:
                left = None  # asked again in a moment; there is no one to tell
            if left is not None:
                self._on_notice(left)
                return
            self._stop.wait(self._every)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
