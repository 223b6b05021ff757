"""Status for people and monitoring: state file, `drain status`, metrics and the scan's log line.

What `drain status` answers: the files that wait, counted now, and what the agent wrote."""

from __future__ import annotations

import json
import logging
import os
import pwd
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codeferry_agent.drain.error_policy import BucketErrors
from codeferry_agent.drain.files.root import Root, is_drained, matching
from codeferry_agent.drain.files.scan import Directory, Found, Listener, files, shown
from codeferry_agent.drain.files.state import OF_ROOT, STATE, State, home_of
from codeferry_agent.drain.logs import FIELDS
from codeferry_agent.drain.summary import Summary
from codeferry_contracts.escaping import one_line

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

    def scanned(
        self, roots: Iterable[Root], errors: BucketErrors, summary: Summary, *, quiet: bool
    ) -> None:
        """A scan is over; a ``quiet`` one that did nothing gets no line."""
        metrics = _measured(summary)
        self._note(metrics["UploadedFiles"], metrics["UploadedBytes"])
        idle = not (summary.uploaded or summary.errors or summary.already_there)
        level = logging.DEBUG if quiet and idle else logging.INFO
        fields = embedded(metrics, self._name, self._stage)
        _log.log(level, "%s", summary.line(), extra={FIELDS: fields})
        state = self._state(errors, summary, metrics)
        for root in roots:
            self._write(root, state)

    def _note(self, files: int, size: int) -> None:
        now = time.time()
        self._recent.append((now, files, size))
        while self._recent[0][0] < now - _WINDOW_SECONDS:
            self._recent.popleft()

    def _state(
        self, errors: BucketErrors, summary: Summary, metrics: dict[str, Any]
    ) -> dict[str, Any]:
        now = time.time()
        seconds = min(_WINDOW_SECONDS, max(1.0, now - self._started))
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": self._started,
            "scanned": now,
            "last_scan": {
                "processed": summary.processed,
                "uploaded": summary.uploaded,
                "skipped": summary.skipped,
                "errors": summary.errors,
                "left": summary.left,
            },
            "throughput": {
                "window_seconds": round(seconds),
                "files_per_second": sum(files for _, files, _ in self._recent) / seconds,
                "bytes_per_second": sum(size for _, _, size in self._recent) / seconds,
            },
            "buckets": {bucket: asdict(error) for bucket, error in errors.last_errors().items()},
        }

    def _write(self, root: Root, state: dict[str, Any]) -> None:
        try:
            text = json.dumps({"root": root.state.root, **state})
            # Written anew by the next scan, of which there are several a second at busy times.
            root.state.replace(STATE, text.encode(), lasting=False)
        except OSError as error:
            if root.path not in self._unwritable:
                _log.warning("The state of %s cannot be written: %s.", root.path, error)
            self._unwritable.add(root.path)
        else:
            self._unwritable.discard(root.path)


def _measured(summary: Summary) -> dict[str, Any]:
    files, size = summary.pending
    oldest = 0.0 if summary.oldest is None else max(0.0, time.time() - summary.oldest)
    return {
        "UploadedFiles": summary.uploaded,
        "UploadedBytes": summary.uploaded_bytes,
        "PendingFiles": files,
        "PendingBytes": size,
        "OldestAge": round(oldest, 1),
        "Errors": summary.errors,
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


_NAMED = 10  # of what is left alone


def status_of(patterns: Iterable[str]) -> dict[str, Any]:
    """One entry for each root that the patterns name or match."""
    return {"roots": [_root_status(path) for path in matching(patterns)]}


def _root_status(path: str) -> dict[str, Any]:
    count = size = 0
    oldest: float | None = None
    unreadable: list[str] = []
    left: list[dict[str, str]] = []
    listener = Listener(
        lambda where, _: unreadable.append(where),
        left=lambda where, why: left.append({"path": where, "why": why.value}),
    )
    for found in _waiting_files(path, listener):
        count, size = count + 1, size + found.size
        oldest = found.modified if oldest is None else min(oldest, found.modified)
    age = None if oldest is None else max(0.0, time.time() - oldest)
    return {
        "root": path,
        "running": is_drained(path),
        "pending_files": count,
        "pending_bytes": size,
        "oldest_seconds": None if age is None else round(age, 1),
        "unreadable": unreadable,
        "left": len(left),
        "left_first": left[:_NAMED],
        "agent": _state(path),
    }


def _waiting_files(path: str, listener: Listener) -> Iterator[Found]:
    try:
        top = Directory.top(path)
    except OSError as error:
        listener.on_error("", error)
    else:
        yield from files(top, listener)


def _state(path: str) -> dict[str, Any] | None:
    """What an agent wrote after its last scan, the latest if there were several; None when none
    ever did, or it is not for this user to read: it names buckets and files of other roots too."""
    found = []
    for state in _places(path):
        with suppress(OSError, ValueError, RecursionError):
            found.append(json.loads(state.read(STATE)))
    return max(filter(_said_by_agent, found), key=lambda state: state["scanned"], default=None)


def _places(path: str) -> Iterator[State]:
    """Where this user's agent keeps its state, the instance's, and that of the root's owner."""
    for name in {path, os.path.realpath(path)}:
        yield State(name)
        yield State(name, OF_ROOT, 0)
        with suppress(OSError, KeyError):
            owner = pwd.getpwuid(os.stat(path).st_uid)  # noqa: PTH116
            yield State(name, home_of(Path(owner.pw_dir)), owner.pw_uid)


def lines(status: dict[str, Any]) -> Iterable[str]:
    """The same for people. What others may have written, names or state, acts on no terminal."""
    if not status["roots"]:
        yield "There is no such directory."
    for root in status["roots"]:
        yield from map(one_line, _root_lines(root))


def _root_lines(root: dict[str, Any]) -> Iterable[str]:
    agent = root["agent"]
    pid = (agent or {}).get("pid")
    running = (
        f"drained by process {pid}" if isinstance(pid, int) else "drained by another user's agent"
    )
    yield f"{shown(root['root'])}: {running if root['running'] else 'no agent is running'}"
    oldest = (
        "" if root["oldest_seconds"] is None else f", the oldest {root['oldest_seconds']:g} s old"
    )
    yield f"  waiting: {root['pending_files']:,} files, {root['pending_bytes']:,} bytes{oldest}"
    for where in root["unreadable"]:
        yield f"  unreadable: {shown(where or root['root'])}"
    if root["left"]:
        yield f"  left alone: {root['left']:,}, among them"
    for found in root["left_first"]:
        yield f"    {shown(found['path'])}: {found['why']}"
    if agent:
        yield from _said_by_agent(agent) or ["  the agent's state cannot be read"]


def _said_by_agent(state: Any) -> list[str]:
    """The lines of what ``StatusWriter`` wrote; none of anything else, for anybody may have."""
    try:
        return list(_agent_lines(state))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return []


def _agent_lines(agent: dict[str, Any]) -> Iterable[str]:
    scan, speed = agent["last_scan"], agent["throughput"]
    ago = time.time() - agent["scanned"]
    counts = " ".join(f"{name}={number}" for name, number in scan.items())
    yield f"  last scan: {ago:.0f} s ago, {counts}"
    yield (
        f"  throughput: {speed['files_per_second']:.1f} files/s, "
        f"{speed['bytes_per_second'] / 1e6:.2f} MB/s over {speed['window_seconds']} s"
    )
    for bucket, error in sorted(agent["buckets"].items()):
        state = "over" if error["over"] else "not over"
        ago = time.time() - error["at"]
        yield f"  last error of {bucket}: {ago:.0f} s ago ({state}): {error['message']}"
