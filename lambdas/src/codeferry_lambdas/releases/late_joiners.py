"""Find the instances that lack their target's last good release, and start runs for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codeferry_contracts.last_good import LastGoodRelease, ReleaseArchive
from codeferry_contracts.layout import ReleaseKeys
from codeferry_contracts.names import late_joiners_run_id
from codeferry_contracts.target import MOST_INSTANCES, parse_target
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet import targets
from codeferry_lambdas.fleet.unreachable import Machine, takes_code
from codeferry_lambdas.runs.executions import start_once
from codeferry_lambdas.runs.ledger import Ledger

# Seconds after each attempt to bring one release to one instance; then it is given up, until
# there is another release. The first is longer than a delivery and the work on an instance.
PAUSES = (1800, 3600, 4 * 3600, 24 * 3600)


@dataclass(frozen=True)
class LateJoiners:
    """The instances that a last good release has not reached."""

    release: LastGoodRelease
    archive: ReleaseArchive
    instances: tuple[str, ...]


def missing(
    releases: Iterable[LastGoodRelease], machines: Sequence[Machine], settings: Settings
) -> Iterator[LateJoiners]:
    """This stage's instances that lack a release, by release. Of several targets that mean an
    instance, the one that was settled last says which release of the project is its."""
    tagged = [machine for machine in machines if takes_code(machine, settings)]
    governed: set[tuple[str, str]] = set()
    for release in sorted(releases, key=lambda each: each.settled_at, reverse=True):
        target = parse_target(release.target)
        meant = {m.instance_id for m in tagged if targets.matches(target, m)}
        ours = {i for i in meant if (release.project, i) not in governed}
        governed |= {(release.project, instance_id) for instance_id in ours}
        running = {m.instance_id for m in tagged if m.state == "running"}
        lacking = sorted((ours & running) - set(release.instances))
        if lacking and release.archive:
            yield LateJoiners(release, release.archive, tuple(lacking))


def start_runs(settings: Settings, joiners: LateJoiners) -> None:
    """Start runs for those of them that can be reached and are due."""
    online = targets.online(joiners.instances)
    claimed = list(_claimed(Ledger(settings.table), joiners, online))
    for start in range(0, len(claimed), MOST_INSTANCES):
        group = claimed[start : start + MOST_INSTANCES]
        attempts = [f"{instance_id} {attempt}" for instance_id, attempt in group]
        run_id = late_joiners_run_id(joiners.release.project, _identity(joiners), attempts)
        start_once(settings.start_arn, run_id, request_for(joiners, [i for i, _ in group]))


def _claimed(
    ledger: Ledger, joiners: LateJoiners, online: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """The instances that nobody else is at work for, each with the number of the attempt."""
    for instance_id in online:
        attempt = ledger.claim_attempt(_identity(joiners), instance_id, PAUSES)
        if attempt is not None:
            yield instance_id, attempt


def _identity(joiners: LateJoiners) -> str:
    """The last good release of a run: what another run makes it is another one."""
    keys = ReleaseKeys(joiners.release.target, joiners.release.project)
    return f"{keys.prefix} {joiners.release.run_id}"


def request_for(joiners: LateJoiners, instances: Sequence[str]) -> dict[str, Any]:
    """The request of a run that brings the release to exactly these instances."""
    release, archive = joiners.release, joiners.archive
    pinned: dict[str, Any] = {"key": archive.key, "sha256": archive.sha256, **archive.unpacked}
    if archive.version_id != "null":
        pinned["version_id"] = archive.version_id
    parts = {
        "signature": dict(archive.signature),
        "expect": dict(release.expect),
        "options": dict(release.options),
    }
    return {
        "archive": pinned,
        "project": release.project,
        "target": ",".join(instances),
        **{name: part for name, part in parts.items() if part},
    }
