"""plan: from a request to batches, or to an error a person can act on."""

from __future__ import annotations

from typing import Any

from codeferry_contracts.names import RUN_ID_PATTERN, require
from codeferry_lambdas.aws.observability import Event, entry, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.planning.plan import make_plan
from codeferry_lambdas.planning.request import read_request
from codeferry_lambdas.releases import signatures
from codeferry_lambdas.runs.record import (
    Record,
    Run,
)


@entry
@phase("plan")
def handler(event: Event) -> dict[str, Any]:
    """Takes ``run``, ``document`` and ``request``; returns the ``waves`` of batch numbers and
    the ``sweep``: how often a long wait looks again, in seconds."""
    settings, run = Settings.from_env(), Run(**event["run"])
    require(RUN_ID_PATTERN, run.id, "run id")
    request = signatures.with_signature(settings, read_request(event["request"], run.workflow))
    record = Record(settings.bucket, run.keys)
    record.write(run.keys.request, request.to_json())
    plan = make_plan(settings, request, event["document"], run)
    record.write_plan(plan)
    return {"waves": plan.waves, "sweep": plan.sweep}
