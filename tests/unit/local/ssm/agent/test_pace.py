"""The pace of a genuine agent: its logs, its rate, its room for commands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from codeferry_local.ssm.agent.shell import ShellExecutor
from codeferry_local.ssm.output import EVENT_BYTES, LogShipper
from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import (
    INSTANCE,
    SCALE,
    Bench,
    RecordedEvents,
    invocation_of,
    until,
)

TICK = 0.05


class Logs:
    """CloudWatch Logs that remembers what it was given, or refuses all of it."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.calls: list[tuple[str, list[str]]] = []

    def create_log_group(self, **_: str) -> None:
        pass

    def create_log_stream(self, **_: str) -> None:
        pass

    def put_log_events(self, **given: Any) -> None:
        messages = [event["message"] for event in given["logEvents"]]
        self.calls.append((given["logStreamName"], messages))
        if self.refuses:
            raise EndpointConnectionError(endpoint_url="http://logs")

    def messages(self, stream: str = "s/stdout") -> list[str]:
        return [m for name, messages in self.calls if name == stream for m in messages]


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
def shipper(logs: Logs) -> Iterator[LogShipper]:
    """What ships every TICK, as the agent does every second."""
    made = LogShipper(lambda: logs, pace=TICK)
    yield made
    made.stop()


def test_what_is_new_within_a_second_is_one_event(logs: Logs, shipper: LogShipper) -> None:
    """All whole lines together, empty ones too, CRLF as LF, the last line end taken off when
    the output is complete (getNextMessage and buildEventInfo of cloudwatchlogsservice.go)."""
    log = shipper.step_log("g", "s")
    assert log is not None
    log.stdout.write(b"one\r\n\n\nfour\n\nhalf")
    until(lambda: logs.messages() == ["one\n\n\nfour\n\n"])
    log.stdout.write(b" and half\nlast")
    until(lambda: logs.messages()[1:] == ["half and half\n"])
    log.stdout.close()
    assert logs.messages()[2:] == ["last"]


def test_complete_output_loses_its_last_line_end(logs: Logs, shipper: LogShipper) -> None:
    """One, of each event that is sent after the step has ended."""
    log = shipper.step_log("g", "s")
    assert log is not None
    log.stdout.write(b"a\n\n")
    log.stdout.close()
    assert "".join(logs.messages()) in ("a\n", "a\n\n")  # ended before or after a look


def test_events_are_bounded_and_four_at_once(logs: Logs, shipper: LogShipper) -> None:
    """An event has up to 200,000 bytes of lines, a call up to four events; an endless line comes
    in pieces (MessageLengthThresholdInBytes, maxNumberOfEventsPerCall)."""
    log = shipper.step_log("g", "s")
    assert log is not None
    begun = time.monotonic()
    text = (b"x" * 99 + b"\n") * 10_000 + b"y" * 1_000_000 + b"\n"
    log.stdout.write(text)
    until(lambda: "".join(logs.messages()) == text.decode())
    assert max(len(message) for message in logs.messages()) == EVENT_BYTES
    assert max(len(messages) for _, messages in logs.calls) == 4
    # Once a second at most.
    assert len(logs.calls) <= (time.monotonic() - begun) / TICK + 1


def paced(executor: ShellExecutor, root: Path, script: str, log: Any) -> None:
    executor.run(invocation_of(root, script, log=log))


def test_step_ends_after_its_log(tmp_path: Path, logs: Logs, shipper: LogShipper) -> None:
    """Each output is waited for, one after the other: a look that sends, a look that finds the
    end, and one for stderr (Read of fileS3.go, Close of iohandler.go): 2 to 3 s."""
    begun = time.monotonic()
    paced(ShellExecutor(), tmp_path, "#!/bin/sh\necho out\n", shipper.step_log("g", "s"))
    assert logs.messages() == ["out"] or logs.messages() == ["out\n"]
    assert time.monotonic() - begun >= 2 * TICK


def test_log_that_is_refused_holds_the_step_up_for_a_minute(tmp_path: Path) -> None:
    """It is tried once a second, until 60 s after the step (maxCloudWatchUploadRetry)."""
    logs = Logs(refuses=True)
    shipper = LogShipper(lambda: logs, pace=0.01)
    begun = time.monotonic()
    paced(ShellExecutor(), tmp_path, "#!/bin/sh\necho out\n", shipper.step_log("g", "s"))
    assert time.monotonic() - begun >= 0.5
    until(lambda: not shipper._streams)
    assert len(logs.calls) > 1
    shipper.stop()


def test_without_pace_no_step_waits_for_its_log(tmp_path: Path) -> None:
    """In the demo and in the suite logging costs nothing."""
    logs = Logs(refuses=True)
    shipper = LogShipper(lambda: logs)
    log = shipper.step_log("g", "s")
    assert log is not None
    paced(ShellExecutor(), tmp_path, "#!/bin/sh\necho out\n", log)
    assert not log.stdout.over
    shipper.stop()
    assert log.stdout.over


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A server whose instances are as slow as genuine ones, scaled."""
    events = RecordedEvents()
    with SsmServer(time_scale=SCALE, event_sink=events) as server:
        made = Bench(server, tmp_path, events)
        made.instance()
        yield made


def test_output_is_taken_slowly_and_holds_the_program_up(bench: Bench) -> None:
    """20 MB need 40 s at half a megabyte a second, more than the 20 s the step has (Read of
    iomodule/commandoutput.go: byte by byte)."""
    bench.document("head -c 20000000 /dev/zero")
    invocation = bench.ran(Parameters={"executionTimeout": ["20"]})
    assert invocation["StatusDetails"] == "ExecutionTimedOut"


def busy(bench: Bench, commands: int) -> tuple[list[str], Path]:
    """So many commands to one instance, five of which run; each ends when the directory holds
    ``all`` or its id."""
    go, started = bench.root / "go", bench.root / "started"
    started.mkdir()
    go.mkdir()
    bench.document(
        f"touch {started}/$SSM_COMMAND_ID",
        f"until [ -e {go}/all ] || [ -e {go}/$SSM_COMMAND_ID ]; do sleep 0.02; done",
    )
    sent = [bench.send() for _ in range(commands)]
    until(lambda: len(list(started.iterdir())) == 5)
    return sent, go


def detail_of(bench: Bench, command_id: str) -> str:
    """The invocation's StatusDetails, whatever its step's are."""
    return str(bench.invocations(command_id)[INSTANCE]["StatusDetails"])


def test_agent_takes_up_five_and_five(bench: Bench) -> None:
    """Ten commands are delivered, the eleventh is not until there is room: its delivery can time
    out (CommandWorkersLimit, CommandWorkerBufferLimit; AcquireBufferToken of task/pool.go)."""
    sent, go = busy(bench, 11)
    bench.server.advance(3_600)  # TimeoutSeconds' default
    until(lambda: detail_of(bench, sent[10]) == "DeliveryTimedOut")
    assert {detail_of(bench, command) for command in sent[:10]} == {"InProgress"}
    (go / "all").touch()
    assert {bench.ended(command)["Status"] for command in sent[:10]} == {"Success"}


def test_cancel_waits_behind_a_command_without_room(bench: Bench) -> None:
    """Messages are read in order: while the eleventh command waits, a cancel of the first is not
    read, and what runs goes on (processMessage of mdsinteractor.go)."""
    sent, go = busy(bench, 11)
    bench.ssm.cancel_command(CommandId=sent[0])
    assert detail_of(bench, sent[0]) == "Cancelling"
    (go / sent[1]).touch()  # the sixth begins, and leaves room for the eleventh
    assert bench.ended(sent[0])["Status"] == "Cancelled"
    (go / "all").touch()
    assert {bench.ended(command)["Status"] for command in sent[1:]} == {"Success"}


def test_cancel_is_not_read_while_there_is_no_room(bench: Bench) -> None:
    """The command that was to be cancelled can end before its cancel is read."""
    sent, go = busy(bench, 11)
    bench.ssm.cancel_command(CommandId=sent[0])
    (go / sent[0]).touch()
    assert bench.ended(sent[0])["Status"] == "Success"
    (go / "all").touch()
    assert bench.ended(sent[10])["Status"] == "Success"
