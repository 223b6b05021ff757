"""Values that many tests need, with everything but the point of the test filled in."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from typing import Any

from codeferry_contracts import archive as layout
from codeferry_contracts.archive import MANIFEST_PATH, Entry, manifest_lines, summarise
from codeferry_contracts.report import Outcome
from codeferry_lambdas.fleet.targets import Instance
from codeferry_lambdas.runs import outcomes
from codeferry_lambdas.runs.record import PinnedArchive, PinnedDocument, Plan, Run, Unpacked

KEY = "archives/run-1.tar.gz"
ENTRIES = (
    Entry("app.py", 0o644, 3, "a" * 64),
    Entry("data/x.bin", 0o644, 5, "b" * 64),
)


def event(run: Run, **more: Any) -> dict[str, Any]:
    """What the definition hands to a function."""
    return {
        "run": {"id": run.id, "started_at": run.started_at, "workflow": run.workflow},
        **more,
    }


def instances(count: int, start: int = 0) -> tuple[Instance, ...]:
    return tuple(Instance(f"i-{n:017x}", f"host-{n}") for n in range(start, start + count))


def plan(*sizes: int, **changes: Any) -> Plan:
    """A plan with batches of these sizes, one a wave."""
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    made = Plan(
        request={"archive": {"key": KEY}, "target": "web"},
        project="demo",
        archive=PinnedArchive(KEY, "null", 1000, "c" * 64),
        environment=None,
        step_seconds=900,
        sweep=420,
        document=PinnedDocument("codeferry-dev-sync", "3", "d" * 64),
        digest="e" * 64,
        files=2,
        batches=tuple(instances(n, start) for n, start in zip(sizes, starts, strict=True)),
        waves=tuple((n,) for n in range(len(sizes))),
        concurrency=max(sizes, default=1),
        budget=None,
        unreachable=(),
        warnings=(),
        unpacked=Unpacked(5000, 7),
    )
    return replace(made, **changes)


def outcome(instance: Instance, **changes: Any) -> Outcome:
    """A success, but for ``changes``."""
    found: Outcome = {
        **outcomes.blank(instance),
        "status": "succeeded",
        "ssm_status": "Success",
        "change": "applied",
        "release_id": "e" * 20,
        "digest": "e" * 64,
        "files": 2,
    }
    return {**found, **changes}  # type: ignore[typeddict-item]


def result_line(run_id: str = "run-1", **changes: Any) -> str:
    line = {
        "codeferry_result": 1,
        "run_id": run_id,
        "status": "applied",
        "project": "demo",
        "release_id": "e" * 20,
        "digest": "e" * 64,
        "files": 2,
        "bytes": 8,
        "manifest": True,
    }
    return json.dumps(line | changes, separators=(",", ":"))


def invocation(instance: Instance, status: str = "Success", output: str = "") -> dict[str, Any]:
    """One of ListCommandInvocations' answers."""
    return {
        "CommandId": "0" * 36,
        "InstanceId": instance.instance_id,
        "Status": "Success" if status == "Success" else "Failed",
        "StatusDetails": status,
        "CommandPlugins": [{"Name": "apply", "Output": output}],
    }


def plain_archive() -> bytes:
    """A tar.gz as GNU tar makes it, without a manifest of ours."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        _add(tar, "app.py", b"hi\n")
    return body.getvalue()


def packed_archive(project: str = "demo", entries: tuple[Entry, ...] = ENTRIES) -> bytes:
    """An archive with its manifest where the footer says."""
    head = gzip.compress(b"files would be here")
    tail = io.BytesIO()
    with tarfile.open(fileobj=tail, mode="w") as tar:
        _add(tar, MANIFEST_PATH, b"".join(manifest_lines(summarise(project, entries), entries)))
    return head + gzip.compress(tail.getvalue()) + layout.footer(len(head))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
