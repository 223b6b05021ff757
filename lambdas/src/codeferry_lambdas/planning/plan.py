"""Make a run's plan: everything later states need, decided once."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from itertools import accumulate

from codeferry_contracts.archive import Manifest
from codeferry_contracts.layout import INBOX_PREFIX, environment_key, is_environment_of
from codeferry_contracts.names import project_name, return_run_id
from codeferry_contracts.parameters import agent_of, step_seconds
from codeferry_contracts.request import Archive, RunRequest
from codeferry_contracts.target import parse_target
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.fleet.batches import amount, schedule
from codeferry_lambdas.fleet.unreachable import lines
from codeferry_lambdas.planning import limits, rollback
from codeferry_lambdas.planning.request import unusable
from codeferry_lambdas.releases import archives, signatures
from codeferry_lambdas.runs.record import (
    PinnedArchive,
    PinnedDocument,
    PinnedEnvironment,
    Plan,
    Run,
)


def make_plan(settings: Settings, request: RunRequest, document: str, run: Run) -> Plan:
    """Everything later states need, settled once; nothing of it is decided again."""
    if request.archive is None:
        return _rollback_plan(settings, request, document, run)
    archive, modified = _archive(settings, request.archive)
    manifest = archives.read_manifest(settings.bucket, archive)
    fleet = targets.resolve(parse_target(request.target), settings)
    plan = dataclasses.replace(
        _for_fleet(settings, fleet, request, document, run),
        project=_project(request, request.archive, manifest),
        archive=archive,
        environment=_environment(settings, request, run),
        digest=manifest.summary.digest if manifest else "",
        files=manifest.summary.files if manifest else -1,
        unpacked=archives.unpacked(request.archive, archive, manifest),
    )
    signatures.require(settings, plan, run)
    limits.require_payload(plan, run)
    limits.require_lifetime(plan, (datetime.now(UTC) - modified).total_seconds())
    return plan


def _rollback_plan(settings: Settings, request: RunRequest, document: str, run: Run) -> Plan:
    found = rollback.find_rollback(settings, request)
    return dataclasses.replace(
        _for_fleet(settings, found.fleet, request, document, run),
        project=found.project,
        leaving=found.leaving,
        settles=found.settles,
        settles_run=found.settles_run,
    )


def _for_fleet(
    settings: Settings, found: targets.Fleet, request: RunRequest, document: str, run: Run
) -> Plan:
    """The plan as far as it is about the instances, and about the time they get."""
    if not found.reachable:
        raise targets.nobody_reachable(parse_target(request.target), found, settings)
    options, rollout = request.options, request.options.rollout
    stages = rollout.waves if rollout else ("100%",)
    cut = schedule(len(found.reachable), options.max_concurrency, stages)
    seconds = step_seconds(
        run.workflow,
        options.timeout_seconds,
        command=bool(request.command),
        bake=rollout.bake_seconds if rollout else None,
    )
    if rollout:
        return_run_id(run.id)
    return Plan(
        request=request.to_json(),
        project="",
        archive=None,
        environment=None,
        step_seconds=seconds,
        sweep=limits.sweep_for(cut, seconds),
        document=pin_document(document),
        digest="",
        files=-1,
        batches=_batches(found.reachable, cut.sizes),
        waves=cut.waves,
        concurrency=cut.concurrency,
        budget=_budget(request, len(found.reachable) + len(found.unreachable)),
        unreachable=found.unreachable,
        warnings=tuple(f"Left out: {line}" for line in lines(found.left_out)),
        rollout=cut.stages if rollout else (),
    )


def _archive(settings: Settings, archive: Archive) -> tuple[PinnedArchive, datetime]:
    """The archive with everything about it settled, and since when it is there."""
    found = archives.find_archive(settings.bucket, archive)
    if archive.key.startswith(INBOX_PREFIX):
        archives.require_newest(settings, archive.key, found)
    pinned = archives.pin(settings.bucket, archive, found, settings.max_archive_bytes)
    return pinned, found.modified


def _environment(settings: Settings, request: RunRequest, run: Run) -> PinnedEnvironment | None:
    """The command's variables with their version settled; they are not read here. Those of
    another run are none of this one's, whose command could print them."""
    stated = request.environment
    if stated is None:
        return None
    if not is_environment_of(stated.key, run.id):
        raise unusable(
            "environment.key is not of this run",
            f"Put them at {environment_key(run.id)}: the execution's name is in it.",
        )
    found = archives.find_archive(settings.bucket, Archive(stated.key, None, stated.version_id))
    return PinnedEnvironment(stated.key, found.version_id)


def _project(request: RunRequest, archive: Archive, manifest: Manifest | None) -> str:
    if request.project:
        return request.project
    if manifest and manifest.summary.project:
        return project_name(manifest.summary.project)
    return project_name(archive.key.rsplit("/", 1)[-1].removesuffix(".tar.gz"))


def pin_document(name: str) -> PinnedDocument:
    """The document's version and hash now: what SendCommand must find unchanged."""
    document = clients.ssm().describe_document(Name=name)["Document"]
    agent = agent_of(document.get("Description", ""))
    return PinnedDocument(name, document["DocumentVersion"], document["Hash"], agent)


def _batches(
    instances: tuple[targets.Instance, ...], sizes: tuple[int, ...]
) -> tuple[tuple[targets.Instance, ...], ...]:
    ends = accumulate(sizes)
    return tuple(instances[end - size : end] for end, size in zip(ends, sizes, strict=True))


def _budget(request: RunRequest, total: int) -> int | None:
    """The number that may fail; in a roll-out none unless the request says otherwise."""
    most = request.options.max_errors
    if most is None:
        return 0 if request.options.rollout else None
    return amount(most, total)
