"""Apply a release and run a command in it, and say how it ended.

Without a command it is a Run and nothing more. With one, the first line on stdout says what was
applied and that the command is running, the command's output follows, and the last line is kept
for the document's second step, because Run Command shows only the head of each step's output:

  <root>/.results/<run>          the last line of a run that began a command
  <root>/.results/<run>.working  until that is so; the pid of the supervisor at work

At most once: the record says "running" before anything is started. Found so when nobody holds
the run's lock, it was interrupted, and is not started again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from codeferry_agent.run.command import dependencies
from codeferry_agent.run.command.output import Output
from codeferry_agent.run.command.processes import (
    become_supervisor,
    fork,
    kill_marked,
    leave_agents_unit,
    wait_passing_on,
)
from codeferry_agent.run.command.program import Account, Program, account_of, spawn
from codeferry_agent.run.command.supervise import Ended, Supervision
from codeferry_agent.run.command.variables import (
    check_url,
    fetch,
    parse_variables,
    standard_variables,
    whole_path,
)
from codeferry_agent.run.errors import RunFailed, on_cancel
from codeferry_agent.run.files import fill, read_json, reserve, uid_of, write_json
from codeferry_agent.run.release.apply import Run
from codeferry_agent.run.release.project import prune_records
from codeferry_agent.run.release.rollback import roll_back
from codeferry_agent.run.result import TAIL_CHARACTERS, interrupted, last_lines, result_line

INSTALL_SECONDS, HEALTH_SECONDS = 600, 60
LINE_ROOM, RECORD_ROOM = 4096, 8192
STOPPED = ("cancelled", "interrupted")
ENVIRONMENT_URL_VARIABLE = "SSM_environmentUrl"  # from the SSM agent, and not in its log


class CommandRun(Run):
    """A release, and the command to run in it if there is one."""

    noun = "command"
    output: Output
    account: Account
    variables: dict[str, str]

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        super().__init__(payload, root, result)
        self.root = root
        self.last_line = root / ".results" / payload.run_id
        self.working = self.last_line.with_name(f"{payload.run_id}.working")
        self.environment_url = os.environ.get(ENVIRONMENT_URL_VARIABLE, "")
        self.own_variables: dict[str, str] = {}
        self.variables_failure: RunFailed | None = None  # why there are none

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        """As a release's; the variables come first, while their URL is fresh."""
        self.fetch_variables()
        return super().apply(lock_seconds)

    def perform(self) -> None:
        if self.variables_failure:  # an answer from the record needs none
            raise self.variables_failure
        run_id, work = self.lock.before
        if work:  # it died, and what it had started may live on
            self.kill_leftovers(run_id)
        super().perform()
        if self.goes_on():
            self.execute()

    def kill_leftovers(self, run_id: str) -> None:
        kill_marked(f"CODEFERRY_RUN_ID={run_id}", f"CODEFERRY_ROOT={self.root}")

    def replay(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The recorded answer; of a run that is still "running" though we have its lock, why."""
        if recorded["status"] == "running":
            recorded = self.interrupted(recorded)
            self.working.unlink(missing_ok=True)
        answered = super().replay(recorded)
        if recorded.get("ran"):
            self.write_last_line(answered)
        return answered

    def interrupted(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """Record that the command's end is not known, and end what may be left of it."""
        self.kill_leftovers(self.payload.run_id)
        result = interrupted(recorded)
        write_json(self.record, result)
        return result

    # --- the front: what Run Command started

    def execute(self) -> NoReturn:
        """Start the supervisor and wait for it; the last line is then in its place."""
        self.doing = f"preparing the {self.noun}"
        on_cancel(self.note_cancel)
        self.note_work("command")
        self.make_room()
        running = dict(self.result, status="running")
        print(result_line(running), flush=True)
        front = os.getpid()
        supervisor = fork()
        if not supervisor:
            run_supervisor(self, front)
        code = wait_passing_on(supervisor, lambda: self.cancelled)
        if code not in (0, 1):
            self.write_last_line(self.interrupted(running))
            self.close()
        sys.exit(code and 1)

    def note_work(self, work: str) -> None:
        """Say in the lock what it is held for."""
        self.lock.note(self.payload.run_id, work)

    def make_room(self) -> None:
        """Write the worst answer, and reserve the room to replace it on a disk filled up."""
        self.last_line.parent.mkdir(mode=0o700, exist_ok=True)
        prune_records(self.last_line.parent)
        reserve(self.record, len(json.dumps(self.result)) + RECORD_ROOM)
        reserve(self.last_line, LINE_ROOM)
        self.write_last_line(interrupted(self.result))
        reserve(self.last_line, LINE_ROOM)
        self.working.touch()

    def write_last_line(self, result: Mapping[str, Any]) -> None:
        """Leave the line that the document's second step prints."""
        self.last_line.parent.mkdir(mode=0o700, exist_ok=True)
        fill(self.last_line, result_line(result) + "\n")

    # --- the supervisor

    def supervise(self, front: int) -> int:
        """Run the command to its end and record it; the exit code."""
        self.front = front
        become_supervisor()
        leave_agents_unit(self.payload.run_id, whole_path())
        self.working.write_text(str(os.getpid()))
        self.note_work("command")  # ours from here on, also without the front
        self.output = Output(sys.stdout.fileno(), self.last_line.parent)
        result = self.conclude()
        fill(self.record, json.dumps(result))
        self.write_last_line(result)
        self.output.finish()  # last, for its reader may be slow, and we may be killed
        self.close()
        return 1 if result["error"] else 0

    def stopped(self) -> str:
        """Why nothing more is to be done, if so: a cancel, or nobody is left to report to."""
        if self.output.gone or os.getppid() != self.front:
            return "interrupted"
        return "cancelled" if self.cancelled else ""

    def close(self) -> None:
        self.working.unlink(missing_ok=True)
        self.note_work("")

    def conclude(self) -> dict[str, Any]:
        """The final result, whatever happens."""
        ran: dict[str, Any] = {"ending": "not_started", "exit_code": -1, "signal": 0, "seconds": 0}
        failure: RunFailed | None = None
        try:
            failure = self.run(ran)
        except Exception as error:  # noqa: BLE001 - nothing is hidden
            failure = self.failure_from(error)
            if failure.code in STOPPED:
                ran["ending"] = failure.code
        if failure and self.payload.returning:
            failure = self.return_to_previous(failure)
        self.clean()
        tail = last_lines(self.output.tail(), TAIL_CHARACTERS)
        ran.update(output_bytes=self.output.bytes, tail=tail)
        result = dict(self.result, ran=ran if failure or self.payload.command else None)
        if failure:
            result.update(status="failed", error=failure.fields())
        return result

    def check_stopped(self) -> None:
        """Go no further when the run was stopped."""
        reason = self.stopped()
        if reason:
            raise RunFailed(reason, reason)

    def run(self, ran: dict[str, Any]) -> RunFailed | None:
        """The command, if there is one, then the release's health; what is wrong with them."""
        self.check_stopped()
        self.account = account_of(self.owner, os.environ)
        usual = self.usual_variables()
        self.variables = {**usual, **self.own_variables}
        if self.payload.install:
            self.variables = {**usual, **self.install(), **self.own_variables}
        if self.payload.command:
            with self.phase("execute", f"starting the {self.noun}"):
                ended = self.run_command()
            ran.update(ended.exit_status())
            failure = ended.failure(self.payload.command_seconds)
            if failure:
                return failure
        return self.check_health(ran)

    def run_command(self) -> Ended:
        name, words = self.payload.command[0], self.arguments()
        ended = self.run_program(name, words, self.payload.command_seconds)
        if ended.stragglers:
            self.warn(f"{ended.stragglers} processes outlived the {self.noun} and were ended.")
        if ended.survivors:
            self.warn(f"{ended.survivors} processes could not be killed.")
        return ended

    def run_program(self, name: str, words: list[str], seconds: int) -> Ended:
        """Run a program, called ``name``, to its end; RunFailed where it does not start."""
        directory = self.directory()

        def start() -> tuple[int, int]:
            try:
                return spawn(words, directory, self.variables, self.account)
            except OSError as error:
                program = Program(self.noun, name, directory, self.variables["PATH"])
                raise program.explain(error) from None

        return self.supervision(seconds).run(start)

    def supervision(self, seconds: int) -> Supervision:
        return Supervision(self.output, seconds=seconds, stopped=self.stopped)

    def arguments(self) -> list[str]:
        arguments: list[str] = self.payload.command
        return arguments

    def directory(self) -> Path:
        return self.project.path / "current"

    def clean(self) -> None:
        """Remove what only the command needed."""

    # --- its health

    def check_health(self, ran: dict[str, Any]) -> RunFailed | None:
        """What is wrong with the release after it was left alone for a while."""
        health = self.payload.health
        if self.payload.bake_seconds:
            with self.phase("bake", "waiting before the health command"):
                self.bake()
        if not health:
            return None
        with self.phase("health", "starting the health command"):
            ended = self.run_program(health[0], health, HEALTH_SECONDS)
        failure = ended.failure(HEALTH_SECONDS)
        if not failure:
            return None
        ran.update(ended.exit_status())
        if failure.code in STOPPED:
            return failure
        return RunFailed("health_failed", f"The health command failed: {failure}.")

    def bake(self) -> None:
        end = time.monotonic() + self.payload.bake_seconds
        while time.monotonic() < end and not self.stopped():
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))
        self.check_stopped()

    def return_to_previous(self, failure: RunFailed) -> RunFailed:
        """Make the release before current again; the failure, and what came of that."""
        ours = self.result["release_id"]
        if self.result["previous"] == ours:
            outcome = f"Release {ours} was current before, and stays."
        else:
            try:
                self.result["returned"] = back = roll_back(self.project, ours)
                outcome = f"There is no release before {ours}, so it stays."
                if back:
                    outcome = f"Release {back} is current again, not {ours}."
            except OSError as error:
                outcome = f"Release {ours} stays: {error.strerror}."
        return RunFailed(failure.code, f"{str(failure).rstrip('.')}. {outcome}")

    # --- its variables

    def usual_variables(self) -> dict[str, str]:
        payload = self.payload
        return standard_variables(self.root, payload.run_id, payload.project, self.account)

    def fetch_variables(self) -> None:
        """The run's own, which may be secrets: they stay in memory."""
        if not self.payload.environment:
            return
        self.doing = "fetching the command's variables"
        try:
            check_url(self.environment_url)
            self.pinned_key.check(self.payload)
            content = fetch(self.environment_url)
            self.pinned_key.check_variables(self.payload, content)
            self.own_variables = parse_variables(content)
        except RunFailed as failure:
            if failure.code == "cancelled":
                raise
            self.variables_failure = failure

    # --- its dependencies

    def install(self) -> dict[str, str]:
        """Install what the release names; the variables that make it the command's."""
        venv, marker = self.project.venv()
        path = self.variables["PATH"]
        uv = dependencies.find_uv(path, self.account.home)
        found = dependencies.found_in(self.directory(), self.account)
        plan = dependencies.plan(
            found, self.result["release_id"], venv, uv=uv, python=sys.executable
        )
        if not plan:
            self.warn(f"Nothing to install: there is no {', '.join(dependencies.NAMED_IN)}.")
            return {}
        for warning in plan.warnings:
            self.warn(warning)
        active = dependencies.variables(venv, path)
        uid = uid_of(self.owner)
        steps = dependencies.missing(plan, venv, uid, read_json(marker))
        if steps and not uv:
            dependencies.require_venv(sys.executable)
        with self.phase("install", "installing dependencies"):
            for step in steps:
                self.install_step(step, {**self.variables, **active})
        write_json(marker, [uid, plan.fingerprint])
        return active

    def install_step(self, step: list[str], variables: Mapping[str, str]) -> None:
        ended = self.supervision(INSTALL_SECONDS).run(
            lambda: spawn(step, self.directory(), variables, self.account)
        )
        failure = ended.failure(INSTALL_SECONDS)
        if failure and failure.code in STOPPED:
            raise failure
        if failure:
            name = os.path.basename(step[0])  # noqa: PTH119 - a name
            words = f"Dependencies could not be installed: {name}: {failure}."
            raise RunFailed("install_failed", words)


def run_supervisor(run: CommandRun, front: int) -> NoReturn:
    """Be the supervisor, and never return into the front's frames."""
    code = 2
    try:
        code = run.supervise(front)
    except Exception as error:  # noqa: BLE001 - the front answers for us; this says why
        run.failure_from(error)
    finally:
        sys.stderr.flush()
        os._exit(code)
