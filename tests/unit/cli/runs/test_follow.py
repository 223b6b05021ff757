"""Following a run: what is read, how often, and what is told."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from codeferry_cli.aws.session import Access, Aws
from codeferry_cli.aws.stage import DeployedStage, find_stage
from codeferry_cli.errors import StillRunning
from codeferry_cli.runs import execution
from codeferry_cli.runs.execution import NOTHING_YET, read_history
from codeferry_cli.runs.follow import Follower
from codeferry_cli.runs.logs import LogTail
from codeferry_cli.runs.record import RunRecord
from codeferry_cli.terminal.progress import PlainProgress
from codeferry_cli.views.live_output import LiveOutput
from codeferry_cli.views.run_view import RunView, UploadView
from codeferry_contracts.names import SYNC
from tests.unit.cli.stage_function import outcome


@pytest.fixture
def stage(world: Any) -> DeployedStage:
    return find_stage(Aws(Access(stage="local")))


@pytest.fixture
def finished(world: Any) -> str:
    run_id = f"by-hand-{secrets.token_hex(6)}"
    world.start(run_id, "fleet")
    world.await_end(run_id)
    return run_id


class Told(PlainProgress):
    """Keeps what is told instead of printing it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def test_a_history_of_many_pages_is_read_whole(
    stage: DeployedStage, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page gives what one page gives."""
    whole = read_history(stage, SYNC, finished, NOTHING_YET)
    monkeypatch.setattr(execution, "_HISTORY_PAGE", 3)
    assert read_history(stage, SYNC, finished, NOTHING_YET) == whole
    assert whole.begun() == ["plan", "dispatch", "apply", "verify", "cleanup", "report"]


def test_what_is_known_is_not_read_again(
    stage: DeployedStage, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all but the newest events known, one page is enough however long the history."""
    monkeypatch.setattr(execution, "_HISTORY_PAGE", 3)
    known = read_history(stage, SYNC, finished, NOTHING_YET)
    requests = []
    stage.workflow.meta.events.register(
        "before-call.sfn.GetExecutionHistory", lambda **_: requests.append(1)
    )
    assert read_history(stage, SYNC, finished, known) == known
    assert len(requests) == 1


def test_polls_grow_apart_and_patience_is_kept(world: Any, stage: DeployedStage) -> None:
    """From 0.3 s to 3 s, and never longer than the patience left."""
    run_id = f"by-hand-{secrets.token_hex(6)}"
    world.start(run_id, "slow")
    clock = Clock()
    follower = Follower(stage, SYNC, run_id, RunView(Told()), sleep=clock.sleep, clock=clock)
    with pytest.raises(StillRunning, match=r"has not ended after 20\.0 s"):
        follower.follow(20)
    assert clock.slept[0] == 0.3
    assert max(clock.slept) == 3.0
    assert clock.now == pytest.approx(20)
    stage.workflow.stop_execution(executionArn=stage.execution_arn(SYNC, run_id))


def test_each_phase_and_each_instance_is_told_once_and_in_order(
    stage: DeployedStage, finished: str
) -> None:
    """Instances stand between dispatch and the end of apply."""
    told = Told()
    Follower(stage, SYNC, finished, RunView(told)).follow()
    words = [line.split()[0] for line in told.lines]
    assert words == ["plan", "dispatch", "✓", "✓", "✓", "apply", "verify", "cleanup", "report"]


def test_with_a_command_the_longest_phase_is_called_run(
    stage: DeployedStage, finished: str
) -> None:
    """Applying the release is the least of it; polls stay close for what it prints."""
    told = Told()
    tail = LogTail(stage, finished, since=0)
    live = LiveOutput(tail, told, wanted=True, bare=False, later="ferry logs")
    Follower(stage, SYNC, finished, RunView(told, live)).follow()
    words = [line.split()[0] for line in told.lines]
    assert "run" in words
    assert "apply" not in words


def test_what_is_printed_last_is_waited_for(stage: DeployedStage, finished: str) -> None:
    """The log has it a moment after the run has ended; without output nobody waits."""
    clock, told = Clock(), Told()

    class Late(LiveOutput):
        def show_news(self, *, ended: bool = False) -> None:
            told.line(f"looked, {len(clock.slept)} waited")

    def follow(wanted: bool) -> list[str]:
        told.lines.clear()
        live = Late(LogTail(stage, finished, since=0), told, wanted=wanted, bare=False, later="")
        ended = execution.describe(stage, SYNC, finished)
        follower = Follower(
            stage, SYNC, finished, RunView(told, live), sleep=clock.sleep, clock=clock
        )
        follower._timeline = read_history(stage, SYNC, finished, NOTHING_YET)
        assert ended.stopped
        follower._settle_since(ended.stopped, now=ended.stopped)
        return told.lines

    assert follow(wanted=False) == []
    assert follow(wanted=True) == ["looked, 1 waited"]


def test_of_many_instances_only_failures_are_listed(
    stage: DeployedStage, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred lines of success say less than their number."""
    outcomes = {
        f"i-{n:017x}": outcome("partial" if n % 50 == 3 else "fleet", f"i-{n:017x}", [], "sync")
        for n in range(200)
    }
    for n, found in enumerate(outcomes.values()):
        if n % 50 == 3:
            found |= {"status": "failed", "error": {"code": "x", "message": "Full.", "hint": ""}}
    record = {
        "planned_instances": lambda _: 200,
        "finished_instances": lambda _: iter(outcomes),
        "outcomes": lambda _, ids: [outcomes[i] for i in ids],
    }
    for name, reading in record.items():
        monkeypatch.setattr(RunRecord, name, reading)
    told = Told()
    view = RunView(told)
    Follower(stage, SYNC, finished, view).follow()
    assert not any("✓" in line for line in told.lines)
    assert sum("✗" in line for line in told.lines) == 4
    view.phase_running("apply", 0)
    assert told.lines[-1] == "Applying… 200 of 200 instances done, 4 failed"


def test_a_count_is_a_line_a_second_at_most(
    stage: DeployedStage, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is looked."""
    arrived: list[str] = []
    monkeypatch.setattr(RunRecord, "planned_instances", lambda _: 200)
    monkeypatch.setattr(RunRecord, "finished_instances", lambda _: iter(list(arrived)))
    monkeypatch.setattr(RunRecord, "outcomes", lambda *_: [])
    clock = Clock()
    view = RunView(Told(), clock=clock)
    follower = Follower(stage, SYNC, finished, view, clock=clock)
    counts = []
    for n in range(9):
        arrived.append(f"i-{n}")
        follower._tell_instances()
        counts.append(view._shown_count)
        clock.sleep(0.25)
    assert counts == [1, 1, 1, 1, 5, 5, 5, 5, 9]


def test_plain_progress_prints_a_step_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets a line per step and not one per poll."""
    plain = PlainProgress()
    for text, mark in (("Applying… 1 s", "apply"), ("Applying… 2 s", "apply"), ("Ok…", "verify")):
        plain.now(text, mark)
    assert capsys.readouterr().err.splitlines() == ["Applying… 1 s", "Ok…"]


class Half:
    """A project of 1,000 bytes."""

    class selection:  # noqa: N801 - stands for the attribute of that name
        bytes = 1000


def test_the_share_uploaded_is_of_the_archive_as_it_will_be() -> None:
    """With half the files packed into 200 bytes, 200 uploaded bytes are half."""
    told = Told()
    meter = UploadView(Half, told)  # type: ignore[arg-type]
    meter.packed(200, 500)
    meter.uploaded(200)
    meter.packed(400, 1000)
    meter.uploaded(200)
    assert told.lines == ["Uploading… 50 % (200 B)", "Uploading… 100 % (400 B)"]
