"""Runs a step for real, as the agent does: the script in a file, and ``sh -c`` of its path.

Files are where the agent has them, below the instance's root. The environment is the one the
agent gives, and what tells Codeferry's own code where this instance's root is.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from pathlib import Path

from codeferry_local.ssm.executors import REBOOT, STOPPED, Ending, InvocationContext, StepOutcome
from codeferry_local.ssm.log_stream import StreamLog
from codeferry_local.ssm.output import HEAD_LIMIT
from codeferry_local.ssm.process import Watch

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The agent's own directory (WorkingDirectory of its service), which its steps inherit.
AGENT_DIRECTORY = Path("/usr/bin")

# Bytes a second that the agent takes of a step's output: it copies them one by one, twice (Read
# of iomodule/commandoutput.go and fileS3.go). As measured on a genuine one.
OUTPUT_RATE = 500_000

# Between a fork and its exec the child holds every open descriptor: a script that is
# being written then is "text file busy" when it is executed. So one at a time.
_spawning = threading.Lock()


class ShellExecutor:
    """Runs steps with ``shell``; ``disk_cap`` bounds each output file, in bytes.

    ``rate``: the bytes a second it takes of each output, before ``time_scale``; None: as they
    come.
    """

    def __init__(
        self,
        *,
        disk_cap: int = 64 * 1024 * 1024,
        shell: str = "sh",
        rate: float | None = None,
    ) -> None:
        self._disk_cap = disk_cap
        self._shell = shell
        self._rate = rate

    def run(self, context: InvocationContext) -> StepOutcome:
        """Run the step's script; an instance that cannot hold it fails the step."""
        try:
            return self._run(context, orchestration(context))
        except OSError as error:
            return StepOutcome(exit_code=1, stderr=f"failed to run commands: {error}")

    def _run(self, context: InvocationContext, directory: Path) -> StepOutcome:
        logs = (context.log.stdout, context.log.stderr) if context.log else (None, None)
        with (
            _Output(directory / "stdout", self._disk_cap, logs[0]) as stdout,
            _Output(directory / "stderr", self._disk_cap, logs[1]) as stderr,
        ):
            exit_code, ending, problem = self._execute(context, directory, stdout, stderr)
            if problem:
                # The agent's own words; they share the output's limits with the step's.
                stderr.write(f"failed to run commands: {problem}".encode())
            return StepOutcome(
                exit_code=exit_code, stdout=stdout.head, stderr=stderr.head, ending=ending
            )

    def _execute(
        self, context: InvocationContext, directory: Path, stdout: _Output, stderr: _Output
    ) -> tuple[int, Ending, str]:
        """Exit code, ending, and why it failed in the agent's words (ExecuteCommand)."""
        working = _working_directory(context)
        if not working.is_dir():
            return 1, Ending.EXITED, "fork/exec /usr/bin/sh: no such file or directory"
        process = self._spawn(context, directory, working)
        assert process.stdout is not None
        assert process.stderr is not None
        watch = Watch(
            process,
            {process.stdout: stdout.write, process.stderr: stderr.write},
            timeout=context.timeout_seconds * context.time_scale,
            interrupt=context.interrupt,
            rate=None if self._rate is None else self._rate / context.time_scale,
        )
        ending = watch.run()
        if ending is Ending.LOST:
            return STOPPED, ending, ""
        if watch.unkilled:
            return 1, Ending.EXITED, watch.unkilled
        if ending is not Ending.EXITED:
            return STOPPED, ending, ""
        if process.returncode < 0:
            # A signal has no exit code: -1 in Go, which names it as strsignal(3) does.
            return -1, ending, f"signal: {(signal.strsignal(-process.returncode) or '').lower()}"
        fine = process.returncode in (0, STOPPED, REBOOT)
        return process.returncode, ending, "" if fine else f"exit status {process.returncode}"

    def _spawn(
        self, context: InvocationContext, directory: Path, working: Path
    ) -> subprocess.Popen[bytes]:
        script = directory / "_script.sh"
        with _spawning:
            script.write_text(context.script, encoding="utf-8")
            script.chmod(0o700)
            return subprocess.Popen(
                # Quoted because this instance's root may be anywhere; the agent's never needs it.
                [self._shell, "-c", shlex.quote(str(script))],
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
