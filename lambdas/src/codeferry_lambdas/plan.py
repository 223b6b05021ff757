"""plan: from a request to batches, or to an error a person can act on."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.layout import INBOX_PREFIX, parse_inbox_key
from codeferry_contracts.manifest import Manifest
from codeferry_contracts.names import RUN_ID_PATTERN, project_name, require
from codeferry_contracts.request import RunRequest, parse_request
from codeferry_contracts.target import parse_target
from codeferry_lambdas import archive_object, clients, fleet, limits, newest
from codeferry_lambdas.observability import Event, entry
from codeferry_lambdas.obstacles import lines, no_instances
from codeferry_lambdas.record import PinnedArchive, PinnedDocument, Plan, Record, Run
from codeferry_lambdas.settings import Settings
from codeferry_lambdas.waves import amount, schedule


@entry
def handler(event: Event) -> dict[str, Any]:
    """Takes ``run``, ``document`` and ``request``; returns the ``waves`` of batch numbers."""
    settings, run = Settings.from_env(), Run(**event["run"])
    require(RUN_ID_PATTERN, run.id, "run id")
    request = read_request(event["request"])
    record = Record(settings.bucket, run.keys)
    record.write(run.keys.request, request.to_json())
    plan = make_plan(settings, request, event["document"], run)
    record.write_plan(plan)
    return {"waves": plan.waves}


def read_request(document: Any) -> RunRequest:
    """The checked request; an upload whose key names no target is told what a key is."""
    archive = document.get("archive") if isinstance(document, dict) else None
    key = archive.get("key") if isinstance(archive, dict) else None
    if isinstance(key, str) and key.startswith(INBOX_PREFIX) and "target" not in document:
        parse_inbox_key(key)
    request = parse_request(document)
    _require_unicode(request)
    return request


def _require_unicode(request: RunRequest) -> None:
    """JSON can hold half a character (a lone surrogate), which no call to AWS can."""
    archive = request.archive
    for name, text in (
        ("archive.key", archive.key),
        ("archive.version_id", archive.version_id or ""),
        ("target", request.target),
    ):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RequestInvalid(
                f"The run request is not usable: {name} is not valid Unicode.",
                hint="Its shape is described in docs/run-request.md.",
            ) from None


def make_plan(settings: Settings, request: RunRequest, document: str, run: Run) -> Plan:
    """Everything later states need, settled once; nothing of it is decided again."""
    archive = _archive(settings, request, run.id)
    manifest = archive_object.read_manifest(settings.bucket, archive)
    found = fleet.resolve(parse_target(request.target))
    if not found.reachable:
        raise no_instances(request.target, (*found.unreachable, *found.left_out))
    cut = schedule(len(found.reachable), request.options.max_concurrency)
    limits.require_history(cut, request.options.timeout_seconds)
    plan = Plan(
        request=request.to_json(),
        project=_project(request, manifest),
        archive=archive,
        document=pin_document(document),
        digest=manifest.summary.digest if manifest else "",
        files=manifest.summary.files if manifest else -1,
        batches=_batches(found.reachable, cut.sizes),
        waves=cut.waves,
        concurrency=cut.concurrency,
        budget=_budget(request, len(found.reachable) + len(found.unreachable)),
        unreachable=found.unreachable,
        warnings=tuple(f"Left out: {line}" for line in lines(found.left_out)),
    )
    limits.require_payload(plan, run.id)
    return plan


def _archive(settings: Settings, request: RunRequest, run_id: str) -> PinnedArchive:
    found = archive_object.look(settings.bucket, request.archive)
    if request.archive.key.startswith(INBOX_PREFIX):
        newest.require(settings, request.archive.key, found)
    return archive_object.pin(settings.bucket, request.archive, found, settings.max_archive_bytes)


def _project(request: RunRequest, manifest: Manifest | None) -> str:
    if request.project:
        return request.project
    if manifest and manifest.summary.project:
        return project_name(manifest.summary.project)
    return project_name(request.archive.key.rsplit("/", 1)[-1].removesuffix(".tar.gz"))


def pin_document(name: str) -> PinnedDocument:
    """The document's version and hash now: what SendCommand must find unchanged."""
    document = clients.ssm().describe_document(Name=name)["Document"]
    return PinnedDocument(name, document["DocumentVersion"], document["Hash"])


def _batches(
    instances: tuple[fleet.Instance, ...], sizes: tuple[int, ...]
) -> tuple[tuple[fleet.Instance, ...], ...]:
    ends = accumulate(sizes)
    return tuple(instances[end - size : end] for end, size in zip(ends, sizes, strict=True))


def _budget(request: RunRequest, total: int) -> int | None:
    most = request.options.max_errors
    return None if most is None else amount(most, total)
