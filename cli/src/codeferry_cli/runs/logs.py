"""Read the output of a run's commands from CloudWatch Logs: all of it, or what is new."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import LogsMissing
from codeferry_cli.runs.execution import Execution, describe
from codeferry_cli.runs.log_lines import (
    OUTPUTS,
    CommandLines,
    Line,
    final_lines,
    stream_name,
    stream_owner,
)
from codeferry_cli.runs.record import RunRecord
from codeferry_contracts.names import SCRIPT
from codeferry_contracts.report import CommandRecord

# The step that does the work, in the documents of stacks/documents.
_STEP, _STEP_OF_SCRIPTS = "apply", "script"

# An event may become visible after one with a later time: instances send theirs in batches.
OVERLAP_MS = 10_000
CLOCK_MS = 3_600_000  # how far behind an instance's clock may be, which stamps its lines
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.5, 2.0  # seconds
_GROWTH = 1.3
_PACE = 0.25  # seconds between requests where there are many: 4 of the account's 5 a second
_PAGE_LINES = 1000
# What is still on its way when the run ends; older runs have nothing on its way.
_SETTLING_SECONDS = 2.0
_SETTLED_AFTER = 60.0


def read_lines(
    stage: DeployedStage, execution: Execution, instance: str | None = None, since: int = 0
) -> Iterator[list[Line]]:
    """All that is kept of a run's output: one instance after the other, in order of time.

    In pages, so that memory stays bounded; ``since`` in milliseconds since 1970. Raises
    LogsMissing when the log group is not there (any more).
    """
    step = _STEP_OF_SCRIPTS if execution.workflow == SCRIPT else _STEP
    for _, command in RunRecord(stage, execution.run_id).commands():
        for instance_id in command["instances"]:
            if instance in (None, instance_id):
                outputs = (
                    _read_output(
                        stage, command, CommandLines(instance_id, o, execution.run_id), step, since
                    )
                    for o in OUTPUTS
                )
                yield from _in_order(outputs)


def _in_order(outputs: Iterable[Iterator[Line]]) -> Iterator[list[Line]]:
    page: list[Line] = []
    for line in heapq.merge(*outputs, key=lambda line: line.time):
        page.append(line)
        if len(page) >= _PAGE_LINES:
            yield page
            page = []
    if page:
        yield page


def _read_output(
    stage: DeployedStage, command: CommandRecord, lines: CommandLines, step: str, since: int
) -> Iterator[Line]:
    name = stream_name(command["command_id"], lines.instance, step, lines.output)
    events = _read_stream(stage, command["log_group"], name, since)
    yield from final_lines(line for event in events for line in lines.of(event))


def _read_stream(
    stage: DeployedStage, group: str, name: str, since: int
) -> Iterator[dict[str, Any]]:
    """The events of one stream, oldest first; the token repeats itself when all are read."""
    from botocore.exceptions import ClientError

    place = {"logGroupName": group, "logStreamName": name, "startFromHead": True}
    token: dict[str, str] = {}
    while True:
        try:
            page = stage.logs.get_log_events(**place, startTime=since, **token)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            if "log stream" not in str(error):
                raise _group_missing(group) from error
            return  # nothing was printed there
        yield from page["events"]
        if page["nextForwardToken"] == token.get("nextToken"):
            return
        token = {"nextToken": page["nextForwardToken"]}


def _group_missing(group: str) -> LogsMissing:
    return LogsMissing(
        f"The log group {group} does not exist: nothing was logged yet, or it was deleted.",
        hint="The end of the output is in the run's report: ferry status RUN",
    )


class LogTail:
    """What becomes visible of a run's output from one look to the next.

    ``since`` in milliseconds since 1970: what is logged as earlier is not looked for.
    """

    def __init__(
        self, stage: DeployedStage, run_id: str, since: int, instance: str | None = None
    ) -> None:
        self._stage = stage
        self._run_id = run_id
        self._record = RunRecord(stage, run_id)
        self._instance = instance
        self._since = since
        self._commands: dict[str, _CommandTail] = {}
        self._looks = 0
        self.instances: list[str] = []

    @property
    def commands(self) -> int:
        """How many commands the run has so far."""
        return len(self._commands)

    def fresh(self) -> Iterator[list[Line]]:
        """The new lines of one command, in pages and in order of time; another one's each time.

        An account may ask FilterLogEvents 5 times a second, all its followers together, so one
        look is one request however many commands there are. Every other look is at the newest
        command, which in a roll-out is the one that runs.
        """
        self.look_for_commands()
        commands = list(self._commands.values())
        if commands:
            turn, newest = divmod(self._looks, 2)
            self._looks += 1
            yield from self._fresh_of(commands[-1 if newest else turn % len(commands)])

    def rest(self, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[Line]]:
        """The new lines of every command, one after the other and not faster than is allowed."""
        self.look_for_commands()
        for number, command in enumerate(self._commands.values()):
            if number:
                sleep(_PACE)
            yield from self._fresh_of(command)

    def _fresh_of(self, command: _CommandTail) -> Iterator[list[Line]]:
        for page in command.fresh():
            lines = [line for line in page if self._instance in (None, line.instance)]
            if lines:
                yield lines

    def planned_instances(self) -> int | None:
        """How many instances the run is about; None until that is known."""
        return self._record.planned_instances()

    def look_for_commands(self) -> None:
        """Learn which instances the run has reached so far; see ``instances``."""
        for key, command in self._record.commands(known=self._commands):
            self._commands[key] = _CommandTail(self._stage, self._run_id, command, self._since)
            self.instances += command["instances"]


class _CommandTail:
    """One command's events, each given out once.

    A whole batch of instances is one request. Every look goes back a little behind the
    newest event, and remembers which of those it has given out.
    """

    def __init__(
        self, stage: DeployedStage, run_id: str, command: CommandRecord, since: int
    ) -> None:
        self._stage = stage
        self._run_id = run_id
        self._streams: dict[str, CommandLines] = {}
        self._command_id = command["command_id"]
        self._group = command["log_group"]
        self._since = since
        self._seen: dict[str, int] = {}

    def fresh(self) -> Iterator[list[Line]]:
        for page in self._pages():
            events = [event for event in page if event["eventId"] not in self._seen]
            self._remember(events)
            yield [line for event in events for line in self._lines(event)]

    def _remember(self, events: list[dict[str, Any]]) -> None:
        fresh = {event["eventId"]: event["timestamp"] for event in events}
        self._since = max([self._since, *(moment - OVERLAP_MS for moment in fresh.values())])
        seen = self._seen | fresh
        self._seen = {event: moment for event, moment in seen.items() if moment >= self._since}

    def _lines(self, event: dict[str, Any]) -> Iterator[Line]:
        name = event["logStreamName"]
        if name not in self._streams:
            found = stream_owner(name, self._command_id)
            if found is None:
                return iter(())
            self._streams[name] = CommandLines(*found, self._run_id)
        return self._streams[name].of(event)

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        from botocore.exceptions import ClientError

        pages = self._stage.logs.get_paginator("filter_log_events").paginate(
            logGroupName=self._group,
            logStreamNamePrefix=f"{self._command_id}/",
            startTime=self._since,
        )
        try:
            for page in pages:
                yield page["events"]
        except ClientError as error:
            # The first line makes the group: until then there is nothing to show.
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise


def follow_lines(
    stage: DeployedStage,
    execution: Execution,
    tail: LogTail,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Iterator[list[Line]]:
    """The lines of a run as they become visible, until it has ended and they all are."""
    interval = _SHORTEST_INTERVAL
    while True:
        execution = describe(stage, execution.workflow, execution.run_id)
        found = False
        for page in tail.fresh() if execution.running else tail.rest(sleep):
            found = True
            yield page
        if not execution.running:
            break
        interval = _SHORTEST_INTERVAL if found else min(interval * _GROWTH, _LONGEST_INTERVAL)
        # With more commands to look at in turns, none waits longer than it has to.
        sleep(max(_SHORTEST_INTERVAL, interval / max(1, tail.commands)))
    if execution.stopped and clock() - execution.stopped.timestamp() < _SETTLED_AFTER:
        sleep(_SETTLING_SECONDS)
        yield from tail.rest(sleep)
