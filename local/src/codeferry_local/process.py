"""Start and end the supervisor from another process, and show its steps as they happen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from codeferry_contracts.errors import CodeferryError
from codeferry_local.errors import NotRunning, StartFailed, tail
from codeferry_local.home import Home, State, read_state

Progress = Callable[[dict[str, Any]], None]
STOP_SECONDS = 30


@dataclass(frozen=True)
class StepPrinter:
    """Prints one line per finished step; on a terminal also the one under way."""

    console: Console

    def __call__(self, line: dict[str, Any]) -> None:
        if "step" in line and self.console.is_terminal:
            self.console.print(f"  … {line['step']}", end="\r", style="dim")
        if "done" in line:
            self.console.print(f"  [green]✓[/green] {line['done']} [dim]{line['seconds']} s[/dim]")


@dataclass(frozen=True)
class Options:
    """What to start: so many instances tagged for one target; SSM waits ``time_scale`` times.

    ``attached`` ties its life to the process that starts it. ``agent`` is a genuine agent that
    carries commands out; without it ours does. ``paced``: ours takes the time a genuine one takes
    for output and logs. ``variables`` are added to the Lambdas' environment, and win over ours.
    With ``signing`` instances take signed releases only.
    """

    instances: int
    target: str
    attached: bool
    time_scale: float = 1.0
    paced: bool = True
    agent: Path | str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    signing: bool = False


@dataclass
class Supervisor:
    """A started embedded AWS."""

    home: Home
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        home: Home,
        *,
        progress: Progress = lambda line: None,
        **options: Any,
    ) -> Supervisor:
        """Start one with these Options and return when everything answers; ``progress`` gets each
        step. Raises the error it reported, or StartFailed."""
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        chosen = Options(**options)
        arguments = [str(home.path), json.dumps(asdict(chosen), default=str)]
        process = subprocess.Popen(
            [sys.executable, "-m", "codeferry_local.supervisor", *arguments],
            stdin=subprocess.PIPE if chosen.attached else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=home.log_file.open("ab"),
            start_new_session=True,
        )
        started = cls(home=home, process=process)
        try:
            started._follow(progress)
        except BaseException:
            started.stop()
            raise
        return started

    def _follow(self, progress: Progress) -> None:
        assert self.process.stdout is not None
        ready = False
        for text in self.process.stdout:
            line = json.loads(text)
            if "error" in line:
                raise CodeferryError(**line["error"])
            ready = ready or "ready" in line
            progress(line)
        if not ready:
            raise StartFailed(f"The embedded AWS did not start: {tail(self.home.log_file)}")

    def stop(self) -> None:
        """End it and wait until it is gone."""
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def stop_running(home: Home) -> State:
    """End the one that runs in ``home``; its last state. Raises NotRunning."""
    state = read_state(home)
    try:
        process = psutil.Process(state.pid)
        os.kill(state.pid, signal.SIGTERM)
        process.wait(timeout=STOP_SECONDS)
    except psutil.TimeoutExpired:
        os.kill(state.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError) as error:
        raise NotRunning("The embedded AWS is not running.") from error
    return state
