"""What the agent is doing: a state file for `drain status`, metrics and the scan's log line."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from codeferry_agent.drain.drain import Drain
from codeferry_agent.drain.logs import FIELDS
from codeferry_agent.drain.root import Root
from codeferry_agent.drain.state import STATE
from codeferry_agent.drain.tally import Tally

_log = logging.getLogger(__name__)

_WINDOW_SECONDS = 300.0
NAMESPACE = "Codeferry/Drain"
_METRICS = {
    "UploadedFiles": "Count",
    "UploadedBytes": "Bytes",
    "PendingFiles": "Count",
    "PendingBytes": "Bytes",
    "OldestAge": "Seconds",
    "Errors": "Count",
}


class StatusWriter:
    """Tells about each scan: one log line, with metrics, and the state file of each root."""

    def __init__(self, name: str, stage: str) -> None:
        """``name`` is the instance id or host name the metrics are under, and ``stage`` the
        stage, which may be empty."""
        self._name = name
        self._stage = stage
        self._started = time.time()
        self._recent: deque[tuple[float, int, int]] = deque()
        self._unwritable: set[str] = set()

    def scanned(self, drain: Drain, tally: Tally, *, quiet: bool) -> None:
        """A scan is over; a ``quiet`` one that did nothing gets no line."""
        metrics = _measured(tally)
        self._note(metrics["UploadedFiles"], metrics["UploadedBytes"])
        idle = not (tally.uploaded or tally.errors or tally.already_there)
        level = logging.DEBUG if quiet and idle else logging.INFO
        fields = embedded(metrics, self._name, self._stage)
        _log.log(level, "%s", tally.line(), extra={FIELDS: fields})
        state = self._state(drain, tally, metrics)
        for root in drain.roots.values():
            self._write(root, state)

    def _note(self, files: int, size: int) -> None:
        now = time.time()
        self._recent.append((now, files, size))
        while self._recent[0][0] < now - _WINDOW_SECONDS:
            self._recent.popleft()

    def _state(self, drain: Drain, tally: Tally, metrics: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        seconds = min(_WINDOW_SECONDS, max(1.0, now - self._started))
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self._started,
            "scanned": now,
            "last_scan": {
                "processed": tally.processed,
                "uploaded": tally.uploaded,
                "skipped": tally.skipped,
                "errors": tally.errors,
                "left": tally.left,
            },
            "throughput": {
                "window_seconds": round(seconds),
                "files_per_second": sum(files for _, files, _ in self._recent) / seconds,
                "bytes_per_second": sum(size for _, _, size in self._recent) / seconds,
            },
            "buckets": {
                bucket: asdict(error) for bucket, error in drain.health.last_errors().items()
            },
        }

    def _write(self, root: Root, state: dict[str, Any]) -> None:
        try:
            told = json.dumps({"root": root.state.root, **state})
            # Written anew by the next scan, of which there are several a second at busy times.
            root.state.replace(STATE, told.encode(), lasting=False)
        except OSError as error:
            if root.path not in self._unwritable:
                _log.warning("The state of %s cannot be written: %s.", root.path, error)
            self._unwritable.add(root.path)
        else:
            self._unwritable.discard(root.path)


def _measured(tally: Tally) -> dict[str, Any]:
    files, size = tally.pending
    oldest = 0.0 if tally.oldest is None else max(0.0, time.time() - tally.oldest)
    return {
        "UploadedFiles": tally.uploaded,
        "UploadedBytes": tally.uploaded_bytes,
        "PendingFiles": files,
        "PendingBytes": size,
        "OldestAge": round(oldest, 1),
        "Errors": tally.errors,
    }


def embedded(metrics: dict[str, Any], name: str, stage: str) -> dict[str, Any]:
    """The metrics in CloudWatch's embedded metric format, for the fields of a JSON log line.

    Once for all agents of the stage together and once by instance; agents of no stage are
    together without a dimension. Source: "Specification: Embedded metric format", CloudWatch
    user guide.
    """
    together = {"Stage": stage} if stage else {}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [[*together], [*together, "Instance"]],
        "Metrics": [{"Name": metric, "Unit": unit} for metric, unit in _METRICS.items()],
    }
    aws = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": aws, **together, "Instance": name, **metrics}
