"""check: which instances a target would reach, for ``ferry doctor TARGET``."""

from __future__ import annotations

from typing import Any

from codeferry_contracts.target import parse_target
from codeferry_lambdas.fleet import resolve
from codeferry_lambdas.observability import Event, entry
from codeferry_lambdas.settings import Settings


@entry
def handler(event: Event) -> dict[str, Any]:
    """Takes ``target``; returns ids that are ``reachable``, those of them that are
    ``of_every_stage`` of the account or have ``old_agents`` (id to version) and, for each
    ``unreachable`` one, its reason and fix. TargetInvalid for what is no target."""
    found = resolve(parse_target(str(event.get("target", ""))), Settings.from_env())
    return {
        "reachable": [instance.instance_id for instance in found.reachable],
        "of_every_stage": list(found.of_every_stage),
        "old_agents": dict(found.old_agents),
        "unreachable": [
            {"instance_id": o.instance_id, "reason": o.reason, "fix": o.fix}
            for o in (*found.unreachable, *found.left_out)
        ],
    }
