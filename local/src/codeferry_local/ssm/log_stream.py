"""Streams a step's output to CloudWatch Logs while it runs, as Run Command does.

One thread ships for every step. Its queue is bounded: a slow log slows the step, and one
that cannot be written costs a warning, never the command.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)

_QUEUE_LENGTH = 20_000
_BATCH_SECONDS = 0.25
_PATIENCE_SECONDS = 10.0
# PutLogEvents: 10,000 events, 1 MiB with 26 bytes per event; an event below 256 KiB.
_BATCH_EVENTS, _BATCH_BYTES, _EVENT_OVERHEAD, _EVENT_BYTES = 10_000, 1_000_000, 26, 200_000


@dataclass(frozen=True)
class _Line:
    group: str
    stream: str
    milliseconds: int
    text: str


class StreamLog:
    """One output of one step: cuts bytes into lines and passes them on."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._partial = b""

    def write(self, chunk: bytes) -> None:
        """Take bytes; whole lines leave at once, an endless one in pieces."""
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._send(line)
        if len(self._partial) >= _EVENT_BYTES:
            self.close()

    def close(self) -> None:
        """Pass on what has no line end."""
        self._send(self._partial)
        self._partial = b""

    def _send(self, line: bytes) -> None:
        for start in range(0, len(line), _EVENT_BYTES):
            self._emit(line[start : start + _EVENT_BYTES].decode(errors="replace"))


@dataclass(frozen=True)
class StepLog:
    """The two streams of one step."""

    stdout: StreamLog
    stderr: StreamLog


class LogShipper:
    """Ships lines in batches; ``client`` makes a CloudWatch Logs client when first needed."""

    def __init__(self, client: Callable[[], Any]) -> None:
        self._client = client
        self._queue: queue.Queue[_Line | None] = queue.Queue(_QUEUE_LENGTH)
        self._ready: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    def step_log(self, group: str, prefix: str) -> StepLog:
        """The streams ``<prefix>/stdout`` and ``<prefix>/stderr`` of a log group."""
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ssm-logs", daemon=True)
                self._thread.start()
        return StepLog(*(self._stream(group, f"{prefix}/{name}") for name in ("stdout", "stderr")))

    def stop(self) -> None:
        """Ship what is queued, then end."""
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=5)
            except queue.Full:
                logger.warning("CloudWatch Logs does not answer; what is queued is dropped")
            self._thread.join(timeout=10)
            self._thread = None

    def _stream(self, group: str, stream: str) -> StreamLog:
        def emit(text: str) -> None:
            # A full queue holds the step up, as a full pipe does: the agent reads its output
            # from a file and loses none of it either.
            line = _Line(group, stream, int(time.time() * 1000), text)
            try:
                self._queue.put(line, timeout=_PATIENCE_SECONDS)
            except queue.Full:
                logger.warning("CloudWatch Logs does not answer; a line of %s is dropped", stream)

        return StreamLog(emit)

    def _work(self) -> None:
        running = True
        while running:
            lines = [self._queue.get()]
            deadline = time.monotonic() + _BATCH_SECONDS
            while lines[-1] is not None and len(lines) < _BATCH_EVENTS:
                try:
                    lines.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
                except queue.Empty:
                    break
            running = lines[-1] is not None
            self._ship(line for line in lines if line is not None)

    def _ship(self, lines: Iterable[_Line]) -> None:
        by_stream: dict[tuple[str, str], list[_Line]] = defaultdict(list)
        for line in lines:
            by_stream[line.group, line.stream].append(line)
        for (group, stream), batch in by_stream.items():
            try:
                self._put(group, stream, batch)
            except (BotoCoreError, ClientError) as error:
                logger.warning("%d lines of %s not logged: %s", len(batch), stream, error)

    def _put(self, group: str, stream: str, lines: list[_Line]) -> None:
        client = self._client()
        if (group, stream) not in self._ready:
            _create(client.create_log_group, logGroupName=group)
            _create(client.create_log_stream, logGroupName=group, logStreamName=stream)
            self._ready.add((group, stream))
        for batch in _batches(lines):
            client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)


def _create(call: Callable[..., Any], **names: str) -> None:
    try:
        call(**names)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise


def _batches(lines: Iterable[_Line]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    room = _BATCH_BYTES
    for line in lines:
        size = len(line.text.encode()) + _EVENT_OVERHEAD
        if batch and (size > room or len(batch) == _BATCH_EVENTS):
            yield batch
            batch, room = [], _BATCH_BYTES
        # CloudWatch refuses an empty message.
        batch.append({"timestamp": line.milliseconds, "message": line.text or " "})
        room -= size
    if batch:
        yield batch
