"""List and find the runs of a stage, by what a person types and where."""

from __future__ import annotations

import getpass
import heapq
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from codeferry_cli.aws.stage import DeployedStage
from codeferry_cli.errors import RunNotFound
from codeferry_cli.packing import find_root
from codeferry_cli.runs.execution import Execution, describe
from codeferry_contracts.layout import INBOX_PREFIX
from codeferry_contracts.names import ROLLBACK, SYNC, project_name, slug
from codeferry_contracts.request import StartedBy

LATEST = "latest"
STATUSES = {
    "running": "RUNNING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "cancelled": "ABORTED",
    "timed-out": "TIMED_OUT",
}

_READERS = 8
_PAGE = 100
# How far back a prefix is looked for: further, a person names the run in full.
_MOST_SEARCHED = 2000
_MOST_DESCRIBED = 200  # and how far back one's own newest: each costs a call

Source = Literal["cli", "inbox", "workflow", "console"]


@dataclass(frozen=True)
class Run:
    """One run as `ferry runs` lists it; target and project as far as its input names them.

    ``command`` is that it runs a command or a script, not only carries code. ``by`` is None
    where the input names nobody.
    """

    execution: Execution
    target: str
    project: str
    command: bool = False
    by: StartedBy | None = None

    @property
    def source(self) -> Source:
        return source_of(self.execution.run_id)

    @property
    def status(self) -> str:
        return status_word(self.execution.status)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        if self.execution.stopped is None:
            return None
        return (self.execution.stopped - self.execution.started).total_seconds()

    def to_json(self) -> dict[str, Any]:
        stopped = self.execution.stopped
        return {
            "run_id": self.execution.run_id,
            "workflow": self.execution.workflow,
            "status": self.status,
            "source": self.source,
            "target": self.target,
            "project": self.project,
            "started_by": asdict(self.by) if self.by else None,
            "started_at": self.execution.started.isoformat(),
            "finished_at": stopped.isoformat() if stopped else None,
            "seconds": self.seconds,
        }


def source_of(run_id: str) -> Source:
    """Which way a run came in, told by the form of its id (contracts.names)."""
    if re.fullmatch(r"inbox-.+-[0-9a-f]{20}", run_id):
        return "inbox"
    if re.fullmatch(r"welcome-.+-[0-9a-f]{20}|back-.+", run_id):
        return "workflow"
    return "cli" if re.fullmatch(r"\d{8}-\d{6}-.+-[0-9a-f]{8}", run_id) else "console"


def status_word(status: str) -> str:
    """Step Functions' status in the words of ``--status``."""
    words = {theirs: ours for ours, theirs in STATUSES.items()}
    return words.get(status, status.lower().replace("_", "-"))


def as_run(execution: Execution) -> Run:
    """What an execution's input says of the run; anything at all may have been typed there."""
    try:
        request = json.loads(execution.input)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        request = {}
    return Run(
        execution,
        target=str(request.get("target") or ""),
        project=str(request.get("project") or _project_of_upload(request.get("archive"))),
        command=bool(request.get("command")),
        by=_started_by(request.get("started_by")),
    )


def _started_by(stated: object) -> StartedBy | None:
    if not isinstance(stated, dict):
        return None
    return StartedBy(*(str(stated.get(name) or "") for name in ("user", "host", "root")))


def _project_of_upload(archive: object) -> str:
    """The project in a key that `ferry upload` made; other names may be anything's."""
    key = str(archive.get("key")) if isinstance(archive, dict) else ""
    name = key.rpartition("/")[2] if key.startswith(INBOX_PREFIX) else ""
    found = re.fullmatch(r"(.+)-\d{8}-\d{6}-[0-9a-f]{8}\.tar\.gz", name)
    return found.group(1) if found else ""


def list_runs(stage: DeployedStage, limit: int, status: str | None = None) -> list[Run]:
    """At most ``limit`` runs, newest first; ``status`` is one of STATUSES."""
    return list(itertools.islice(_described_runs(stage, status), limit))


def _described_runs(stage: DeployedStage, status: str | None = None) -> Iterator[Run]:
    """The runs, newest first: the list has no input, and so neither target nor project."""
    return _described_all(stage, _listed(stage, status))


def _described_all(stage: DeployedStage, listed: Iterator[_Listed]) -> Iterator[Run]:
    with ThreadPoolExecutor(_READERS) as readers:
        while some := list(itertools.islice(listed, _READERS)):
            found = readers.map(lambda one: describe(stage, one.workflow, one.run_id), some)
            yield from map(as_run, found)


def runs_of_project(stage: DeployedStage, project: str) -> Iterator[Run]:
    """The runs that may have given releases of the project, newest first: told by their names,
    so that another project's cost no call. What names none may be of it."""
    part = f"-{slug(project)[:40]}-"
    names = (SYNC, ROLLBACK)
    lists = [_listed_of(stage, name, None) for name in names if name in stage.workflows]
    listed = heapq.merge(*lists, key=lambda one: one.started, reverse=True)
    searched = itertools.islice(listed, _MOST_SEARCHED)
    likely = (r for r in searched if part in r.run_id or _names_no_project(r.run_id))
    for run in _described_all(stage, likely):
        if run.project in (project, ""):
            yield run


def _names_no_project(run_id: str) -> bool:
    return source_of(run_id) == "console" or f"-{ROLLBACK}-" in run_id


def find_latest(stage: DeployedStage, here: Workplace, *, running: bool = False) -> Run:
    """The newest run of this project (by its name, or of this directory) that is not somebody
    else's; with ``running`` the newest that still runs. Raises RunNotFound.
    """
    seen: Run | None = None
    runs = _described_runs(stage, "running" if running else None)
    for run in itertools.islice(runs, _MOST_DESCRIBED):
        seen = seen or run
        if _is_of(run, here):
            return run
    raise _no_run(stage, here, seen, running)


def _is_of(run: Run, here: Workplace) -> bool:
    same_root = run.by is not None and run.by.root == here.by.root
    return (same_root or run.project == here.project) and not here.is_anothers(run.by)


def _no_run(stage: DeployedStage, here: Workplace, seen: Run | None, running: bool) -> RunNotFound:
    listed = f"List them: ferry runs{stage.option()}"
    what = "run that is still going on" if running else "run"
    message = f"You have no {what} of the project '{here.project}' on stage '{stage.name}'."
    if seen is None:
        start = f"Start one: ferry push TARGET{stage.option()}"
        return RunNotFound(message, hint=listed if running else start)
    whose = f", by {person(seen.by)}" if seen.by else ""
    of = f" of {seen.project}" if seen.project else ""
    newest = f"The newest{of}{whose} is {seen.execution.run_id}"
    return RunNotFound(message, hint=f"{newest}: name it to mean it.\n{listed}")


def choose_run(
    stage: DeployedStage,
    typed: str,
    project: str | None,
    note: Callable[[str], None],
    *,
    running: bool = False,
) -> Execution:
    """The run that was typed; for ``latest`` one's own newest, which is said.

    Raises RunNotFound.
    """
    if typed != LATEST:
        return find_run(stage, typed)
    found = find_latest(stage, workplace(project), running=running)
    target = f", to {found.target}" if found.target else ""
    note(f"Run {found.execution.run_id}, your newest of {found.project}{target}.")
    return found.execution


def find_run(stage: DeployedStage, typed: str) -> Execution:
    """The run of that id, or the only one whose id begins so. Raises RunNotFound."""
    named = [found for name in stage.workflows if (found := _described(stage, name, typed))]
    # The same id may be given to both workflows by hand: what runs is what is meant.
    for execution in sorted(named, key=lambda found: not found.running):
        return execution
    only = _by_prefix(stage, typed)
    return describe(stage, only.workflow, only.run_id)


def _described(stage: DeployedStage, workflow: str, run_id: str) -> Execution | None:
    from botocore.exceptions import ClientError

    try:
        return describe(stage, workflow, run_id)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return None


class _Listed(NamedTuple):
    """A run as ListExecutions gives it."""

    started: datetime
    workflow: str
    run_id: str


def _listed(stage: DeployedStage, status: str | None = None) -> Iterator[_Listed]:
    """The runs of all workflows, newest first."""
    lists = [_listed_of(stage, workflow, status) for workflow in stage.workflows]
    return heapq.merge(*lists, key=lambda one: one.started, reverse=True)


def _listed_of(stage: DeployedStage, workflow: str, status: str | None) -> Iterator[_Listed]:
    pages = stage.workflow.get_paginator("list_executions").paginate(
        stateMachineArn=stage.state_machine_arn(workflow),
        PaginationConfig={"PageSize": _PAGE},
        **({"statusFilter": STATUSES[status]} if status else {}),
    )
    for page in pages:
        for execution in page["executions"]:
            yield _Listed(execution["startDate"], workflow, execution["name"])


def _by_prefix(stage: DeployedStage, typed: str) -> _Listed:
    searched = itertools.islice(_listed(stage), _MOST_SEARCHED)
    matches = [one for one in searched if one.run_id.startswith(typed)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = "\n".join(one.run_id for one in matches[:10])
        raise RunNotFound(
            f"{len(matches)} runs begin with {typed!r}.", hint=f"Type more of one:\n{shown}"
        )
    raise RunNotFound(
        f"Stage '{stage.name}' has no run {typed!r}.",
        hint=f"List them: ferry runs{stage.option()}",
    )


@dataclass(frozen=True)
class Workplace:
    """A project on this machine, and who works on it."""

    project: str
    by: StartedBy

    def is_mine(self, by: StartedBy | None) -> bool:
        """Whether this person on this machine is who asked for a run."""
        return by is not None and (by.user, by.host) == (self.by.user, self.by.host)

    def is_anothers(self, by: StartedBy | None) -> bool:
        """Whether somebody else is; nobody is named by an upload, the console, an old ferry."""
        return by is not None and not self.is_mine(by)


def workplace(project: str | None = None) -> Workplace:
    """This directory's project, or the one named."""
    root = find_root(None)
    return Workplace(project or project_name(root.name), started_by(root))


def started_by(root: Path) -> StartedBy:
    """Who goes with a run of the project at ``root``."""
    return StartedBy(_line(_user()), _line(socket.gethostname()), _line(str(root)))


def person(by: StartedBy | None) -> str:
    """``user@host`` as people read it; empty where nobody is named."""
    if by is None or not by.user:
        return ""
    host = by.host.partition(".")[0]
    return f"{by.user}@{host}" if host else by.user


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return ""


def _line(text: str) -> str:
    """``text`` as a request holds it: one line of Unicode."""
    known = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in known)[:1024]
