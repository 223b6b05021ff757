"""`ferry logs`, against log streams on MiniStack: order, completeness, following, refusals."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.runs import logs
from codeferry_cli.runs.find import find_run
from codeferry_cli.runs.log_lines import CommandLines, Line
from codeferry_cli.runs.logs import LogTail, follow_lines
from codeferry_cli.terminal.progress import Throttle

ONE, TWO = "i-00000000000000001", "i-00000000000000002"

NOW = int(time.time() * 1000)


@pytest.fixture
def stage(world: Any) -> DeployedStage:
    return find_stage(Aws(Access(stage="local")))


class Printed:
    """A run whose output is written by the test: streams under a command of its own."""

    def __init__(self, world: Any, run_id: str, *, group: str = "", step: str = "apply") -> None:
        self.run_id = run_id
        self.group = group or f"/codeferry/test-{run_id}"
        self._world = world
        self._logs = world.client("logs")
        self._step = step
        self._streams: set[str] = set()
        record = {"command_id": f"c-{run_id}", "log_group": self.group, "instances": [ONE, TWO]}
        world.client("s3").put_object(
            Bucket=world.bucket,
            Key=f"runs/{run_id}/commands/00000.json",
            Body=json.dumps(record).encode(),
        )

    def write(self, instance: str, *lines: tuple[int, str], output: str = "stdout") -> None:
        """Events of (milliseconds from NOW, message)."""
        stream = f"c-{self.run_id}/{instance}/{self._step}/{output}"
        if stream not in self._streams:
            self._streams.add(stream)
            with contextlib.suppress(self._logs.exceptions.ResourceAlreadyExistsException):
                self._logs.create_log_group(logGroupName=self.group)
            self._logs.create_log_stream(logGroupName=self.group, logStreamName=stream)
        for start in range(0, len(lines), 10_000):
            self._logs.put_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                logEvents=[
                    {"timestamp": NOW + moment, "message": text}
                    for moment, text in lines[start : start + 10_000]
                ],
            )

    def stop(self) -> None:
        self._world.client("stepfunctions").stop_execution(
            executionArn=self._world.execution_arn(self.run_id)
        )


Begin = Callable[..., Printed]


@pytest.fixture
def begin(world: Any) -> Iterator[Begin]:
    """Starts a run that goes on until it is stopped, and stops it in the end."""
    begun: list[str] = []

    def start(**options: Any) -> Printed:
        run_id = f"by-hand-{secrets.token_hex(6)}"
        world.start(run_id, "slow")
        begun.append(run_id)
        world.await_state(run_id, "AwaitLong")
        return Printed(world, run_id, **options)

    yield start
    states = world.client("stepfunctions")
    for run_id in begun:
        states.stop_execution(executionArn=world.execution_arn(run_id))


def finished(world: Any, target: str = "fleet", workflow: str = "sync", **more: Any) -> str:
    run_id = f"by-hand-{secrets.token_hex(6)}"
    world.start(run_id, target, workflow, **more)
    world.await_end(run_id, workflow)
    return run_id


@pytest.mark.parametrize("workflow", ["sync", "script"])
def test_logs_of_a_run_that_is_over(ferry: Any, world: Any, workflow: str) -> None:
    """One instance after the other, each line with its own before it, our own lines hidden."""
    run_id = finished(world, workflow=workflow, command=["x"])
    answer = ferry("logs", run_id)
    assert answer.exit == 0, answer.err
    expected = [
        f"i-{number:017x} | {text}" for number in (1, 2, 3) for text in ("running x", "done")
    ]
    assert answer.out.splitlines() == expected


def test_json_is_one_document_of_lines(ferry: Any, world: Any) -> None:
    """Instance, time and the text as it was printed."""
    document = ferry("logs", finished(world, command=["x"]), "--json").json()
    assert document["success"] is True
    assert len(document["lines"]) == 6
    first = document["lines"][0]
    assert (first["instance"], first["text"]) == (ONE, "running x")
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert document["lines"][1]["text"] == "\x1b[31mdone\x1b[0m"


def test_json_and_follow_exclude_each_other(ferry: Any, world: Any) -> None:
    """One document has an end."""
    assert ferry("logs", "latest", "-f", "--json").exit == 2


def test_one_instance_is_shown_bare(ferry: Any, world: Any) -> None:
    """Without a prefix: it can be piped on."""
    answer = ferry("logs", finished(world, command=["x"]), "--instance", TWO)
    assert answer.out == "running x\ndone\n"


def test_an_instance_is_named_as_the_tables_name_it(ferry: Any, world: Any) -> None:
    """By its Name tag, as the plan has it; where several have it, they are listed."""
    run_id = finished(world, command=["x"])
    batch = [{"instance_id": ONE, "name": "web-1"}, {"instance_id": TWO, "name": "web-2"}]
    twin = [{"instance_id": f"i-{n}", "name": "twin"} for n in (1, 2)]
    body = json.dumps({"batches": [batch, twin]}).encode()
    world.client("s3").put_object(Bucket=world.bucket, Key=f"runs/{run_id}/targets.json", Body=body)
    by_id = ferry("logs", run_id, "--instance", TWO)
    assert ferry("logs", run_id, "--instance", "web-2").out == by_id.out != ""
    several = ferry("logs", run_id, "--instance", "twin")
    assert several.exit == 1
    assert "2 instances are called 'twin'" in several.err
    assert "i-1, i-2" in several.err


def test_an_instance_the_run_did_not_reach_is_named_with_those_it_did(
    ferry: Any, world: Any
) -> None:
    """A typo is not an empty log."""
    answer = ferry("logs", finished(world, command=["x"]), "--instance", "i-0")
    assert answer.exit == 1
    assert "did not reach i-0" in answer.err
    assert ONE in answer.err


def test_a_run_that_reached_no_instance_says_so(ferry: Any, world: Any) -> None:
    """With the command that says why."""
    run_id = finished(world, "dies")
    answer = ferry("logs", run_id)
    assert answer.exit == 1
    assert "reached no instance" in answer.err
    assert f"ferry status {run_id} --stage local" in answer.err


def test_a_log_group_that_is_gone_is_named(ferry: Any, world: Any, begin: Begin) -> None:
    """Deleted or never made: not an empty log."""
    printed = begin()
    answer = ferry("logs", printed.run_id)
    assert answer.exit == 1
    assert f"The log group {printed.group} does not exist" in answer.err


def test_nothing_printed_is_said(ferry: Any, world: Any, begin: Begin) -> None:
    """An empty answer would leave open whether anything was looked at."""
    printed = begin()
    printed.write(ONE, (0, result(printed.run_id)))
    printed.write(ONE, (1, STEP_FAILED), output="stderr")
    answer = ferry("logs", printed.run_id)
    assert (answer.exit, answer.out) == (0, "")
    assert "Nothing is kept" in answer.err


def test_errors_stand_among_the_output_by_time(ferry: Any, begin: Begin) -> None:
    """Both outputs of an instance are one story."""
    printed = begin()
    printed.write(ONE, (0, "a"), (20, "c"))
    printed.write(ONE, (10, "b"), output="stderr")
    printed.write(TWO, (5, "other"))
    shown = [line.split(" | ")[1] for line in ferry("logs", printed.run_id).out.splitlines()]
    assert shown == ["a", "b", "c", "other"]


def test_since_leaves_out_what_is_older(ferry: Any, begin: Begin) -> None:
    """By the time it was logged."""
    printed = begin()
    printed.write(ONE, (-3_600_000, "an hour ago"), (0, "now"))
    answer = ferry("logs", printed.run_id, "--since", "30m", "--instance", ONE)
    assert answer.out == "now\n"


def test_of_a_progress_bar_what_it_drew_last_is_a_line(ferry: Any, begin: Begin) -> None:
    """An agent may put several lines into an event, or a bar into several events."""
    printed = begin()
    bar = "".join(f"\r{share:3} %" for share in range(101))
    printed.write(ONE, (0, "one\ntwo\r\n"), (1, bar), (2, "\r 7 s"), (3, "\r 8 s\r"), (4, " "))
    answer = ferry("logs", printed.run_id, "--instance", ONE)
    assert answer.out == "one\ntwo\n 8 s\n \n"


def test_a_progress_bar_that_is_watched_is_a_line_a_second_at_most() -> None:
    """Other lines come at once, behind how the bar before them was left."""
    now = [0.0]
    throttle = Throttle(1.0, clock=lambda: now[0])

    def come(text: str, at: float, instance: str = ONE, *, redrawn: bool = True) -> list[str]:
        now[0] = at
        return [line.text for line in throttle.of(Line(instance, 0, text, redrawn=redrawn))]

    assert come("1 %", 0) == ["1 %"]
    assert come("2 %", 0.4) == []
    assert come("7 %", 0.5, TWO) == ["7 %"]
    assert come("3 %", 1.1) == ["3 %"]
    assert come("4 %", 1.2) == []
    assert come("done", 1.3, redrawn=False) == ["4 %", "done"]
    assert come("9 %", 1.4, TWO) == []
    assert [line.text for line in throttle.rest()] == ["9 %"]


def test_colours_are_for_terminals_and_who_asks_for_them(
    ferry: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR where there is no terminal; NO_COLOR before it; JSON has it as printed."""
    run_id = finished(world, command=["x"])
    assert "\x1b" not in ferry("logs", run_id).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    forced = ferry("logs", run_id).out
    assert "\x1b[31mdone\x1b[0m" in forced
    assert "\x1b[36mi-00000000000000001 |\x1b[0m" in forced
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ferry("logs", run_id).out


def test_long_output_is_complete(ferry: Any, begin: Begin) -> None:
    """25,000 lines, three pages of the service, in order."""
    printed = begin()
    printed.write(ONE, *((number // 100, f"line {number}") for number in range(25_000)))
    answer = ferry("logs", printed.run_id, "--instance", ONE)
    assert answer.out.splitlines() == [f"line {number}" for number in range(25_000)]


@pytest.mark.slow
def test_50_mb_are_complete_in_bounded_memory(
    ferry_command: str, begin: Begin, tmp_path: Path
) -> None:
    """Every byte arrives, and no more than a few pages of it are held at a time."""
    printed = begin()
    text = "x" * 1000
    for start in range(0, 50_000, 900):
        numbers = range(start, min(start + 900, 50_000))
        printed.write(ONE, *((number, f"{number:05d} {text}") for number in numbers))
    peak = tmp_path / "peak"
    code = (
        "import sys; from codeferry_cli.main import run; code = run(sys.argv[2:]);"
        # The process's own: getrusage would begin with that of its parent.
        "hwm = [line for line in open('/proc/self/status') if line.startswith('VmHWM')][0];"
        "open(sys.argv[1], 'w').write(hwm.split()[1]);"
        "sys.exit(code)"
    )
    python = str(Path(ferry_command).with_name("python"))
    out = tmp_path / "out"
    for form, lines in (("--instance", 50_000), ("--json", 50_002)):
        with out.open("wb") as file:
            arguments = ["logs", printed.run_id, form, *([ONE] if form == "--instance" else [])]
            subprocess.run([python, "-c", code, str(peak), *arguments], stdout=file, check=True)
        assert out.stat().st_size > 50_000_000
        with out.open("rb") as file:
            assert sum(1 for _ in file) == lines
        assert int(peak.read_text()) < 200_000  # KiB; the interpreter and boto3 are half of it


# --- which lines are the command's own ------------------------------------------------------

STEP_FAILED = "failed to run commands: exit status 1"


def result(run_id: str, **changes: Any) -> str:
    """The line with which a step begins."""
    return json.dumps({"codeferry_result": 1, "run_id": run_id, "status": "running", **changes})


def command_lines(*messages: str, output: str = "stdout") -> list[str]:
    """What is left of events with these messages."""
    lines = CommandLines(ONE, output, "run-1")
    events = ({"message": text, "timestamp": n} for n, text in enumerate(messages))
    return [line.text for event in events for line in lines.of(event)]


@pytest.mark.parametrize(
    "own",
    [
        result("run-2"),
        '{"codeferry_result": 1}',
        '{"codeferry_result"',
        '{"codeferry_result": ' + "[" * 100_000,
        result("run-1", status="?"),
        f" {result('run-1')}",
    ],
)
def test_a_line_that_only_begins_like_a_result_is_the_commands(own: str) -> None:
    """Of another run, of another form, cut, or nested without end: it is shown."""
    assert command_lines(own, "x") == [own, "x"]


def test_only_the_first_line_is_our_result() -> None:
    """A command that prints one as well, such as a test of this program, has it shown."""
    ours = result("run-1")
    assert command_lines(ours, ours, "x", ours) == [ours, "x", ours]
    assert command_lines(f"{ours}\nx\n{ours}\n") == ["x", ours]
    assert command_lines("x", ours) == ["x", ours]
    assert command_lines(ours, output="stderr") == [ours]


def test_only_the_last_line_of_errors_is_the_agents() -> None:
    """A command that prints what the SSM agent says has it shown."""
    said = [STEP_FAILED, "x", STEP_FAILED]
    assert command_lines(*said, output="stderr") == said[:2]
    assert command_lines(*said, output="stdout") == said


@pytest.mark.parametrize(
    "said", ["exit status 143", "signal: killed", "signal: segmentation fault (core dumped)"]
)
def test_agents_word_of_a_killed_step_is_not_the_commands(said: str) -> None:
    """A step that was killed: its signal where sh is bash, 128 and more where it is dash."""
    assert command_lines("x", f"failed to run commands: {said}", output="stderr") == ["x"]


def test_what_looks_like_ours_is_shown_while_followed(stage: DeployedStage, begin: Begin) -> None:
    """Each output of each instance has a first line of its own, over all looks."""
    printed = begin()
    ours = result(printed.run_id)
    tail = LogTail(stage, printed.run_id, since=0)
    for instance in (ONE, TWO):
        printed.write(instance, (0, ours))
    printed.write(ONE, (1, STEP_FAILED), output="stderr")
    assert texts(tail) == []
    printed.write(ONE, (2, ours))
    printed.write(ONE, (3, "after"), output="stderr")
    assert texts(tail) == [ours, STEP_FAILED, "after"]


def texts(tail: LogTail) -> list[str]:
    return [line.text for page in tail.fresh() for line in page]


def test_each_look_gives_only_what_is_new(stage: DeployedStage, begin: Begin) -> None:
    """Also a line that becomes visible late, behind one that was given out."""
    printed = begin()
    tail = LogTail(stage, printed.run_id, since=0)
    assert texts(tail) == []
    printed.write(ONE, (0, "a"), (4000, "c"))
    assert texts(tail) == ["a", "c"]
    printed.write(TWO, (1000, "late"), (5000, "d"))
    printed.write(ONE, (4000, "same time"))
    assert texts(tail) == ["late", "same time", "d"]
    assert texts(tail) == []


def test_instances_stand_among_each_other_by_time(stage: DeployedStage, begin: Begin) -> None:
    """A whole batch is one story while it is followed."""
    printed = begin()
    printed.write(ONE, (0, "1"), (20, "3"))
    printed.write(TWO, (10, "2"), (30, "4"))
    assert texts(LogTail(stage, printed.run_id, since=0)) == ["1", "2", "3", "4"]


def test_what_is_far_behind_is_forgotten(stage: DeployedStage, begin: Begin) -> None:
    """A day's output is not kept in memory to know what was given out."""
    printed = begin()
    tail = LogTail(stage, printed.run_id, since=0)
    printed.write(ONE, *((1000 * n, str(n)) for n in range(100)))
    assert len(texts(tail)) == 100
    (command,) = tail._commands.values()
    assert len(command._seen) == logs.OVERLAP_MS / 1000 + 1


class Looked:
    """A command that remembers when it was looked at."""

    def __init__(self, name: str, looks: list[str]) -> None:
        self._name, self._looks = name, looks

    def fresh(self) -> Iterator[list[Line]]:
        self._looks.append(self._name)
        yield [Line(self._name, 0, self._name)]


def test_many_commands_are_looked_at_in_turns(
    stage: DeployedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request a look, every other one at the newest; the account's quota is five a second."""
    looks: list[str] = []
    tail = LogTail(stage, "run", since=0)
    monkeypatch.setattr(tail, "look_for_commands", lambda: None)
    tail._commands = {name: Looked(name, looks) for name in "abc"}  # type: ignore[misc]
    for _ in range(6):
        assert len(list(tail.fresh())) == 1
    assert looks == ["a", "c", "b", "c", "c", "c"]


def test_at_the_end_all_commands_are_read_at_the_pace_that_is_allowed(
    stage: DeployedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, and a pause between two."""
    looks: list[str] = []
    pauses: list[float] = []
    tail = LogTail(stage, "run", since=0)
    monkeypatch.setattr(tail, "look_for_commands", lambda: None)
    tail._commands = {name: Looked(name, looks) for name in "abc"}  # type: ignore[misc]
    assert len(list(tail.rest(pauses.append))) == 3
    assert looks == ["a", "b", "c"]
    assert len(pauses) == 2
    assert min(pauses) >= 1 / 5


def test_commands_of_other_runs_are_not_ours(stage: DeployedStage, begin: Begin) -> None:
    """A stage has one log group for all of them."""
    one, two = begin(), begin(group="/codeferry/shared")
    other = Printed(two._world, one.run_id, group="/codeferry/shared")
    two.write(ONE, (0, "theirs"))
    other.write(ONE, (0, "ours"))
    assert texts(LogTail(stage, one.run_id, since=0)) == ["ours"]


def test_following_ends_with_the_run_and_its_last_lines(stage: DeployedStage, begin: Begin) -> None:
    """What is printed between two looks and at the very end is shown, once."""
    printed = begin()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            printed.write(ONE, (0, "first"))
        elif len(slept) == 4:
            printed.stop()
        elif len(slept) == 5:
            printed.write(ONE, (1, "last"))

    pages = follow_lines(
        stage, find_run(stage, printed.run_id), LogTail(stage, printed.run_id, since=0), sleep=sleep
    )
    assert [line.text for page in pages for line in page] == ["first", "last"]
    assert len(slept) == 5  # the last one for what is still on its way
    assert max(slept) <= 2.0  # a line is wanted within three seconds


def test_follow_of_a_run_that_is_long_over_waits_for_nothing(
    ferry: Any, world: Any, stage: DeployedStage
) -> None:
    """All there is, at once."""
    execution = find_run(stage, finished(world, command=["x"]))
    pages = follow_lines(
        stage,
        execution,
        LogTail(stage, execution.run_id, since=0),
        sleep=lambda _: pytest.fail("it slept"),
        clock=lambda: time.time() + 3600,
    )
    assert sum(len(page) for page in pages) == 6


def test_follow_prints_lines_as_they_come(ferry_command: str, begin: Begin) -> None:
    """The process shows a line while the run goes on, and ends with it."""
    printed = begin()
    printed.write(ONE, (0, "early"))
    process = subprocess.Popen(
        [ferry_command, "logs", printed.run_id, "-f"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{ONE} | early\n"
        printed.write(TWO, (10, "later"))
        assert process.stdout.readline() == f"{TWO} | later\n"
        printed.stop()
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_goes_away_is_no_failure_to_report(ferry_command: str, begin: Begin) -> None:
    """`ferry logs RUN | head -1` says nothing on stderr."""
    printed = begin()
    printed.write(ONE, *((number, "x" * 1000) for number in range(900)))
    process = subprocess.Popen(
        [ferry_command, "logs", printed.run_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(60)
