"""``ferry demo``: what a user does in the first half hour, done for them in half a minute.

It uses the product from outside: the ``ferry`` command for pushes, plain tar and a plain
S3 client for the bare upload. With ``--fleet`` a release in waves, one that is rolled back, and an
instance that joins late.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

from codeferry_contracts import layout
from codeferry_contracts.local_stage import HOME_VARIABLE
from codeferry_contracts.names import inbox_run_id
from codeferry_local.emulator.deployment import checkout
from codeferry_local.errors import LocalError
from codeferry_local.home import Home, InstanceRecord, State, read_state
from codeferry_local.instances import launch_more
from codeferry_local.process import StepPrinter, Supervisor

TARGET = "demo"
PROJECT = "train"
RESULTS = "demo-results"

WAVES = ("--waves", "1,50%,100%", "--bake", "1s", "--health", "./scripts/health.sh")
LATE_SECONDS = 90


class DemoFailed(LocalError):
    """A command of the demo did not end well."""

    code = "demo_failed"


@dataclass(frozen=True)
class Demo:
    """One showing; all it makes lies in a temporary directory of its own.

    ``show`` makes what is shown, on so many ``instances``.
    """

    console: Console
    show: Callable[[Console, State, Home, Path], FirstSteps]
    instances: int

    def run(self, *, keep: bool) -> None:
        """Show everything. Raises what a part of it raised, after cleaning up."""
        with tempfile.TemporaryDirectory(prefix="codeferry-demo-") as place:
            home = Home.default() if keep else Home(Path(place) / "aws")
            self._title(f"An AWS of our own, with {self.instances} instances")
            with self._aws(home, keep=keep):
                self.show(self.console, read_state(home), home, Path(place)).all()
        self._farewell(keep=keep)

    @contextmanager
    def _aws(self, home: Home, *, keep: bool) -> Iterator[None]:
        supervisor = Supervisor.start(
            home,
            instances=self.instances,
            target=TARGET,
            attached=not keep,
            paced=False,
            progress=StepPrinter(self.console),
        )
        try:
            yield
        finally:
            if not keep:
                supervisor.stop()

    def _title(self, text: str) -> None:
        self.console.print(Rule(text, align="left", style="cyan"))

    def _farewell(self, *, keep: bool) -> None:
        self.console.print(Rule(style="cyan"))
        if keep:
            self.console.print("It is still running: ferry push demo --stage local")
            self.console.print("End it with: ferry local down")
        else:
            self.console.print("Everything this demo started is gone again.")
            self.console.print("Keep one running: ferry local up")


@dataclass(frozen=True)
class FirstSteps:
    """The steps on a running embedded AWS."""

    console: Console
    state: State
    home: Home
    place: Path

    def all(self) -> None:
        self._copy_project()
        self._first_push()
        self._second_push()
        self._training()
        self._script()
        self._results()
        self._bare_upload()
        self._history()

    @property
    def project(self) -> Path:
        return self.place / PROJECT

    def _copy_project(self) -> None:
        shutil.copytree(checkout() / "examples" / PROJECT, self.project, symlinks=True)
        # What a working copy gathers and git ignores: none of it may travel.
        for name in ("checkpoints/epoch-9.bin", "data/raw.bin", "notebooks/scratch-mine.md"):
            path = self.project / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(1 << 20))

    def _first_push(self) -> None:
        self._title("Push a project to every instance of the target")
        self._ferry("push", TARGET, str(self.project))
        self._show_release()

    def _second_push(self) -> None:
        self._title("Push again after one edit: a new release, the old one kept")
        self._edit()
        self._ferry("push", TARGET, str(self.project))
        self._show_release()

    def _training(self) -> None:
        self._title("Run the training on all three, in the release just verified there")
        self.state.access.client("s3").create_bucket(
            Bucket=RESULTS, CreateBucketConfiguration={"LocationConstraint": self.state.region}
        )
        self._ferry(
            *("run", TARGET, str(self.project), "--env", f"RESULTS_BUCKET={RESULTS}"),
            *("--", "python3", "train.py", "--epochs", "8"),
        )
        self._title("Its whole output, kept after the run")
        first = self.state.instances[0].instance_id
        self._ferry("logs", "--project", PROJECT, "--instance", first)
        metrics = self._directory / "shared" / "output" / "metrics.json"
        self._say(f"cat {metrics.relative_to(self.state.instances[0].root)}   (on the instance)")
        self.console.print(metrics.read_text().strip(), highlight=False)

    def _results(self) -> None:
        self._title("Bring the results back: each instance's agent drains its output directory")
        for record in self.state.instances:
            root = f"{record.root}/opt/codeferry/{PROJECT}/shared/output/s3"
            self._say(f"codeferry-agent drain --once   (on {record.instance_id})")
            self._run_agent("drain", "--once", "--stability", "0", "--directory", root)
        self._ferry("s3", "list", f"s3://{RESULTS}/")

    def _script(self) -> None:
        self._title("A script with supporting files, on every instance, gone afterwards")
        self._ferry("script", TARGET, str(self.project / "scripts" / "check.sh"), "--", "it's fine")

    def _bare_upload(self) -> None:
        self._title("Start a run by nothing but an S3 upload of a plain tar.gz")
        key = layout.inbox_key(TARGET, PROJECT)
        archive = self.place / "plain.tar.gz"
        self._say(f"tar czf plain.tar.gz -C {PROJECT} --exclude=*.bin .")
        subprocess.run(
            ["tar", "czf", str(archive), "-C", str(self.project), "--exclude=*.bin", "."],
            check=True,
        )
        self._say(f"aws s3 cp plain.tar.gz s3://{self.state.bucket}/{key}")
        with archive.open("rb") as body:
            put = self.state.access.client("s3").put_object(
                Bucket=self.state.bucket, Key=key, Body=body
            )
        run_id = inbox_run_id(self.state.bucket, key, put["VersionId"])
        problem = f"The run {run_id} is still running after a minute."
        self._wait(lambda: self._ended(run_id), 60, problem)
        self._ferry("status", run_id)

    def _history(self) -> None:
        self._title("All runs, whichever way they came in")
        self._ferry("runs")

    def _edit(self) -> None:
        source = self.project / "train.py"
        source.write_text(source.read_text().replace("after {epochs}", "in {epochs}"))
        self.console.print("[dim]$ edit train.py[/dim]")

    def _show_release(self) -> None:
        """What lies on the first instance now."""
        record, directory = self.state.instances[0], self._directory
        current = (directory / "current").readlink()
        self._say(f"ls {directory.relative_to(record.root)}   (on {record.instance_id})")
        for release in sorted((directory / "releases").iterdir()):
            mark = "  <- current" if current.name == release.name else ""
            files = sum(1 for path in release.rglob("*") if not path.is_dir())
            self.console.print(f"  releases/{release.name}  {files} files{mark}", highlight=False)

    @property
    def _directory(self) -> Path:
        """The project's directory on the first instance."""
        return Path(self.state.instances[0].root) / "opt" / "codeferry" / PROJECT

    def _ferry(self, *arguments: str, exit_code: int = 0) -> None:
        """Run the installed ``ferry`` as a user would, its output straight to the screen;
        DemoFailed unless it ends with this exit code."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        words = [*arguments[:end], "--stage", "local", *arguments[end:]]
        self._say(shlex.join(["ferry", *(word.removeprefix(f"{self.place}/") for word in words)]))
        self._run("ferry", words, {HOME_VARIABLE: str(self.home.path)}, exit_code)

    def _run_agent(self, *arguments: str) -> None:
        """Run the installed ``codeferry-agent``, as its unit would on an instance."""
        state = {"CODEFERRY_DRAIN_STATE": str(self.place / "drain-state")}
        self._run("codeferry-agent", arguments, self.state.environment() | state)

    def _run(
        self,
        program: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        exit_code: int = 0,
    ) -> None:
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        done = subprocess.run(command, env={**os.environ, **variables}, check=False)
        if done.returncode != exit_code:
            raise DemoFailed(
                f"{program} {arguments[0]} ended with {done.returncode}.",
                hint="Its own message is above.",
            )

    def _ended(self, run_id: str) -> bool:
        """Whether the run that an upload starts is there and has ended."""
        states = self.state.access.client("stepfunctions")
        machine = self.state.state_machines["sync"]
        execution = f"{machine.replace(':stateMachine:', ':execution:')}:{run_id}"
        try:
            found = states.describe_execution(executionArn=execution)
        except states.exceptions.ExecutionDoesNotExist:
            return False
        return bool(found["status"] != "RUNNING")

    def _wait(self, condition: Callable[[], object], seconds: float, problem: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise DemoFailed(problem, hint="Look with: ferry runs")
            time.sleep(0.2)

    def _title(self, text: str) -> None:
        self.console.print()
        self.console.print(Rule(text, align="left", style="cyan"))

    def _say(self, command: str) -> None:
        self.console.print(f"[bold]$ {escape(command)}[/bold]", highlight=False, soft_wrap=True)


class FleetRollout(FirstSteps):
    """The demo's project on more instances."""

    def all(self) -> None:
        self._copy_project()
        self._healthy()
        self._ill()
        self._undo()
        self._late()

    def _healthy(self) -> None:
        self._title(
            "Push in waves: one instance, then half of them, then all, each asked how it is"
        )
        self._ferry("push", TARGET, str(self.project), *WAVES)

    def _ill(self) -> None:
        ill = self._instances()[1]
        self._title(f"Another release, and {ill.name} is ill: wave two fails and goes back")
        (_home(ill) / "ill").write_text("no CUDA device\n")
        self._edit()
        self._ferry("push", TARGET, str(self.project), *WAVES, exit_code=1)
        self._show_current()

    def _undo(self) -> None:
        self._title("Return the instance of wave one too, in the time of one command")
        self._ferry("rollback", f"run:{self._failed_run()}")
        self._show_current()

    def _late(self) -> None:
        self._title("An instance joins the fleet, and nobody tells it what to run")
        self._say(f"ferry local launch --target {TARGET}")
        (late,) = launch_more(self.home, count=1, target=TARGET)
        problem = f"{late.name} had no release after {LATE_SECONDS} s."
        self._wait(lambda: _current(late), LATE_SECONDS, problem)
        self._show_current()

    def _instances(self) -> list[InstanceRecord]:
        """The instances in the order in which the waves take them."""
        return sorted(read_state(self.home).instances, key=lambda record: record.instance_id)

    def _show_current(self) -> None:
        self._say(f"readlink opt/codeferry/{PROJECT}/current   (on each)")
        for record in self._instances():
            line = f"  {record.instance_id}  {record.name}  {_current(record)}"
            self.console.print(line, highlight=False)

    def _failed_run(self) -> str:
        """The id of the newest run that failed."""
        found = self.state.access.client("stepfunctions").list_executions(
            stateMachineArn=self.state.state_machines["sync"], statusFilter="FAILED"
        )
        name: str = found["executions"][0]["name"]
        return name


def _home(record: InstanceRecord) -> Path:
    return Path(record.root) / "opt" / "codeferry"


def _current(record: InstanceRecord) -> str:
    """The release on an instance, empty while there is none."""
    link = _home(record) / PROJECT / "current"
    return link.readlink().name if link.is_symlink() else ""
