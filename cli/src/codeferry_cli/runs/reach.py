"""Instances that a target reaches: the stage is asked before anything is packed or sent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

from codeferry_cli.aws.errors import explain
from codeferry_cli.aws.session import Access
from codeferry_cli.aws.stage import DeployedStage, ask_check_function
from codeferry_cli.errors import USAGE, AccessProblem, NoInstances, exit_code
from codeferry_cli.runs.find import person
from codeferry_cli.runs.releases import given_releases
from codeferry_contracts import formatting
from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.escaping import one_line
from codeferry_contracts.request import RunRequest, StartedBy
from codeferry_contracts.target import parse_target

T = TypeVar("T")
Note = Callable[[str], None]  # is given a line for a person

_MOST_NAMED = 20
_MOST_LOOKED_AT = 8  # runs of the project


class Unreachable(TypedDict):
    """Why an instance of the target cannot be reached, and what changes that."""

    instance_id: str
    name: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Reach:
    """What the check function answers. ``why`` is the error's JSON where nothing is reachable;
    ``request`` the keys that the stage's run request knows, empty where it does not say."""

    target: str
    reachable: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    unreachable: tuple[Unreachable, ...] = ()
    why: dict[str, str] | None = None
    request: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "reachable": [
                {"instance_id": i, "name": self.names.get(i, "")} for i in self.reachable
            ],
            "unreachable": list(self.unreachable),
        }

    def error(self) -> NoInstances | None:
        """Why nothing can be reached; None where something can."""
        if self.reachable:
            return None
        found = self.why or {
            "message": f"No instance of the target {self.target!r} can be reached.",
            "hint": "\n".join(o["fix"] for o in self.unreachable[:_MOST_NAMED]),
        }
        return NoInstances(
            found["message"], hint=found["hint"], details={"instances": self.to_json()}
        )


def ask_instances(stage: DeployedStage, target: str) -> Reach:
    """Raises what botocore raises, and a CodeferryError of the function's."""
    found = ask_check_function(stage, target)
    entries = [e if isinstance(e, dict) else {"instance_id": e} for e in found["reachable"]]
    unreachable = [Unreachable(**{"name": "", **o}) for o in found["unreachable"]]  # type: ignore[typeddict-item]
    return Reach(
        target,
        tuple(str(entry["instance_id"]) for entry in entries),
        found.get("names", {}),
        tuple(unreachable),
        found.get("why"),
        tuple(found.get("request", ())),
    )


def require_instances(stage: DeployedStage, target: str, note: Note) -> Reach | None:
    """The instances, said. Raises NoInstances where none can be reached; whoever may not ask
    goes on without: None."""
    try:
        reach = ask_instances(stage, target)
    except Exception as error:
        problem = explain(error, stage.aws.access)
        if not (isinstance(problem, AccessProblem) and problem.code == "access_denied"):
            raise
        note(f"Not asked which instances {target} reaches: {one_line(problem.message)}")
        return None
    if parse_target(target).kind not in ("run", "wave"):  # else they are the run's
        tell_instances(reach, note)
    return reach


def unless_aws_unusable(access: Access, note: Note, what: str, action: Callable[[], T]) -> T | None:
    """What ``action`` returns; None, and ``what`` it means, where AWS cannot be used."""
    try:
        return action()
    except Exception as error:
        problem = error if isinstance(error, CodeferryError) else explain(error, access)
        if problem is None or exit_code(problem) == USAGE:
            raise
        note(f"{what}: {one_line(problem.message)}")
        return None


def tell_instances(reach: Reach, say: Note, *, each: bool = False) -> None:
    error = reach.error()
    if error:
        raise error
    total = len(reach.reachable) + len(reach.unreachable)
    count = formatting.counted(len(reach.reachable), "instance")
    of = f" of {total:,}" if reach.unreachable else ""
    say(f"Target {reach.target} reaches {count}{of}")
    shown = reach.reachable[:_MOST_NAMED] if each else ()
    for instance_id in shown:
        say(f"  {instance_id} {reach.names.get(instance_id, '')}".rstrip())
    _show_more(len(reach.reachable) - len(shown) if each else 0, say)
    for found in reach.unreachable[:_MOST_NAMED]:
        name = f" {found['name']}" if found["name"] else ""
        say(f"  not {found['instance_id']}{name}, which {found['reason']}. {found['fix']}")
    _show_more(len(reach.unreachable) - _MOST_NAMED, say)


def _show_more(rest: int, say: Note) -> None:
    if rest > 0:
        say(f"  and {rest:,} more: ferry doctor TARGET lists them")


def understood_by_stage(request: RunRequest, reach: Reach | None) -> RunRequest:
    """The request less who asks, where a stage deployed by an older version refuses that."""
    knows = reach is not None and "started_by" in reach.request
    return request if knows else dataclasses.replace(request, started_by=None)


def warn_of_another_owner(
    stage: DeployedStage, reached: Reach | None, request: RunRequest, note: Note
) -> None:
    """Say it where the project's release on these instances is another person's, or comes from
    another directory: two projects of one name replace each other, checkpoints included."""
    by, project = request.started_by, request.project
    if reached is None or by is None or project is None:
        return
    last = next(given_releases(stage, project, reached.reachable, most=_MOST_LOOKED_AT), None)
    theirs = last.run.by if last else None
    if last is None or theirs is None or _same_owner(by, theirs):
        return
    note(
        f"Warning: the release of {project} there is {person(theirs)}'s, from"
        f" {one_line(theirs.root)} (run {last.run.execution.run_id}). This one replaces it and"
        " uses its checkpoints, data and output. If they are two projects, name this one:"
        f' --project NAME, or project = "NAME" in codeferry.toml.'
    )


def _same_owner(by: StartedBy, other: StartedBy) -> bool:
    """In CI every job is another host."""
    hosts = by.host == other.host or os.environ.get("CI", "") not in ("", "false")
    return (by.user, by.root) == (other.user, other.root) and hosts
