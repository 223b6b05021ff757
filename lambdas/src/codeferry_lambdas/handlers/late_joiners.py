"""late_joiners: an instance that joins its target late gets the target's last good release.

EventBridge calls when an instance starts, and on a schedule: an instance runs well before
its SSM agent is online, and events are best effort. Either way every instance is looked at."""

from __future__ import annotations

from codeferry_contracts.target import parse_target
from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.releases.late_joiners import missing, start_runs
from codeferry_lambdas.releases.store import ReleaseStore


@entry
def handler(event: Event) -> None:
    """Takes EventBridge's "EC2 Instance State-change Notification", or anything: then every
    instance is looked at, not that one only."""
    settings = Settings.from_env(None, "STATE_MACHINE_ARN_SYNC")
    releases = list(ReleaseStore(settings.bucket).all())
    if not releases:
        return
    instance_id = event.get("detail", {}).get("instance-id", "")
    machines = list(targets.find_machines(parse_target(instance_id or "all")))
    for joiners in missing(releases, machines, settings):
        start_runs(settings, joiners)
