"""A step's outputs: cut to the sizes that SSM answers with, and streamed to CloudWatch Logs.

The limits and the cuts are those of ``iohandler.go`` and ``runpluginutil.go`` of the
amazon-ssm-agent. The stream is ``StreamData`` and ``getNextMessage`` (cloudwatchlogsservice.go):
every second one event of all whole lines that are new, up to 200,000 bytes, and four such events at
most. A log that cannot be written costs a warning, never the command.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

# GetCommandInvocation has so many bytes of either output (DefaultOutputConfig, MaxStdoutLength:
# the agent cuts stderr by it too), ListCommandInvocations so many of both
# (MaximumPluginOutputSize).
HEAD_LIMIT, BOTH_LIMIT = 24_000, 2_500

_HEAD_CUT = "--output truncated--"
_ERROR_TITLE = "\n----------ERROR-------\n"
_OUTPUT_CUT = "\n---Output truncated---"
_ERROR_CUT = "\n---Error truncated----"

logger = logging.getLogger(__name__)
EVENT_BYTES, EVENTS_AT_ONCE = 200_000, 4
# UploadFrequency, and how many of it a step waits for its log (maxCloudWatchUploadRetry).
UPLOAD_SECONDS, MOST_WAITS = 1.0, 60
# How often it is written where pace is no matter.
_UNPACED_SECONDS = 0.2
# The agent reads from a file that may grow; what is held in memory here may not.
_ROOM = 16 * 1024 * 1024
_WRITE_SECONDS = 10.0
Events = list[dict[str, Any]]


def head(text: str, limit: int = HEAD_LIMIT) -> str:
    """The output, or its first bytes and a mark: ``limit`` in all (StringPrefix).

    Exactly ``limit`` is cut already.
    """
    whole = text.encode()
    return text if len(whole) < limit else _first(whole, limit - len(_HEAD_CUT)) + _HEAD_CUT


def both(stdout: str, stderr: str, limit: int = BOTH_LIMIT) -> str:
    """Both outputs as one text of at most ``limit`` bytes (TruncateOutput).

    Exactly ``limit`` is cut already; stdout of half the limit is still kept whole.
    """
    out, err = stdout.encode(), stderr.encode()
    title = _ERROR_TITLE if err else ""
    space = limit - len(title)
    if len(out) + len(err) < space:
        return stdout + title + stderr
    if len(out) > space // 2 and len(err) > space // 2:
        half = (space - len(_ERROR_CUT) - len(_OUTPUT_CUT)) // 2
        return _first(out, half) + _OUTPUT_CUT + title + _first(err, half) + _ERROR_CUT
    if len(out) <= space // 2:
        return stdout + title + _first(err, space - len(_ERROR_CUT) - len(out)) + _ERROR_CUT
    return _first(out, space - len(_OUTPUT_CUT) - len(err)) + _OUTPUT_CUT + title + stderr


def _first(text: bytes, size: int) -> str:
    return text[: max(size, 0)].decode(errors="ignore")


class StreamLog:
    """One output of one step; ``waits``: whether closing it waits for what is still to be sent."""

    def __init__(self, group: str, name: str, *, tick: float, waits: bool) -> None:
        self.group = group
        self.name = name
        self.created = False
        self._tick = tick
        self._waits = waits
        self._changed = threading.Condition()
        self._pending = bytearray()
        self._complete = False
        self._over = False
        self._waited = 0

    def write(self, chunk: bytes) -> None:
        """Take bytes."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or len(self._pending) < _ROOM, _WRITE_SECONDS)
            if len(self._pending) < _ROOM:
                self._pending += chunk
            elif not self._over:
                logger.warning("CloudWatch Logs does not answer; output of %s is lost", self.name)

    def close(self) -> None:
        """Nothing more is written: a last line without an end is sent, too."""
        with self._changed:
            self._complete = True
            if self._waits:
                self._changed.wait_for(lambda: self._over, MOST_WAITS * self._tick)

    def end(self) -> None:
        """Nothing more is sent, and nobody waits for it."""
        with self._changed:
            self._over = True
            self._pending.clear()
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether all is sent, or nothing will be any more."""
        with self._changed:
            return self._over

    def next(self) -> tuple[Events, int]:
        """The next events and how many bytes they are; none of a complete output ends it."""
        with self._changed:
            text = bytes(self._pending[: (EVENTS_AT_ONCE + 1) * EVENT_BYTES])
            complete = self._complete
            self._waited += complete
        events, size = _events(text, complete=complete)
        if complete and (not events or self._waited > MOST_WAITS):
            self.end()
        return events, size

    def sent(self, size: int) -> None:
        """So many bytes need not be sent again."""
        with self._changed:
            del self._pending[:size]
            self._changed.notify_all()


def _events(text: bytes, *, complete: bool) -> tuple[Events, int]:
    messages: list[bytes] = []
    message, taken = b"", 0
    for line in _lines(text, complete=complete):
        if len(message) + len(line) > EVENT_BYTES:
            messages.append(message)
            message = b""
            if len(messages) == EVENTS_AT_ONCE:
                break
        message += line
        taken += len(line)
    if message:
        messages.append(message)
    now = int(time.time() * 1000)
    return [
        {"timestamp": now, "message": _event_text(m, complete=complete)} for m in messages
    ], taken


def _lines(text: bytes, *, complete: bool) -> list[bytes]:
    """Whole lines with their ends, an endless one in pieces, the rest only when it is the last."""
    lines: list[bytes] = []
    for line in _cut(text):
        lines.extend(line[at : at + EVENT_BYTES] for at in range(0, len(line), EVENT_BYTES))
    if lines and not complete and not lines[-1].endswith(b"\n") and len(lines[-1]) < EVENT_BYTES:
        del lines[-1]
    return lines


def _cut(text: bytes) -> list[bytes]:
    *whole, rest = text.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _event_text(message: bytes, *, complete: bool) -> str:
    text = message.decode(errors="replace").replace("\r\n", "\n")
    return text.removesuffix("\n") if complete else text


@dataclass(frozen=True)
class StepLog:
    """The two streams of one step."""

    stdout: StreamLog
    stderr: StreamLog


class LogShipper:
    """Sends what streams hold; ``client`` makes a CloudWatch Logs client when first needed.

    ``pace``: seconds for each of the agent's, when a step is to wait for its log as there.
    Without, what is new is sent several times a second and no step waits.
    """

    def __init__(self, client: Callable[[], Any], *, pace: float | None = None) -> None:
        self._client = client
        self._paced = pace is not None
        self._tick = _UNPACED_SECONDS if pace is None else UPLOAD_SECONDS * pace
        self._streams: list[StreamLog] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def step_log(self, group: str, prefix: str) -> StepLog | None:
        """The streams ``<prefix>/stdout`` and ``<prefix>/stderr``; None without the group.

        A group that cannot be made costs the step its log (Init of iohandler.go).
        """
        try:
            _create(self._client().create_log_group, logGroupName=group)
        except (BotoCoreError, ClientError) as error:
            logger.warning("Output is not logged to %s: %s", group, error)
            return None
        streams = [
            StreamLog(group, f"{prefix}/{name}", tick=self._tick, waits=self._paced)
            for name in ("stdout", "stderr")
        ]
        with self._changed:
            self._streams += streams
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ssm-logs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return StepLog(*streams)

    def stop(self) -> None:
        """Send once what is there, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._streams)
                stopping = self._changed.wait_for(lambda: self._stopping, self._tick)
                streams = list(self._streams)
            for stream in streams:
                self._ship(stream)
                if stopping:
                    stream.end()
            with self._changed:
                self._streams = [stream for stream in self._streams if not stream.over]
                if stopping:
                    return

    def _ship(self, stream: StreamLog) -> None:
        events, size = stream.next()
        if not events:
            return
        names = {"logGroupName": stream.group, "logStreamName": stream.name}
        try:
            if not stream.created:
                _create(self._client().create_log_stream, **names)
                stream.created = True
            self._client().put_log_events(**names, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            logger.warning("Output of %s is not logged: %s", stream.name, error)
            if not stream.created or _code(error) == "ResourceNotFoundException":
                stream.end()
            return
        stream.sent(size)


def _create(call: Callable[..., Any], **names: str) -> None:
    try:
        call(**names)
    except ClientError as error:
        if _code(error) != "ResourceAlreadyExistsException":
            raise


def _code(error: Exception) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
