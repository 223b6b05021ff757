"""verify: compare what instances hold with what the archive holds, then store the release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.report import Outcome
from codeferry_lambdas.aws.observability import Event, entry, logger, phase
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.releases.archives import read_manifest
from codeferry_lambdas.releases.last_good import update_last_good
from codeferry_lambdas.releases.store import ReleaseStore
from codeferry_lambdas.runs import rollout
from codeferry_lambdas.runs.record import Plan, Record, Run
from codeferry_lambdas.runs.verification import require_matching, verify, verify_rollback


@entry
@phase("verify")
def handler(event: Event) -> None:
    """Takes ``run``; writes verification.json. VerificationFailed names who differs;
    WaveFailed and WaveReturned say that a roll-out has stopped."""
    settings, run = Settings.from_env(), Run(**event["run"])
    record = Record(settings.bucket, run.keys)
    plan = record.plan()
    outcomes = record.outcomes(len(plan.batches))
    manifest = read_manifest(settings.bucket, plan.archive) if plan.archive else None
    verification = verify(outcomes, manifest) if plan.archive else verify_rollback(outcomes)
    record.write(run.keys.verification, verification)
    require_matching(verification)
    rollout.require_healthy(plan, run, outcomes, settings.stage.name)
    warnings = _store_release(settings, run, plan, outcomes)
    if warnings:
        changed = {**verification, "warnings": [*verification["warnings"], *warnings]}
        record.write(run.keys.verification, changed)


def _store_release(
    settings: Settings, run: Run, plan: Plan, outcomes: Sequence[Outcome]
) -> list[str]:
    """Store the release for late joiners; why that was not possible, as warnings."""
    try:
        update_last_good(ReleaseStore(settings.bucket), run, plan, outcomes, datetime.now(UTC))
    except (CodeferryError, ClientError, BotoCoreError) as error:
        logger.warning("The last good release was not updated.", exc_info=error)
        return [f"Instances that join later will not get this release by themselves: {error}"]
    return []
