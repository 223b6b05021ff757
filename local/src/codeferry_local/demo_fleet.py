"""``ferry demo --fleet``: a release in waves, one that returns, and an instance that comes late."""

from __future__ import annotations

from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from codeferry_local.demo import PROJECT, TARGET, DemoFailed, Showing
from codeferry_local.home import InstanceRecord, read_state
from codeferry_local.instances import launch_more

WAVES = ("--waves", "1,50%,100%", "--bake", "1s", "--health", "./scripts/health.sh")
LATE_SECONDS = 90


class FleetShowing(Showing):
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
        source = self.project / "train.py"
        source.write_text(source.read_text().replace("after {epochs}", "in {epochs}"))
        self.console.print("[dim]$ edit train.py[/dim]")
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
        arrived = Retrying(
            retry=retry_if_result(lambda release: not release),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(LATE_SECONDS),
        )
        try:
            arrived(_current, late)
        except RetryError as error:
            message = f"{late.name} had no release after {LATE_SECONDS} s."
            raise DemoFailed(message, hint="Look with: ferry runs") from error
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
        found = self._client("stepfunctions").list_executions(
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
