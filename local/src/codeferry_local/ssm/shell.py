"""Runs a step for real: the script in a file, ``/bin/sh`` in its own session.

Files are where the agent has them, below the instance's root; the environment is
a minimal one and points into the root too, so a step that behaves writes nowhere else.
"""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from codeferry_local.ssm.executors import Ending, InvocationContext, StepOutcome
from codeferry_local.ssm.instances import LocalInstance
from codeferry_local.ssm.log_stream import StreamLog
from codeferry_local.ssm.process import Watch

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the agent keeps of each output for the service, in characters.
STDOUT_HEAD, STDERR_HEAD = 24_000, 8_000
# The agent's exit code for a step it stopped itself.
STOPPED_EXIT_CODE = 137

# Between a fork and its exec the child holds every open descriptor: a script that is
# being written then is "text file busy" when it is executed. So one at a time.
_spawning = threading.Lock()


class ShellExecutor:
    """Runs steps with ``/bin/sh``; ``disk_cap`` bounds each output file, in bytes."""

    def __init__(self, *, disk_cap: int = 64 * 1024 * 1024, grace_seconds: float = 5.0) -> None:
        self._disk_cap = disk_cap
        self._grace = grace_seconds

    def run(self, context: InvocationContext) -> StepOutcome:
        """Run the step's script; an instance that cannot hold it fails the step."""
        try:
            return self._run(context, orchestration(context))
        except OSError as error:
            return StepOutcome(exit_code=1, stderr=f"failed to run commands: {error}")

    def _run(self, context: InvocationContext, directory: Path) -> StepOutcome:
        logs = (context.log.stdout, context.log.stderr) if context.log else (None, None)
        with (
            _Output(directory / "stdout", self._disk_cap, STDOUT_HEAD, logs[0]) as stdout,
            _Output(directory / "stderr", self._disk_cap, STDERR_HEAD, logs[1]) as stderr,
        ):
            process = _spawn(context, directory)
            assert process.stdout is not None
            assert process.stderr is not None
            ending = Watch(
                process,
                {process.stdout: stdout.write, process.stderr: stderr.write},
                timeout=context.timeout_seconds * context.time_scale,
                grace=self._grace * context.time_scale,
                interrupt=context.interrupt,
            ).run()
            exit_code = _exit_code(process, ending)
            if ending is Ending.EXITED and exit_code not in (0, STOPPED_EXIT_CODE):
                # The agent's own words; they share the output's limits with the step's.
                stderr.write(f"failed to run commands: exit status {exit_code}".encode())
            return StepOutcome(
                exit_code=exit_code, stdout=stdout.head, stderr=stderr.head, ending=ending
            )


class _Output:
    """A file of limited size, the head of what went by, and a log that gets all of it."""

    def __init__(self, path: Path, disk_cap: int, head: int, log: StreamLog | None) -> None:
        self._file = path.open("wb", buffering=0)
        self._room = disk_cap
        self._head_limit = head
        self._head = bytearray()
        self._log = log

    def write(self, chunk: bytes) -> None:
        # A character is at most four bytes: enough for a head counted in characters.
        self._head += chunk[: self._head_limit * 4 - len(self._head)]
        kept = chunk[: self._room]
        self._room -= len(kept)
        if kept:
            self._file.write(kept)
        if self._log is not None:
            self._log.write(chunk)

    @property
    def head(self) -> str:
        return self._head.decode(errors="replace")[: self._head_limit]

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
    for needed in (directory, instance.root / "tmp", instance.root / "root"):
        needed.mkdir(parents=True, exist_ok=True)
    return directory


def environment(instance: LocalInstance, region: str) -> dict[str, str]:
    """The environment a step starts with, on this instance."""
    return {
        "PATH": _PATH,
        "HOME": str(instance.root / "root"),
        "LANG": "C.UTF-8",
        "TMPDIR": str(instance.root / "tmp"),
        "CODEFERRY_ROOT": str(instance.home),
        # Whoever runs the embedded AWS is its instances' first login user: nobody else may
        # be able to enter the directories on the way here.
        "CODEFERRY_LOGIN_UID": str(os.getuid()),
        "AWS_SSM_INSTANCE_ID": instance.instance_id,
        "AWS_SSM_REGION_NAME": region,
    }


def _spawn(context: InvocationContext, directory: Path) -> subprocess.Popen[bytes]:
    script = directory / "_script.sh"
    with _spawning:
        script.write_text(context.script, encoding="utf-8")
        script.chmod(0o700)
        return subprocess.Popen(
            _command(script, context.script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_working_directory(context, directory),
            env={**environment(context.instance, context.region), **context.environment},
            start_new_session=True,
        )


def _command(script: Path, text: str) -> list[str]:
    """A script with a ``#!`` line runs under its own interpreter, as with the agent."""
    return [str(script)] if text.startswith("#!") else ["/bin/sh", str(script)]


def _working_directory(context: InvocationContext, default: Path) -> Path:
    """The wanted directory inside the instance's root; the agent's fallback when it is missing."""
    wanted = context.working_directory
    inside = context.instance.root / wanted.lstrip("/")
    return inside if wanted and inside.is_dir() else default


def _exit_code(process: subprocess.Popen[bytes], ending: Ending) -> int:
    if ending is not Ending.EXITED:
        return STOPPED_EXIT_CODE
    # A signal has no exit code; the agent (Go) reports -1 for it.
    return max(process.returncode, -1)
