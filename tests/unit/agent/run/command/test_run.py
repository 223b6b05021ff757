"""One run at a time, once: locks, redelivery, interruption, full disks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.run.command import processes
from codeferry_contracts.result import parse_result
from tests.unit.agent.commands import (
    MARK,
    Machine,
    Outcome,
    kill_with_supervisor,
    machine,
    processes_with,
    wait_until,
)
from tests.unit.agent.conftest import Instance


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


class Busy:
    """A run whose command counts itself and then waits to be let go."""

    def __init__(self, here: Machine, run_id: str = "busy") -> None:
        self.here = here
        self.gate, self.count = here.root / "gate", here.root / "count"
        os.mkfifo(self.gate)
        self.count.touch()
        for path in (self.gate, self.count):
            path.chmod(0o666)
        script = f"echo started >>{self.count}; echo {self.mark}; read go <{self.gate}; echo done"
        self.payload = here.command("/bin/sh", "-c", script, run_id=run_id)
        self.front = here.start(self.payload)
        wait_until(lambda: self.count.read_text())

    mark = "mark-of-busy"

    @property
    def supervisor(self) -> int:
        """The front's only child."""
        children = Path(f"/proc/{self.front.pid}/task/{self.front.pid}/children")
        (pid,) = children.read_text().split()
        return int(pid)

    def let_go(self) -> None:
        self.gate.write_text("\n")

    def end(self) -> Outcome:
        self.let_go()
        return self.here.wait(self.front, self.payload)

    def starts(self) -> int:
        return self.count.read_text().count("\n")

    def commands(self) -> list[int]:
        """What lives of the command itself, by its arguments."""
        return [pid for pid in processes_with(str(self.gate)) if _is_shell(pid)]


def _is_shell(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sh\0-c\0echo started")
    except OSError:
        return False


@pytest.fixture
def busy(here: Machine) -> Iterator[Busy]:
    busy = Busy(here)
    yield busy
    if busy.front.poll() is None:
        busy.front.send_signal(signal.SIGTERM)
        busy.front.communicate(timeout=60)
    wait_until(lambda: not busy.commands())


def test_a_second_run_is_refused_at_once_while_a_command_is_at_work(busy: Busy) -> None:
    """It learns who holds the project, without waiting; the first one is not disturbed."""
    began = time.monotonic()
    for payload in (busy.here.command("true"), busy.here.payload(busy.here.store.body)):
        refused = busy.here.steps(payload, CODEFERRY_LOCK_SECONDS="600")
        assert (refused.exit, refused.said) == (1, "")
        assert refused.first.error is not None
        assert refused.first.error["code"] == "locked"
        assert refused.first.error["message"] == "Run busy holds the project."
        assert refused.first.error["hint"] == "Wait for it, or stop it: ferry cancel busy"
    assert time.monotonic() - began < 60  # not the lock's 600
    assert busy.end().ran.tail == f"{busy.mark}\ndone\n"


def test_a_supervisor_holds_the_project_without_its_front(busy: Busy) -> None:
    """It ends the command then; until that is so the lock is its run's, and is said to be."""
    front = busy.front.pid
    (supervisor,) = map(int, Path(f"/proc/{front}/task/{front}/children").read_text().split())
    os.kill(supervisor, signal.SIGSTOP)
    try:
        busy.front.kill()
        busy.front.wait()
        refused = busy.here.steps(busy.here.command("true"))
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert refused.first.error is not None
    assert refused.first.error["message"] == "Run busy holds the project."
    busy.front.communicate(timeout=60)


def test_a_run_after_a_command_waits_for_what_is_short_again(busy: Busy) -> None:
    """Once the command has ended the lock's file speaks of it no more."""
    busy.end()
    run, _, pid = (busy.here.project / ".lock").read_text().partition(" ")
    assert (run, pid.isdigit()) == ("busy", True)
    assert busy.here.run("true").exit == 0


def test_a_redelivery_during_the_command_waits_and_answers_the_same(busy: Busy) -> None:
    """The command runs once, and both deliveries tell how it ended."""
    again = busy.here.start(busy.payload)
    _wait_until_open(again, ".lock")
    first = busy.end()
    second = busy.here.wait(again, busy.payload)
    assert (first.exit, second.exit, busy.starts()) == (0, 0, 1)
    assert second.first.replayed
    assert second.first.ran == second.last.ran == first.last.ran
    assert second.output == b""


def _wait_until_open(process: subprocess.Popen[Any], name: str) -> None:
    descriptors = Path(f"/proc/{process.pid}/fd")
    wait_until(lambda: name in {path.readlink().name for path in descriptors.iterdir()})


def test_a_redelivery_after_the_end_is_answered_from_the_record(here: Machine) -> None:
    """Failures too: a command that ran is not run again, whatever came of it."""
    payload = here.command("/bin/sh", "-c", f"echo x >>{_shared(here)}; exit 4")
    here.steps(payload)
    here.run("true")
    again = here.steps(payload)
    assert (again.exit, again.code, again.first.replayed) == (1, "exit_code", True)
    assert again.last == again.first
    assert _shared(here).read_text() == "x\n"


def _shared(here: Machine) -> Path:
    path = here.root / "shared-by-test"
    path.touch()
    path.chmod(0o666)
    return path


def test_a_cancelled_command_is_ended_in_order(busy: Busy) -> None:
    """TERM to the process that Run Command started reaches the command; the run says cancelled."""
    busy.front.send_signal(signal.SIGTERM)
    outcome = busy.here.wait(busy.front, busy.payload)
    assert (outcome.code, outcome.ran.ending) == ("cancelled", "cancelled")
    assert outcome.ran.tail == f"{busy.mark}\n"
    assert not busy.commands()


def test_when_the_front_is_killed_the_command_ends_and_the_run_is_told(busy: Busy) -> None:
    """SIGKILL to the whole process group, as Run Command does it: the supervisor cleans up. Why
    it was done is not known here."""
    os.killpg(busy.front.pid, signal.SIGKILL)
    outcome = busy.here.wait(busy.front, busy.payload)
    assert (outcome.exit, outcome.last.status) == (-signal.SIGKILL, "failed")
    assert (outcome.ran.ending, outcome.ran.tail) == ("interrupted", f"{busy.mark}\n")
    assert not busy.commands()
    again = busy.here.steps(busy.payload)
    assert (again.ran.ending, again.last.replayed, busy.starts()) == ("interrupted", True, 1)
    assert busy.here.run("true").exit == 0


def test_when_nobody_reads_any_more_the_command_ends_and_the_run_is_told(busy: Busy) -> None:
    """The SSM agent's worker is gone, though not what it had started: nobody would hear of it."""
    assert busy.front.stdout is not None
    busy.front.stdout.close()
    busy.front.wait(60)
    outcome = Outcome(busy.front.returncode, b"", "", busy.here.result_step("busy"))
    assert (outcome.code, outcome.ran.ending) == ("interrupted", "interrupted")
    assert outcome.ran.tail == f"{busy.mark}\n"
    assert not busy.commands()
    assert busy.here.run("true").exit == 0


def test_a_command_is_as_fast_without_a_reader(here: Machine) -> None:
    """It prints 8 MiB while nobody takes a byte, and all of it comes when somebody does."""
    done = _shared(here)
    script = f"head -c 8388608 /dev/zero | tr '\\0' x; echo done >{done}"
    payload = here.command("/bin/sh", "-c", script)
    front = here.start(payload)
    wait_until(done.read_text)
    outcome = here.wait(front, payload)
    assert outcome.output == b"x" * 8388608
    assert outcome.ran.output_bytes == 8388608


def test_how_a_command_ended_is_there_before_its_output_is_taken(here: Machine) -> None:
    """Who reads slowly may be killed meanwhile: the record does not wait for them."""
    payload = here.command("/bin/sh", "-c", "head -c 1000000 /dev/zero; exit 7")
    front = here.start(payload)
    told = wait_until(lambda: "exit code 7" in here.result_step(payload.run_id))
    assert told
    assert here.record(payload.run_id)["ran"]["exit_code"] == 7
    assert (front.poll(), here.wait(front, payload).exit) == (None, 1)


def test_a_supervisor_killed_alone_is_an_interruption(busy: Busy) -> None:
    """The front still answers, and the command does not outlive who watched it."""
    os.kill(busy.supervisor, signal.SIGKILL)
    outcome = busy.here.wait(busy.front, busy.payload)
    assert (outcome.code, outcome.ran.ending) == ("interrupted", "interrupted")
    wait_until(lambda: not busy.commands())
    assert busy.here.record("busy")["status"] == "failed"


def test_a_restart_during_the_command_is_reported_and_not_rerun(busy: Busy) -> None:
    """Front and supervisor gone at once: the redelivery says interrupted, and starts nothing."""
    pids = [busy.front.pid, busy.supervisor]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that neither sees the other die
    for pid in pids[::-1]:
        os.kill(pid, signal.SIGKILL)
    busy.front.communicate(timeout=60)
    wait_until(lambda: not busy.commands())
    assert busy.here.record("busy")["status"] == "running"
    told = parse_result(busy.here.result_step("busy"))  # had the agent come back itself
    assert told.error is not None
    assert told.error["code"] == "interrupted"
    again = busy.here.steps(busy.payload)
    assert (again.code, again.ran.ending) == ("interrupted", "interrupted")
    assert again.first.release_id == busy.here.current_id
    assert busy.starts() == 1


def test_what_a_dead_run_left_running_is_ended_by_the_next(here: Machine) -> None:
    """Grandchildren survive their killed supervisor, but not the project's next run."""
    script = f"trap '' TERM; (sleep 63.{MARK}; true) & (sleep 63.{MARK}; true) & wait"
    payload = here.command("/bin/sh", "-c", script)
    front = here.start(payload)
    sleepers = wait_until(lambda: _at_least(2, processes_with(f"sleep\x0063.{MARK}")))
    kill_with_supervisor(front)
    assert set(sleepers) <= set(processes_with(f"sleep\x0063.{MARK}"))
    assert here.run("true").exit == 0
    assert not processes_with(f"sleep\x0063.{MARK}")


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Any]:
    """Starts a process with a run's variables, as some user; kill_marked's marks are its marks."""
    started = []

    def start(user: int, **variables: str) -> subprocess.Popen[bytes]:
        environ = {"CODEFERRY_RUN_ID": "gone", "CODEFERRY_ROOT": str(tmp_path), **variables}
        started.append(subprocess.Popen(["/bin/sleep", "64"], env=environ, user=user))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_leftovers_cannot_pass_for_a_delivery(marked: Any, tmp_path: Path) -> None:
    """A variable is enough for us only: another delivery of a run is not ended by the first."""
    if os.geteuid() != 0:
        pytest.skip("only root can start processes of others")
    pretends = marked(65534, CODEFERRY_PAYLOAD="e30=")
    ours = marked(0, CODEFERRY_PAYLOAD="e30=")
    processes.kill_marked("CODEFERRY_RUN_ID=gone", f"CODEFERRY_ROOT={tmp_path}")
    assert pretends.wait(60) == -signal.SIGKILL
    assert ours.poll() is None


def test_a_number_that_is_another_process_by_now_is_not_killed(
    marked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is looked at again once its number is held fast."""
    sent = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *asked: sent.append(asked[1]))
    process = marked(os.geteuid())
    processes.kill_if(process.pid, lambda _: False)
    assert sent == []
    processes.kill_if(process.pid, lambda _: True)
    assert sent == [signal.SIGKILL]
    monkeypatch.delattr(os, "pidfd_open")  # as in a Python built for an old C library
    processes.kill_if(process.pid, lambda _: True)
    assert process.wait(60) == -signal.SIGKILL


def _at_least(count: int, found: list[int]) -> list[int]:
    return found if len(found) >= count else []


def test_a_disk_that_the_command_has_filled_does_not_silence_it(small_disk: Instance) -> None:
    """The room for answer and record was taken before."""
    here = machine(small_disk)
    full = here.root / "filler"
    full.mkdir()
    full.chmod(0o777)
    outcome = here.sh(f"cat /dev/zero >{full}/zeros; ls {full}; exit 5")
    assert (outcome.message, outcome.ran.exit_code) == ("exit code 5", 5)
    assert outcome.ran.tail.endswith("zeros\n")
    again = here.steps(here.payload(here.store.body, run_id="run-1"))
    assert (again.first.replayed, again.ran.exit_code) == (True, 5)


def test_old_answers_go(here: Machine) -> None:
    """As the records, they are bounded."""
    answers = here.root / ".results"
    answers.mkdir()
    for number in range(250):
        (answers / f"old-{number}").touch()
        os.utime(answers / f"old-{number}", (number, number))
    here.run("true")
    assert len(list(answers.iterdir())) == 201
    assert (answers / "run-1").exists()


def test_answers_and_records_are_roots_own(here: Machine) -> None:
    """What a command prints is not for every user of the instance."""
    here.run("true")
    for directory in (here.root / ".results", here.project / "runs"):
        assert directory.stat().st_mode & 0o077 == 0


def test_an_old_record_without_a_command_is_still_answered(here: Machine) -> None:
    """A record written before there were commands has no word of them."""
    here.command()
    payload = here.payload(here.store.body, run_id="run-1")
    here.steps(payload)
    path = here.project / "runs/run-1.json"
    record = json.loads(path.read_text())
    del record["ran"]
    path.write_text(json.dumps(record))
    assert here.steps(payload).first.replayed
