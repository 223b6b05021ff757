"""An instance that runs commands: both steps of the document, and what is left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeferry_contracts.parameters import Payload
from codeferry_contracts.result import (
    RESULT_MAX_CHARACTERS,
    CommandOutcome,
    InstanceResult,
    parse_result,
)
from tests.unit.agent.archives import Tree, pack
from tests.unit.agent.conftest import SECRET, Instance, Store

RESULT_STEP = Path(__file__).parents[3] / "stacks/documents/result.sh"

# Others may enter neither the suite's temporary directories nor, perhaps, its Python.
AS_US = {"user": "root"} if os.geteuid() == 0 else {}
# What processes of this test run are known by: it may run twice at once.
MARK = f"{os.getpid()}{time.monotonic_ns() % 10**6}"


@dataclass(frozen=True)
class Outcome:
    """What the two steps of one delivery printed."""

    exit: int
    out: bytes
    err: str
    said: str  # by the second step

    @property
    def first(self) -> InstanceResult:
        return parse_result(self.out.split(b"\n", 1)[0].decode())

    @property
    def output(self) -> bytes:
        """What came behind the first line."""
        return self.out.split(b"\n", 1)[1]

    @property
    def last(self) -> InstanceResult:
        return parse_result(self.said)

    @property
    def ran(self) -> CommandOutcome:
        assert self.last.ran is not None
        return self.last.ran

    @property
    def code(self) -> str:
        assert self.exit == 1, self.err
        assert self.last.status == "failed"
        assert self.last.error is not None
        return self.last.error["code"]

    @property
    def message(self) -> str:
        assert self.last.error is not None
        return self.last.error["message"]


class Machine(Instance):
    """An instance to which releases with commands, or scripts, are delivered."""

    def command(self, *words: str, tree: Tree | None = None, **changes: Any) -> Payload:
        """The payload that runs ``words`` in a release of ``tree``, now in the store."""
        self.store.body = body = pack(tree or {"f": b""})
        return self.payload(body, command=words, **{"command_seconds": 60, **AS_US, **changes})

    def run(self, *words: str, tree: Tree | None = None, **changes: Any) -> Outcome:
        return self.steps(self.command(*words, tree=tree, **changes))

    def sh(self, script: str, **changes: Any) -> Outcome:
        return self.run("/bin/sh", "-c", script, **changes)

    def steps(self, payload: Payload, **environ: str) -> Outcome:
        """Both steps, one after the other."""
        return self.wait(self.start(payload, **environ), payload)

    def wait(self, process: subprocess.Popen[bytes], payload: Payload) -> Outcome:
        """The second step, once the first has ended; a closed pipe gives nothing."""
        out, err = (each or b"" for each in process.communicate(timeout=120))
        told = self.result_step(payload.run_id)
        for each in (err.decode(), told, out.decode(errors="replace")):
            assert SECRET not in each
        if told:
            assert told.count("\n") == 1
            assert len(told) <= RESULT_MAX_CHARACTERS + 1
        return Outcome(process.returncode, out, err.decode(), told)

    def result_step(self, run_id: str) -> str:
        script = RESULT_STEP.read_text().replace("{{ runId }}", run_id)
        environ = {"PATH": os.environ["PATH"], "CODEFERRY_ROOT": str(self.root)}
        done = subprocess.run(
            ["/bin/sh", "-c", script], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout

    def record(self, run_id: str) -> Any:
        return json.loads((self.project / f"runs/{run_id}.json").read_text())


def machine(instance: Instance, workflow: str = "sync") -> Machine:
    """``instance`` for commands of ``workflow``, which run as us unless told otherwise."""
    fields = {each.name: getattr(instance, each.name) for each in dataclasses.fields(instance)}
    return Machine(**{**fields, "arguments": (workflow,), "text": False})


@contextlib.contextmanager
def open_to_all(store: Store, workflow: str = "sync") -> Iterator[Machine]:
    """A machine where every user can go, as to /opt on a real one."""
    with tempfile.TemporaryDirectory(prefix="codeferry-test-") as directory:
        Path(directory).chmod(0o755)
        yield machine(Instance(Path(directory), store), workflow)


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's value as soon as it has one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            value = condition()
            if value:
                return value
        time.sleep(0.01)
    raise AssertionError("it never came")


def kill_with_supervisor(front: subprocess.Popen[bytes]) -> None:
    """Kill a run's front and its supervisor, neither of which has time to end anything."""
    (supervisor,) = Path(f"/proc/{front.pid}/task/{front.pid}/children").read_text().split()
    for pid in (front.pid, int(supervisor)):
        os.kill(pid, signal.SIGSTOP)
    for pid in (int(supervisor), front.pid):
        os.kill(pid, signal.SIGKILL)
    front.communicate(timeout=60)


def processes_with(mark: str) -> list[int]:
    """Pids of all living processes that have ``mark`` in their command line or environment."""
    return [pid for pid in _pids() if mark.encode() in _words(pid)]


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _words(pid: int) -> bytes:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return b""
        return b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "environ"))
    except OSError:
        return b""
