"""Apply a release and run a command in it, or run a script, and say how it ended.

Travels in the SSM document with apply.py, under the same rules. Without a command it is
apply.py and nothing more. With one, the first line on stdout says what was applied and that
the command is running, the command's output follows, and the last line is kept for the
document's second step, because Run Command shows only the head of each step's output:

  <root>/.results/<run>          the last line of a run that began a command
  <root>/.results/<run>.working  until that is so; the pid of the supervisor at work
  <root>/.scripts/work/<run>/    a script and its files, while it runs
  <root>/.scripts/runs/          answers to script runs

At most once: the record says "running" before anything is started. Found so when nobody
holds the run's lock, it was interrupted, and is not started again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from codeferry_agent import apply, dependencies, restore, supervise
from codeferry_agent.apply import Refused
from codeferry_agent.supervise import Account, Ended, Output, Supervision

INSTALL_SECONDS, HEALTH_SECONDS = 600, 60
ENVIRONMENT_LIMIT = 256 << 10
ENVIRONMENT_ATTEMPTS, ENVIRONMENT_TIMEOUT = 5, 10.0  # seconds without a byte
LINE_ROOM, RECORD_ROOM = 4096, 8192
PASSED_ON = {"TMPDIR": "TMPDIR", "CODEFERRY_INSTANCE_ID": "AWS_SSM_INSTANCE_ID"}
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SSM_REGION_NAME")

apply.HINTS.update(
    {
        "arguments_too_long": "Put long arguments into a file of the project.",
        "command_not_found": "Write ./NAME for a program of the project, or install it.",
        "command_not_executable": "chmod +x it, or name its interpreter before it.",
        "environment_invalid": "Variables are names and texts, at most 256 KB in all.",
        "environment_unavailable": "Start the run again.",
        "exit_code": "See the end of its output.",
        "install_failed": "See the end of its output.",
        "interpreter_missing": "Install it on the instance, or name another in the #! line.",
        "interrupted": "The instance restarted, or the run was killed. Start a new run.",
        "out_of_memory": "Let it use less memory, or take a larger instance.",
        "script_line_endings": "Save it with Unix line endings (LF).",
        "script_missing": "The archive must hold the script that command names.",
        "script_not_executable": "chmod +x it and start again.",
        "script_without_interpreter": "Begin it with a line like #!/bin/sh.",
        "timed_out": "Allow more with options.timeout_seconds.",
        "wrong_architecture": "Build it for the instance's processor.",
    }
)


class CommandRun(apply.Run):
    """A release, and the command to run in it if there is one."""

    noun = "command"

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        super().__init__(payload, root, result)
        self.root = root
        self.last_line = root / ".results" / payload.run_id
        self.working = self.last_line.with_name(f"{payload.run_id}.working")

    def deliver(self) -> None:
        run_id, work = self.lock.before
        if work:  # it died, and what it had started may live on
            self.kill_leftovers(run_id)
        super().deliver()
        if self.goes_on():
            self.execute()

    def kill_leftovers(self, run_id: str) -> None:
        supervise.kill_marked(f"CODEFERRY_RUN_ID={run_id}", f"CODEFERRY_ROOT={self.root}")

    def replay(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The recorded answer; of a run that is still "running" though we have its lock, why."""
        if recorded["status"] == "running":
            recorded = self.interrupted(recorded)
            self.working.unlink(missing_ok=True)
        answered = super().replay(recorded)
        if recorded.get("ran"):
            self.tell(answered)
        return answered

    def interrupted(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """Record that the command's end is not known, and end what may be left of it."""
        self.kill_leftovers(self.payload.run_id)
        result = interrupted(recorded)
        apply.write_json(self.record, result)
        return result

    # --- the front: what Run Command started

    def execute(self) -> NoReturn:
        """Start the supervisor and wait for it; the last line is then in its place."""
        self.doing = f"preparing the {self.noun}"
        apply.on_cancel(self.remember)
        self.announce("command")
        self.make_room()
        running = dict(self.result, status="running")
        print(apply.result_line(running), flush=True)
        front = os.getpid()
        supervisor = supervise.fork()
        if not supervisor:
            leave(self, front)
        apply.on_cancel(lambda *_: supervise.send(signal.SIGTERM, [supervisor]))
        if self.cancelled:  # just before
            supervise.send(signal.SIGTERM, [supervisor])
        code = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
        if code not in (0, 1):
            self.finish(self.interrupted(running))
        sys.exit(code and 1)

    def announce(self, work: str) -> None:
        """Say in the lock what it is held for."""
        self.lock.note(self.payload.run_id, work)

    def make_room(self) -> None:
        """Write the worst answer, and reserve the room to replace it on a disk filled up."""
        self.last_line.parent.mkdir(mode=0o700, exist_ok=True)
        apply.prune_records(self.last_line.parent)
        reserve(self.record, len(json.dumps(self.result)) + RECORD_ROOM)
        reserve(self.last_line, LINE_ROOM)
        self.tell(interrupted(self.result))
        reserve(self.last_line, LINE_ROOM)
        self.working.touch()

    def tell(self, result: Mapping[str, Any]) -> None:
        """Leave the line that the document's second step prints."""
        self.last_line.parent.mkdir(mode=0o700, exist_ok=True)
        fill(self.last_line, apply.result_line(result) + "\n")

    # --- the supervisor

    def supervise(self, front: int) -> int:
        """Run the command to its end and record it; the exit code."""
        if not supervise.become_supervisor(front):
            self.cancelled = True
        self.working.write_text(str(os.getpid()))
        result = self.conclude(Output(sys.stdout.fileno()))
        fill(self.record, json.dumps(result))
        self.finish(result)
        return 1 if result["error"] else 0

    def finish(self, result: Mapping[str, Any]) -> None:
        self.tell(result)
        self.working.unlink(missing_ok=True)
        self.announce("")

    def conclude(self, output: Output) -> dict[str, Any]:
        """The final result, whatever happens."""
        ran: dict[str, Any] = {"ending": "not_started", "exit_code": -1, "signal": 0, "seconds": 0}
        failure: Refused | None = None
        try:
            failure = self.run(output, ran)
        except Exception as error:  # noqa: BLE001 - told() hides nothing
            failure = apply.told(error, self)
            if failure.code == "cancelled":
                ran["ending"] = "cancelled"
        if failure and self.payload.returning:
            failure = self.go_back(failure)
        self.clean()
        output.finish()
        tail = apply.last_lines(output.tail(), apply.TAIL_CHARACTERS)
        ran.update(output_bytes=output.bytes, tail=tail)
        result = dict(self.result, ran=ran if failure or self.payload.command else None)
        if failure:
            result.update(status="failed", error=apply.described(failure))
        return result

    def heed(self) -> None:
        """Go no further when the run was cancelled."""
        if self.cancelled:
            raise Refused("cancelled", "cancelled")

    def run(self, output: Output, ran: dict[str, Any]) -> Refused | None:
        """The command, if there is one, then the release's health; what is wrong with them."""
        self.heed()
        account = supervise.account_of(self.owner, os.environ)
        variables = self.variables(account)
        own = self.own_variables()
        if self.payload.install:
            variables.update(self.install(output, {**variables, **own}, account))
        variables.update(own)
        if self.payload.command:
            with self.phase("execute", f"starting the {self.noun}"):
                ended = self.start(output, variables, account)
            ran.update(told_of(ended))
            failure = complaint(ended, self.payload.command_seconds)
            if failure:
                return failure
        return self.check_health(output, variables, account, ran)

    # --- its health

    def check_health(
        self, output: Output, variables: Mapping[str, str], account: Account, ran: dict[str, Any]
    ) -> Refused | None:
        """What is wrong with the release after it was left alone for a while."""
        if self.payload.bake_seconds:
            with self.phase("bake", "waiting before the health command"):
                self.bake()
        if not self.payload.health:
            return None
        with self.phase("health", "starting the health command"):
            ended = self.watch(output, HEALTH_SECONDS).run(
                self.starter(self.payload.health[0], self.payload.health, variables, account)
            )
        failure = complaint(ended, HEALTH_SECONDS)
        if not failure:
            return None
        ran.update(told_of(ended))
        if failure.code == "cancelled":
            return failure
        return Refused("health_failed", f"The health command failed: {failure}.")

    def bake(self) -> None:
        end = time.monotonic() + self.payload.bake_seconds
        while time.monotonic() < end and not self.cancelled:
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))
        self.heed()

    def go_back(self, failure: Refused) -> Refused:
        """Make the release before current again; the failure, and what came of that."""
        ours, before = self.result["release_id"], self.result["previous"]
        if before == ours:
            return with_words(failure, f"Release {ours} was current before, and stays.")
        try:
            self.result["returned"] = back = restore.leave(self.project, ours)
        except OSError as error:
            return with_words(failure, f"Release {ours} stays: {error.strerror}.")
        if not back:
            return with_words(failure, f"There is no release before {ours}, so it stays.")
        return with_words(failure, f"Release {back} is current again, not {ours}.")

    def starter(
        self, name: str, words: list[str], variables: Mapping[str, str], account: Account
    ) -> Callable[[], tuple[int, int]]:
        """What starts a program, called ``name``; Refused, in words, where it does not start."""
        directory = self.directory()

        def begin() -> tuple[int, int]:
            try:
                return supervise.spawn(words, directory, variables, account)
            except OSError as error:
                program = Program(self.noun, name, directory, variables["PATH"])
                raise program.explain(error) from None

        return begin

    def start(self, output: Output, variables: Mapping[str, str], account: Account) -> Ended:
        name, words = self.payload.command[0], self.arguments(variables)
        begin = self.starter(name, words, variables, account)
        ended = self.watch(output, self.payload.command_seconds).run(begin)
        if ended.stragglers:
            self.warn(f"{ended.stragglers} processes outlived the {self.noun} and were ended.")
        if ended.survivors:
            self.warn(f"{ended.survivors} processes could not be killed.")
        return ended

    def watch(self, output: Output, seconds: int) -> Supervision:
        return Supervision(output, seconds=seconds, cancelled=lambda: self.cancelled)

    def arguments(self, _: Mapping[str, str]) -> list[str]:
        arguments: list[str] = self.payload.command
        return arguments

    def directory(self) -> Path:
        return self.project.path / "current"

    def clean(self) -> None:
        """Remove what only the command needed."""

    # --- its variables

    def variables(self, account: Account) -> dict[str, str]:
        """A clean environment: nothing of the agent's but where it is."""
        environ = os.environ
        variables = {
            "PATH": whole_path(environ.get("PATH", "")),
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
            "LANG": environ.get("LANG", "C.UTF-8"),
            "PYTHONUNBUFFERED": "1",
            "CODEFERRY_ROOT": str(self.root),
            "CODEFERRY_RUN_ID": self.payload.run_id,
            "CODEFERRY_PROJECT": self.payload.project,
        }
        for ours, theirs in PASSED_ON.items():
            if environ.get(theirs):
                variables[ours] = environ[theirs]
        region = next((environ[name] for name in REGION_VARIABLES if environ.get(name)), "")
        return {**variables, **dict.fromkeys(REGION_VARIABLES[:2] if region else (), region)}

    def own_variables(self) -> dict[str, str]:
        """The run's own, which may be secrets: they stay in memory."""
        if not self.payload.environment_url:
            return {}
        self.doing = "fetching the command's variables"
        apply.on_cancel(apply.cancel)  # not to wait for S3
        self.heed()
        try:
            return parse_variables(fetch(self.payload.environment_url))
        finally:
            apply.on_cancel(self.remember)

    # --- its dependencies

    def install(
        self, output: Output, variables: Mapping[str, str], account: Account
    ) -> dict[str, str]:
        """Install what the release names; the variables that make it the command's."""
        venv, marker = self.project.shared / "venv", self.project.path / "installed.json"
        uv = dependencies.find_uv(variables["PATH"], account.home)
        plan = dependencies.plan(
            self.directory(), self.result["release_id"], venv, uv=uv, python=sys.executable
        )
        if not plan:
            self.warn(f"Nothing to install: there is no {', '.join(dependencies.NAMED_IN)}.")
            return {}
        for warning in plan.warnings:
            self.warn(warning)
        active = dependencies.variables(venv, variables["PATH"])
        done = apply.read_json(marker) == plan.fingerprint and (venv / "bin").is_dir()
        with self.phase("install", "installing dependencies"):
            for step in () if done else plan.steps:
                self.install_step(step, output, {**variables, **active}, account)
        apply.write_json(marker, plan.fingerprint)
        return active

    def install_step(
        self, step: list[str], output: Output, variables: Mapping[str, str], account: Account
    ) -> None:
        ended = self.watch(output, INSTALL_SECONDS).run(
            lambda: supervise.spawn(step, self.directory(), variables, account)
        )
        failure = complaint(ended, INSTALL_SECONDS)
        if failure and failure.code == "cancelled":
            raise failure
        if failure:
            name = os.path.basename(step[0])  # noqa: PTH119 - a name
            raise Refused(
                "install_failed", f"Dependencies could not be installed: {name}: {failure}."
            )


class ScriptRun(CommandRun):
    """A script with its files, in a directory of its own that goes with it."""

    noun = "script"

    def __init__(self, payload: SimpleNamespace, root: Path, result: dict[str, Any]) -> None:
        super().__init__(payload, root, result)
        if not payload.command or not apply.is_path(payload.command[0]):
            raise Refused("payload_invalid", "The payload's command names no script.")
        self.work, runs = root / ".scripts/work", root / ".scripts/runs"
        self.place: Path = self.work / payload.run_id
        self.record = runs / f"{payload.run_id}.json"
        self.tree: Path = self.place / "tree"

    def apply(self, lock_seconds: float) -> dict[str, Any]:
        """As a release's, but scripts do not wait for one another."""
        self.work.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.record.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as held:
            with self.phase("lock", "taking the run's directory"):
                held.enter_context(claimed(self.place))
            recorded = apply.read_json(self.record)
            if recorded:
                return self.replay(recorded)
            self.settle()
            self.deliver()
        return self.result

    def settle(self) -> None:
        """Clear what killed runs left."""
        apply.prune_records(self.record.parent)
        for leftover in self.work.iterdir():
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                if leftover != self.place:
                    with claimed(leftover, fcntl.LOCK_NB):
                        self.kill_leftovers(leftover.name)

    def deliver(self) -> None:
        apply.discard(self.tree)
        archive = self.place / "archive.tar.gz"
        with self.phase("download", "downloading the script"):
            self.download(archive)
        with self.phase("extract", "unpacking the script"):
            self.extract(archive, self.tree)
        self.tree.chmod(0o700)
        self.result["status"] = "ran"
        apply.write_json(self.record, self.recorded(self.result))
        self.execute()

    def arguments(self, variables: Mapping[str, str]) -> list[str]:
        """The script by its whole path; Refused where it cannot be run, in words."""
        name, *rest = self.payload.command
        Program(self.noun, name, self.tree, variables["PATH"]).check()
        return [str(self.tree / name), *rest]

    def directory(self) -> Path:
        return self.tree

    def variables(self, account: Account) -> dict[str, str]:
        files = self.tree / "files"
        found = {"DEPLOY_FILES_DIR": str(files)} if files.is_dir() else {}
        return {**super().variables(account), **found}

    def install(self, *_: Any) -> dict[str, str]:
        self.warn("A script has no dependencies to install.")
        return {}

    def clean(self) -> None:
        apply.discard(self.tree)
        if self.tree.exists():
            self.warn("Not all of the script's files could be removed.")

    def announce(self, _: str) -> None:
        """Nobody waits for a script but other deliveries of its run."""

    def finish(self, result: Mapping[str, Any]) -> None:
        super().finish(result)
        # Only now: who finds the directory free reads the record.
        apply.discard(self.place)


@contextlib.contextmanager
def claimed(place: Path, also: int = 0) -> Iterator[None]:
    """Hold a directory, made if needed, and remove it in the end.

    Another delivery of the same run is waited for, and takes its own away: look again then.
    """
    descriptor = -1
    while descriptor < 0:
        place.mkdir(mode=0o711, exist_ok=True)
        descriptor = os.open(place, apply.DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | also)
            here = os.path.samestat(os.fstat(descriptor), place.stat())
        except FileNotFoundError:
            here = False
        except BaseException:
            os.close(descriptor)
            raise
        if not here:
            os.close(descriptor)
            descriptor = -1
    try:
        yield
    finally:
        apply.discard(place)
        os.close(descriptor)


def leave(run: CommandRun, front: int) -> NoReturn:
    """Be the supervisor, and never return into the front's frames."""
    code = 2
    try:
        code = run.supervise(front)
    except Exception as error:  # noqa: BLE001 - the front answers for us; told() says why
        apply.told(error, run)
    finally:
        sys.stderr.flush()
        os._exit(code)


# --- answers that a full disk does not stop


def reserve(path: Path, size: int) -> None:
    """Take room on the disk for what will be ``fill``ed."""
    with spare(path).open("wb") as file:
        file.write(b" " * size)
        file.flush()
        os.fsync(file.fileno())


def fill(path: Path, words: str) -> None:
    """Replace a file at once, in the room reserved for it if there is any."""
    place = spare(path)
    place.touch(mode=0o600)
    with place.open("r+b") as file:
        file.write(words.encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    place.replace(path)
    apply.sync_directory(path.parent)


def spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.spare")


# --- endings


def ending_of(ended: Ended) -> str:
    """One of contracts' Ending."""
    if ended.reason:
        return ended.reason
    if ended.oom and (ended.signal == signal.SIGKILL or ended.exit_code == 128 + signal.SIGKILL):
        return "out_of_memory"  # a shell says so of its child
    return "signalled" if ended.signal else "exited"


def told_of(ended: Ended) -> dict[str, Any]:
    """How a program ended, as a result has it."""
    found = {"exit_code": ended.exit_code, "signal": ended.signal, "seconds": ended.seconds}
    return {"ending": ending_of(ended), **found}


def with_words(failure: Refused, words: str) -> Refused:
    """The same failure, and what else is to be said."""
    return Refused(failure.code, f"{str(failure).rstrip('.')}. {words}")


def complaint(ended: Ended, seconds: int) -> Refused | None:
    """What is wrong with how a program ended, in words."""
    ending = ending_of(ended)
    if ending == "exited":
        code = ended.exit_code
        return Refused("exit_code", f"exit code {code}") if code else None
    words = {
        "timed_out": f"timed out after {seconds} s",
        "out_of_memory": "out of memory",
        "cancelled": "cancelled",
        "signalled": f"killed by signal {ended.signal}{signal_name(ended.signal)}",
    }
    return Refused(ending, words[ending])


def signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return ""


def interrupted(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a run whose command nobody saw end."""
    ran = {"ending": "interrupted", "exit_code": -1, "signal": 0, "seconds": 0}
    ran.update(output_bytes=0, tail="")
    failure = Refused("interrupted", "interrupted")
    return dict(recorded, status="failed", error=apply.described(failure), ran=ran)


# --- why a program does not start


class Program:
    """A program by the name it was given, where it would be started."""

    def __init__(self, noun: str, name: str, directory: Path, search: str) -> None:
        self.noun, self.search = noun, search
        self.shown = apply.shown(os.fsencode(name))
        found = name if "/" in name or noun == "script" else shutil.which(name, os.F_OK, search)
        self.path = directory / found if found else None

    def explain(self, error: OSError) -> Refused:
        """What the system's refusal means."""
        if error.errno == errno.E2BIG:
            return self.refused("arguments_too_long", "has too many or too long arguments")
        if not self.path or not self.path.exists():
            return self.refused("command_not_found", "was not found")
        fault = self.fault()
        if fault:
            return fault
        if error.errno == errno.EACCES:
            return self.refused(f"{self.noun}_not_executable", "may not be executed")
        if error.errno == errno.ENOEXEC:
            return self.refused("wrong_architecture", "is not for this instance's processor")
        code = apply.ERRNO_CODES.get(error.errno or 0, "system_error")
        return self.refused(code, f"could not be started: {error.strerror}")

    def check(self) -> None:
        """Refuse a script that cannot be run."""
        if not self.path or not self.path.is_file():
            raise self.refused("script_missing", "is not in the archive")
        fault = self.fault()
        if fault:
            raise fault

    def fault(self) -> Refused | None:
        """What is wrong with the file itself, as far as can be read."""
        assert self.path is not None
        state = self.path.stat()
        if not stat.S_ISREG(state.st_mode) or not state.st_mode & 0o111:
            return self.refused(f"{self.noun}_not_executable", "is not executable")
        head = head_of(self.path)
        if head.startswith(b"\x7fELF"):
            return None
        if not head.startswith(b"#!"):
            return self.refused("script_without_interpreter", "has no #! line")
        if head.endswith(b"\r"):
            return self.refused("script_line_endings", "has Windows line endings in its #! line")
        missing = self.missing_interpreter(head[2:].decode("utf-8", "surrogateescape").split())
        if missing is None:
            return None
        return self.refused("interpreter_missing", f"needs {missing}, which is not there")

    def missing_interpreter(self, words: list[str]) -> str | None:
        """What the #! line names and the instance lacks."""
        if not words or not Path(words[0]).exists():
            return words[0] if words else "an interpreter"
        if Path(words[0]).name == "env":
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            if named and not shutil.which(named[0], path=self.search):
                return named[0]
        return None

    def refused(self, code: str, words: str) -> Refused:
        return Refused(code, f"{self.shown} {words}.")


def head_of(path: Path) -> bytes:
    """The first line, as far as the kernel reads it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 256).split(b"\n")[0]
    finally:
        os.close(descriptor)


# --- variables


def whole_path(path: str) -> str:
    """The agent's PATH, and behind it the usual places that it lacks."""
    parts = [part for part in path.split(":") if part]
    return ":".join(parts + [p for p in supervise.STANDARD_PATH.split(":") if p not in parts])


def fetch(url: str) -> bytes:
    """A small object; no failure quotes the URL."""
    request = urllib.request.Request(url)  # noqa: S310 - checked
    reason = ""
    for attempt in range(ENVIRONMENT_ATTEMPTS):
        time.sleep(apply.BACKOFF * 2**attempt if attempt else 0)
        try:
            with urllib.request.urlopen(request, timeout=ENVIRONMENT_TIMEOUT) as response:  # noqa: S310
                content: bytes = response.read(ENVIRONMENT_LIMIT + 1)
                return content
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except OSError as error:
            reason = getattr(error, "strerror", "") or type(error).__name__
    raise Refused("environment_unavailable", f"The command's variables: {reason}.")


def parse_variables(content: bytes) -> dict[str, str]:
    """A JSON object of names and texts; no failure quotes any of it."""
    fits = apply.text("[^\\x00\\ud800-\\udc7f\\udd00-\\udfff]*")
    try:
        found = json.loads(content) if len(content) <= ENVIRONMENT_LIMIT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) and fits(value)
        for name, value in found.items()
    ):
        raise Refused("environment_invalid", "The command's variables are not as agreed.")
    return found


KINDS = {"sync": CommandRun, "script": ScriptRun, "rollback": restore.RestoreRun}


def main(workflow: str, environ: Mapping[str, str]) -> int:
    """Do what the environment asks for; the exit code, 0 or 1.

    Where a command was started this never returns: its last line is printed by another step.
    """
    apply.on_cancel(apply.cancel)
    os.umask(0o022)
    result = apply.answer(environ, KINDS[workflow])
    print(apply.result_line(result), flush=True)
    return 1 if result["status"] == "failed" else 0
