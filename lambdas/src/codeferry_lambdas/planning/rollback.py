"""The instances a rollback is for, and what they leave: of a target, or of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codeferry_contracts.layout import RunKeys
from codeferry_contracts.report import Outcome
from codeferry_contracts.request import RunRequest
from codeferry_contracts.target import Target, parse_target
from codeferry_lambdas.aws.errors import NothingToReturn
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.fleet.targets import Fleet
from codeferry_lambdas.runs import rollout
from codeferry_lambdas.runs.record import Plan, Record


@dataclass(frozen=True)
class Rollback:
    """``leaving`` is the only release that may be left, empty for any. ``settles`` is the
    target whose last good release this decides, empty for none; with ``settles_run``
    only if that run's is the one stored."""

    project: str
    fleet: Fleet
    leaving: str = ""
    settles: str = ""
    settles_run: str = ""


def find_rollback(settings: Settings, request: RunRequest) -> Rollback:
    """NothingToReturn when the run it is about has changed nothing."""
    target = parse_target(request.target)
    if target.kind in ("run", "wave"):
        return _of_run(settings, Record(settings.bucket, RunKeys(target.value)), target)
    return Rollback(
        project=request.project or "",
        fleet=targets.resolve(target, settings),
        settles="" if target.kind == "instance" else target.text,
    )


def _of_run(settings: Settings, record: Record, target: Target) -> Rollback:
    plan = record.plan()
    report = record.read(record.keys.report)  # it knows who was returned with a wave
    outcomes = report["instances"] if report else record.outcomes(len(plan.batches))
    if target.kind == "wave":
        outcomes = rollout.last_wave(plan, outcomes)
    changed = [outcome for outcome in outcomes if rollout.may_be_changed(outcome)]
    leaving = _release(changed)
    if not leaving:
        raise NothingToReturn(
            f"The run {target.value} has given its release to no instance.",
            hint=f"See what it did: ferry status {target.value}",
        )
    settles = "" if target.kind == "wave" else _settled(plan)
    return Rollback(
        project=plan.project,
        fleet=targets.resolve_ids({outcome["instance_id"] for outcome in changed}, settings),
        leaving=leaving,
        settles=settles,
        settles_run=target.value if settles else "",
    )


def _settled(plan: Plan) -> str:
    """The target whose last good release may be that run's."""
    target = parse_target(plan.run_request.target)
    return "" if target.kind in ("instance", "run", "wave") else target.text


def _release(outcomes: Sequence[Outcome]) -> str:
    found = Counter(o["release_id"] for o in outcomes if o["release_id"])
    return found.most_common(1)[0][0] if found else ""
