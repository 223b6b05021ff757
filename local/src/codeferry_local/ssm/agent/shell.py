"""Runs a step for real, as the agent does: the script in a file, and ``sh -c`` of its path.

Files are where the agent has them, below the instance's root. The environment is the one the
agent gives, and what tells Codeferry's own code where this instance's root is.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from codeferry_local.ssm.instances import (
    OUTCOMES,
    REBOOT,
    STOPPED,
    Interrupt,
    InvocationContext,
    Outcome,
    StepResult,
)
from codeferry_local.ssm.output import HEAD_LIMIT, StreamLog

_CHUNK = 64 * 1024
_POLL = 0.02

Sink = Callable[[bytes], None]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The agent's own directory (WorkingDirectory of its service), which its steps inherit.
AGENT_DIRECTORY = Path("/usr/bin")
# Bytes a second that the agent takes of a step's output: it copies them one by one, twice (Read
# of iomodule/commandoutput.go and fileS3.go). As measured on a genuine one.
OUTPUT_RATE = 500_000
# Between a fork and its exec the child holds every open descriptor: a script that is
# being written then is "text file busy" when it is executed. So one at a time.
_spawning = threading.Lock()


class Watch:
    """Reads a process's pipes until it and its group are done, or kills the group.

    ``timeout`` is in real seconds. As ``ExecuteCommand`` of the agent (executers.go) does, it
    waits for the end of the pipes, so that a background child that keeps them keeps the step
    running; it kills at once, and takes nothing of what comes after that.

    ``rate``: how many bytes a second it takes of each pipe; None: as fast as they come.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sinks: Mapping[IO[bytes], Sink],
        *,
        timeout: float,
        interrupt: Interrupt,
        rate: float | None = None,
    ) -> None:
        self._process = process
        self._open = dict(sinks)
        self._interrupt = interrupt
        self._deadline = time.monotonic() + timeout
        self.rate = rate
        self._resting: dict[Any, float] = {}
        self._outcome = Outcome.EXITED
        # Why the group could not be killed, in the words of the system.
        self.unkilled: str | None = None

    def run(self) -> Outcome:
        """Block until the end; says how it came."""
        waker_read, waker_write = os.pipe()
        os.set_blocking(waker_write, False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(waker_read, selectors.EVENT_READ)
                for pipe in self._open:
                    selector.register(pipe, selectors.EVENT_READ)
                self._interrupt.listen(lambda: _poke(waker_write))
                self._loop(selector, waker_read)
        finally:
            self._interrupt.listen(None)
            os.close(waker_read)
            os.close(waker_write)
            self._reap()
        return self._outcome

    def _loop(self, selector: selectors.BaseSelector, waker: int) -> None:
        while self._open or self._process.poll() is None:
            self._take_up(selector)
            for key, _ in selector.select(self._pause()):
                if key.fd == waker:
                    os.read(waker, _CHUNK)
                else:
                    self._drain(selector, key.fileobj)
            if self._stop():
                return

    def _pause(self) -> float:
        if not self._open:
            return _POLL
        ahead = min([self._deadline, *self._resting.values()])
        return max(0.0, min(ahead - time.monotonic(), 60.0))

    def _drain(self, selector: selectors.BaseSelector, pipe: Any) -> None:
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            selector.unregister(pipe)
            del self._open[pipe]
            return
        self._open[pipe](chunk)
        if self.rate is not None:
            selector.unregister(pipe)
            self._resting[pipe] = time.monotonic() + len(chunk) / self.rate

    def _take_up(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        for pipe in [pipe for pipe, until in self._resting.items() if until <= now]:
            del self._resting[pipe]
            selector.register(pipe, selectors.EVENT_READ)

    def _stop(self) -> bool:
        """Kill the group when it is time to; whether it was."""
        reason = self._interrupt.reason
        if reason is None and time.monotonic() < self._deadline:
            return False
        # Reaped first, as the agent's own waiting does: a zombie could still be signalled.
        if self._process.poll() is not None and not self._open:
            return True
        self._outcome = OUTCOMES[reason] if reason else Outcome.TIMED_OUT
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError as error:
            self.unkilled = (error.strerror or str(error)).lower()
        return True

    def _reap(self) -> None:
        if self.unkilled is None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _poke(waker: int) -> None:
    try:
        os.write(waker, b"!")
    except BlockingIOError:
        return


@dataclass(frozen=True, kw_only=True)
class ShellExecutor:
    """Runs steps with ``shell``; ``disk_cap`` bounds each output file, in bytes.

    ``rate``: the bytes a second it takes of each output, before ``time_scale``; None: as they
    come.
    """

    disk_cap: int = 64 * 1024 * 1024
    shell: str = "sh"
    rate: float | None = None

    def run(self, context: InvocationContext) -> StepResult:
        """Run the step's script; an instance that cannot hold it fails the step."""
        try:
            return self._run(context, orchestration(context))
        except OSError as error:
            return StepResult(exit_code=1, stderr=f"failed to run commands: {error}")

    def _run(self, context: InvocationContext, directory: Path) -> StepResult:
        logs = (context.log.stdout, context.log.stderr) if context.log else (None, None)
        with (
            _Output(directory / "stdout", self.disk_cap, logs[0]) as stdout,
            _Output(directory / "stderr", self.disk_cap, logs[1]) as stderr,
        ):
            exit_code, outcome, problem = self._execute(context, directory, stdout, stderr)
            if problem:
                # The agent's own words; they share the output's limits with the step's.
                stderr.write(f"failed to run commands: {problem}".encode())
            return StepResult(
                exit_code=exit_code, stdout=stdout.head, stderr=stderr.head, outcome=outcome
            )

    def _execute(
        self, context: InvocationContext, directory: Path, stdout: _Output, stderr: _Output
    ) -> tuple[int, Outcome, str]:
        """Exit code, outcome, and why it failed in the agent's words (ExecuteCommand)."""
        working = _working_directory(context)
        if not working.is_dir():
            return 1, Outcome.EXITED, "fork/exec /usr/bin/sh: no such file or directory"
        process = self._spawn(context, directory, working)
        assert process.stdout is not None
        assert process.stderr is not None
        watch = Watch(
            process,
            {process.stdout: stdout.write, process.stderr: stderr.write},
            timeout=context.timeout_seconds * context.time_scale,
            interrupt=context.interrupt,
            rate=None if self.rate is None else self.rate / context.time_scale,
        )
        outcome = watch.run()
        if outcome is Outcome.LOST:
            return STOPPED, outcome, ""
        if watch.unkilled:
            return 1, Outcome.EXITED, watch.unkilled
        if outcome is not Outcome.EXITED:
            return STOPPED, outcome, ""
        if process.returncode < 0:
            # A signal has no exit code: -1 in Go, which names it as strsignal(3) does.
            return -1, outcome, f"signal: {(signal.strsignal(-process.returncode) or '').lower()}"
        fine = process.returncode in (0, STOPPED, REBOOT)
        return process.returncode, outcome, "" if fine else f"exit status {process.returncode}"

    def _spawn(
        self, context: InvocationContext, directory: Path, working: Path
    ) -> subprocess.Popen[bytes]:
        script = directory / "_script.sh"
        with _spawning:
            script.write_text(context.script, encoding="utf-8")
            script.chmod(0o700)
            return subprocess.Popen(
                # Quoted because this instance's root may be anywhere; the agent's never needs it.
                [self.shell, "-c", shlex.quote(str(script))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=working,
                env=environment(context),
                # Its own process group, in the agent's session (prepareProcess).
                process_group=0,
            )


class _Output:
    """A file of limited size, the head of what went by, and a log that gets all of it."""

    def __init__(self, path: Path, disk_cap: int, log: StreamLog | None) -> None:
        # A step that starts again after a reboot adds to what it wrote before.
        self._file = path.open("ab", buffering=0)
        self._room = disk_cap
        self._head = bytearray()
        self._log = log

    def write(self, chunk: bytes) -> None:
        self._head += chunk[: HEAD_LIMIT - len(self._head)]
        kept = chunk[: self._room]
        self._room -= len(kept)
        if kept:
            self._file.write(kept)
        if self._log is not None:
            self._log.write(chunk)

    @property
    def head(self) -> str:
        return self._head.decode(errors="replace")

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()


def orchestration(context: InvocationContext) -> Path:
    """The step's directory below the instance's root, created."""
    instance = context.instance
    directory = (
        instance.root
        / "var/lib/amazon/ssm"
        / instance.instance_id
        / "document/orchestration"
        / context.command_id
        / context.step
    )
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def environment(context: InvocationContext) -> dict[str, str]:
    """The environment of a step: a service's, the parameters', and what the agent adds.

    No HOME and no TMPDIR: systemd gives a system service neither, and the agent adds none
    (prepareEnvironment, setCommandIdEnvironment).
    """
    instance = context.instance
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "CODEFERRY_ROOT": str(instance.home),
        # Whoever runs the embedded AWS is its instances' first login user: nobody else may
        # be able to enter the directories on the way here.
        "CODEFERRY_LOGIN_UID": str(os.getuid()),
        **context.environment,
        "SSM_COMMAND_ID": context.command_id,
        "AWS_SSM_INSTANCE_ID": instance.instance_id,
        "AWS_SSM_REGION_NAME": context.region,
        "AWS_SSM_PLATFORM_NAME": instance.platform_name,
        "AWS_SSM_PLATFORM_VERSION": instance.platform_version,
    }


def _working_directory(context: InvocationContext) -> Path:
    """The wanted directory, inside the instance's root; the agent's own when none is wanted.

    A relative one is looked for below what ``aws:downloadContent`` brought, which there is
    none of here: then it is the agent's own, too (runCommands of runscript.go).
    """
    wanted = context.working_directory
    if not wanted.startswith("/"):
        return AGENT_DIRECTORY
    return context.instance.root / wanted.lstrip("/")
