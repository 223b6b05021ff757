"""The control endpoint ``/_codeferry/…``: faults, instances and their starts, the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeferry_local.ssm.api.access import Journal
from codeferry_local.ssm.errors import ValidationException
from codeferry_local.ssm.faults import Faults
from codeferry_local.ssm.instances import POLLING, Fleet, LocalInstance

_INSTANCE_FIELDS = {"instance_id", "root", "tags", "name", "executor"}


class Control:
    """GET, POST and DELETE of ``faults``, ``instances`` (``instances/<id>``) and ``calls``, and
    POST of ``started/<id>``, which makes EC2's event that the instance is running, and of
    ``clock``, by whose ``{"advance": seconds}`` time passes at once, and of ``lifecycle``, by whose
    ``{"bucket", "days", "prefix"}`` a bucket's rules do so many days' work."""

    def __init__(
        self,
        *,
        faults: Faults,
        fleet: Fleet,
        journal: Journal,
        started: Callable[[str], None],
        advance: Callable[[float], None],
        executor: str,
        expire: Callable[[str, int, str], list[str]],
    ) -> None:
        self._executor = executor
        self._faults = faults
        self._started = started
        self._advance = advance
        self._expire = expire
        self._fleet = fleet
        self._journal = journal
        self._routes: dict[tuple[str, str], Callable[[str, Any], Any]] = {
            ("GET", "faults"): lambda _, __: faults.plan.to_json(),
            ("POST", "faults"): lambda _, body: faults.set(**_object(body)).to_json(),
            ("DELETE", "faults"): lambda _, __: faults.clear().to_json(),
            ("GET", "instances"): lambda _, __: self._instances(),
            ("POST", "instances"): lambda _, body: self._register(body),
            ("DELETE", "instances"): lambda instance_id, body: self._remove(instance_id, body),
            ("POST", "started"): lambda instance_id, _: self._announce(instance_id),
            ("POST", "clock"): lambda _, body: self._pass_time(body),
            ("POST", "lifecycle"): lambda _, body: self._age(_object(body)),
            ("GET", "calls"): lambda _, __: {"calls": journal.to_json()},
            ("DELETE", "calls"): lambda _, __: self._forget_calls(),
        }

    def handle(self, method: str, path: str, body: Any) -> Any:
        """The JSON answer; raises ValidationException."""
        name, _, rest = path.partition("/")
        route = self._routes.get((method, name))
        if route is None:
            raise ValidationException(f"There is no {method} /_codeferry/{name}.")
        return route(rest, body)

    def _instances(self) -> dict[str, Any]:
        return {"instances": [instance.to_json() for instance in self._fleet.all()]}

    def _register(self, body: Any) -> dict[str, Any]:
        """Register one instance, or all of ``{"instances": […]}``."""
        given = _object(body)
        for entry in given.get("instances", [given]):
            self._fleet.add(_instance(_object(entry), self._executor))
        return self._instances()

    def _remove(self, instance_id: str, body: Any) -> dict[str, Any]:
        """Remove one instance, those of ``{"instance_ids": […]}``, or all."""
        named = _object(body or {}).get("instance_ids")
        every = [i.instance_id for i in self._fleet.all()] if named is None else named
        removed = [instance_id] if instance_id else every
        for gone in removed:
            self._fleet.remove(gone)
        return self._instances()

    def _announce(self, instance_id: str) -> dict[str, Any]:
        if self._fleet.get(instance_id) is None:
            raise ValidationException(f"There is no instance {instance_id}.")
        self._started(instance_id)
        return {"started": instance_id}

    def _pass_time(self, body: Any) -> dict[str, Any]:
        seconds = _object(body).get("advance")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ValidationException('The clock takes {"advance": seconds}.')
        self._advance(seconds)
        return {"advanced": seconds}

    def _age(self, body: dict[str, Any]) -> dict[str, Any]:
        bucket, days, prefix = body.get("bucket"), body.get("days"), body.get("prefix", "")
        if not isinstance(bucket, str) or not isinstance(days, int) or not isinstance(prefix, str):
            raise ValidationException('The lifecycle takes {"bucket": …, "days": …, "prefix": …}.')
        return {"expired": self._expire(bucket, days, prefix)}

    def _forget_calls(self) -> dict[str, Any]:
        self._journal.clear()
        return {"calls": []}


def _instance(entry: dict[str, Any], usual: str) -> LocalInstance:
    unknown = sorted(set(entry) - _INSTANCE_FIELDS)
    if unknown or not {"instance_id", "root"} <= set(entry):
        raise ValidationException(
            f"An instance has {', '.join(sorted(_INSTANCE_FIELDS))} "
            f"(instance_id and root are required), not {', '.join(unknown) or 'less'}."
        )
    executor = entry.get("executor", usual)
    if executor not in ("shell", "null", POLLING):
        raise ValidationException(f"executor is 'shell', 'null' or '{POLLING}'.")
    return LocalInstance(**{**entry, "root": Path(entry["root"]), "executor": executor})


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValidationException("The body must be a JSON object.")
    return body
