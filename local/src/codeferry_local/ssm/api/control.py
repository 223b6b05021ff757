"""The control endpoint ``/_codeferry/…``: faults, instances and their starts, the journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codeferry_local.emulator.control import Journal
from codeferry_local.ssm.errors import ValidationException
from codeferry_local.ssm.faults import Faults
from codeferry_local.ssm.instances import POLLING, Fleet, LocalInstance

_INSTANCE_FIELDS = {"instance_id", "root", "tags", "name", "executor"}


@dataclass(frozen=True, kw_only=True)
class Control:
    """GET, POST and DELETE of ``faults``, ``instances`` (``instances/<id>``) and ``calls``, and
    POST of ``started/<id>``, which makes EC2's event that the instance is running, and of
    ``clock``, by whose ``{"advance": seconds}`` time passes at once, and of ``lifecycle``, by whose
    ``{"bucket", "days", "prefix"}`` a bucket's rules do so many days' work."""

    faults: Faults
    fleet: Fleet
    journal: Journal
    announce_start: Callable[[str], None]
    advance: Callable[[float], None]
    executor: str
    expire: Callable[[str, int, str], list[str]]

    def handle(self, method: str, path: str, body: Any) -> Any:
        """The JSON answer; raises ValidationException."""
        name, _, rest = path.partition("/")
        routes: dict[str, Callable[[], Any]] = {
            "GET faults": lambda: self.faults.plan.to_json(),
            "POST faults": lambda: self.faults.set(**_object(body)).to_json(),
            "DELETE faults": lambda: self.faults.clear().to_json(),
            "GET instances": self._instances,
            "POST instances": lambda: self._register(_object(body)),
            "DELETE instances": lambda: self._remove(rest, body),
            "POST started": lambda: self._start(rest),
            "POST clock": lambda: self._pass_time(_object(body).get("advance")),
            "POST lifecycle": lambda: self._expire(_object(body)),
            "GET calls": self._calls,
            "DELETE calls": self._forget_calls,
        }
        route = routes.get(f"{method} {name}")
        if route is None:
            raise ValidationException(f"There is no {method} /_codeferry/{name}.")
        return route()

    def _calls(self) -> dict[str, Any]:
        return {"calls": self.journal.to_json()}

    def _forget_calls(self) -> dict[str, Any]:
        self.journal.clear()
        return self._calls()

    def _instances(self) -> dict[str, Any]:
        return {"instances": [instance.to_json() for instance in self.fleet.all()]}

    def _register(self, given: dict[str, Any]) -> dict[str, Any]:
        """Register one instance, or all of ``{"instances": […]}``."""
        for entry in given.get("instances", [given]):
            self.fleet.add(_instance(_object(entry), self.executor))
        return self._instances()

    def _remove(self, instance_id: str, body: Any) -> dict[str, Any]:
        """Remove one instance, those of ``{"instance_ids": […]}``, or all."""
        named = _object(body or {}).get("instance_ids")
        every = [i.instance_id for i in self.fleet.all()] if named is None else named
        for removed in [instance_id] if instance_id else every:
            self.fleet.remove(removed)
        return self._instances()

    def _start(self, instance_id: str) -> dict[str, Any]:
        if self.fleet.get(instance_id) is None:
            raise ValidationException(f"There is no instance {instance_id}.")
        self.announce_start(instance_id)
        return {"started": instance_id}

    def _pass_time(self, seconds: Any) -> dict[str, Any]:
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ValidationException('The clock takes {"advance": seconds}.')
        self.advance(seconds)
        return {"advanced": seconds}

    def _expire(self, body: dict[str, Any]) -> dict[str, Any]:
        bucket, days, prefix = body.get("bucket"), body.get("days"), body.get("prefix", "")
        if not isinstance(bucket, str) or not isinstance(days, int) or not isinstance(prefix, str):
            raise ValidationException('The lifecycle takes {"bucket": …, "days": …, "prefix": …}.')
        return {"expired": self.expire(bucket, days, prefix)}


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
