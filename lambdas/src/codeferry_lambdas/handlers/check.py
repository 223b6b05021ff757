"""check: list the instances a target would reach, before anything is packed or sent."""

from __future__ import annotations

from typing import Any

from codeferry_contracts.request_schema import SCHEMA
from codeferry_contracts.target import parse_target
from codeferry_lambdas.aws.observability import Event, entry
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.targets import Fleet, nobody_reachable, resolve


@entry
def handler(event: Event) -> dict[str, Any]:
    """Takes ``target``; returns ids that are ``reachable`` with their ``names``, those of them
    that are ``of_every_stage`` of the account or have ``old_agents`` (id to version) and, for
    each ``unreachable`` one, its reason and fix; of a target of which nothing is reachable also
    ``why``. ``request`` are the keys that this version's run request may have. TargetInvalid for
    what is no target."""
    settings, target = Settings.from_env(), parse_target(str(event.get("target", "")))
    of_run = target.kind in ("run", "wave")  # whose instances its record knows
    found = Fleet((), (), ()) if of_run else resolve(target, settings)
    return {
        "reachable": [instance.instance_id for instance in found.reachable],
        "names": {i.instance_id: i.name for i in found.reachable if i.name},
        "of_every_stage": list(found.of_every_stage),
        "old_agents": dict(found.old_agents),
        "unreachable": [
            {"instance_id": o.instance_id, "name": o.name, "reason": o.reason, "fix": o.fix}
            for o in (*found.unreachable, *found.left_out)
        ],
        "why": None
        if found.reachable or of_run
        else nobody_reachable(target, found, settings).to_json(),
        "request": list(SCHEMA["properties"]),
    }
