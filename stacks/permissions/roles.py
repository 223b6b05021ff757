"""The permissions of every role, read from the TOML files beside this module.

Values only: a deployment fills in CloudFormation tokens for the names in braces, the docs readable
placeholders. In a file, each role is an array of statements; ``use`` takes those under ``shared``;
``unseen`` names the actions that no run of the end-to-end suite makes use of, each with the reason
why it is granted all the same; ``beside`` is what AWS's services and the CDK add, by action.

`cdk bootstrap` makes CloudFormation's role an administrator unless it is told otherwise, and so
everyone who may deploy. The bootstrap gives it the policies of cloudformation.toml instead. A role
that a template makes has to carry the boundary (boundary.toml), or it would be the way around all
of this: the app puts it on every role (``-c permissions_boundary=NAME``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from codeferry_contracts import layout
from codeferry_contracts.names import SYNC, Stage
from codeferry_contracts.target import STAGE_TAG, TARGET_TAG

# Whose tokens are trusted ("OpenID Connect reference", GitHub Docs).
ISSUER = "token.actions.githubusercontent.com"
# The CDK's default qualifier ("Bootstrap your environment", CDK guide).
QUALIFIER = "hnb659fds"
BOOTSTRAP_STACK = "CDKToolkit"
# IAM User Guide, "IAM and AWS STS quotas": a managed policy's size, white space not counted.
POLICY_LIMIT = 6144

Values = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Permission:
    """One IAM statement with its reason; ``effect`` is Allow or Deny. ``unseen``: action to the
    reason why it is granted though no run of the end-to-end suite makes use of it."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    why: str
    conditions: Mapping[str, Any] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    effect: str = "Allow"


@dataclass(frozen=True)
class Arns:
    """The resources a function's permission can name. ``stage`` is whose instances take its code,
    and those that no tag puts into a stage unless ``require_stage_tag``. ``signed``: instances ask
    for signed releases."""

    bucket: str
    table: str
    documents: tuple[str, ...]
    instances: str
    state_machines: Mapping[str, str]
    event_bus: str
    agents: str
    stage: str
    record_document: str
    require_stage_tag: bool = False
    signed: bool = False


@dataclass(frozen=True)
class Place:
    """Where a stage is deployed; tokens in a stack, plain text in docs and tests."""

    partition: str
    region: str
    account: str
    stage: Stage

    def iam(self, resource: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:{resource}"


class _Filled(dict[str, str | tuple[str, ...]]):
    """A place's values; another name is a service, and stands for the beginning of its ARNs."""

    def __init__(self, place: Place) -> None:
        self._place = place
        super().__init__(
            partition=place.partition,
            region=place.region,
            account=place.account,
            stage=place.stage.name,
            iam=place.iam("").rstrip(":"),
            s3=f"arn:{place.partition}:s3::",
            boundary=place.iam(f"policy/{policy_name('boundary', place.region)}"),
            qualifier=QUALIFIER,
            bootstrap_stack=BOOTSTRAP_STACK,
            issuer=ISSUER,
            stage_tag=STAGE_TAG,
            target_tag=TARGET_TAG,
        )

    def __missing__(self, service: str) -> str:
        place = self._place
        return f"arn:{place.partition}:{service}:{place.region}:{place.account}"


def function_permissions(arns: Arns) -> dict[str, list[Permission]]:
    """Every function's permissions beyond writing its own log."""

    def objects(prefix: str) -> str:
        return f"{arns.bucket}/{prefix}*"

    values: Values = {
        **{name: getattr(arns, name) for name in ("bucket", "table", "documents", "instances")},
        **{name: getattr(arns, name) for name in ("event_bus", "agents", "record_document")},
        "stage": arns.stage,
        # IfExists holds for a missing tag ("IAM JSON policy elements: Condition operators").
        "of_stage": "StringEquals" if arns.require_stage_tag else "StringEqualsIfExists",
        "stage_tag": STAGE_TAG,
        "target_tag": TARGET_TAG,
        "state_machines": tuple(arns.state_machines.values()),
        "sync_machine": arns.state_machines[SYNC],
        "archives": (objects(layout.ARCHIVES_PREFIX), objects(layout.INBOX_PREFIX)),
        "environments": objects(layout.ENVIRONMENTS_PREFIX),
        "releases": objects(layout.RELEASES_PREFIX),
        "records": objects(layout.RUNS_PREFIX),
    }
    granted = _roles("functions", values)
    signed = granted.pop("dispatch_signed")
    granted["dispatch"] += signed if arns.signed else []
    return granted


def command_output_permissions(log_group: str) -> list[Permission]:
    """``log_group``: the ARN of the stage's command log."""
    return _role("instances", "command_output", {"log_group": log_group})


def drain_permissions(buckets: Sequence[str], log_group: str) -> list[Permission]:
    """To upload into ``buckets``, to verify what is there, and to log."""
    return _role("instances", "drain", {"buckets": tuple(buckets), "log_group": log_group})


def first_start_permissions(agent: str, group: str) -> list[Permission]:
    """``agent`` is one object's ARN, ``group`` the Auto Scaling group's."""
    return _role("instances", "first_start", {"agent": agent, "group": group})


def models_permissions(bucket: str, prefix: str) -> list[Permission]:
    """To fetch the models of a fleet from the permanent bucket at the first start."""
    return _role("instances", "models", {"bucket": bucket, "prefix": prefix})


def plan_permissions(place: Place) -> list[Permission]:
    """Reading the stage's stacks as they were deployed, and nothing of what came of them."""
    return _role("github", "plan", _Filled(place))


def inspect_permissions(place: Place) -> list[Permission]:
    """Reading the stage's stacks and the configuration of what is in them."""
    return _role("github", "inspect", _Filled(place))


def deploy_permissions(place: Place) -> list[Permission]:
    """Becoming the CDK's bootstrap roles of this account and region, and nothing else."""
    return _role("github", "deploy", _Filled(place))


def cloudformation_permissions(place: Place) -> dict[str, list[Permission]]:
    """Part to the statements of its policy; one policy could not hold them all."""
    return _roles("cloudformation", _Filled(place))


def boundary_document(place: Place) -> dict[str, Any]:
    """The boundary as IAM reads it."""
    permissions = _role("boundary", "boundary", _Filled(place))
    made = policy_document([*permissions, *deploy_permissions(place)])
    made["Statement"] += (
        {
            "Effect": "Deny",
            "NotAction": actions,
            "Resource": "*",
            "Condition": {"ArnLike": {"aws:PrincipalArn": place.iam(f"role/codeferry-*-{role}")}},
        }
        for role, actions in _file("boundary")["only"].items()
    )
    return made


def policy_name(part: str, region: str) -> str:
    """Of one account and region, as the CDK's own roles are; outside of what it may change."""
    return f"cdk-{QUALIFIER}-codeferry-{part}-{region}"


def place_of(partition: str, region: str, account: str) -> Place:
    """A place of no stage in particular: the policies are for all stages of the region."""
    return Place(partition, region, account, Stage("any"))


def policy_document(permissions: Iterable[Permission]) -> dict[str, Any]:
    """The statements as IAM reads them."""
    statements = []
    for permission in permissions:
        statement: dict[str, Any] = {
            "Effect": permission.effect,
            "Action": list(permission.actions),
            "Resource": list(permission.resources),
        }
        if permission.conditions:
            statement["Condition"] = {k: dict(v) for k, v in permission.conditions.items()}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


@cache
def _file(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text())


def _roles(name: str, values: Values) -> dict[str, list[Permission]]:
    roles = (role for role in _file(name) if isinstance(_file(name)[role], list))
    return {role: _role(name, role, values) for role in roles}


def _role(name: str, role: str, values: Values) -> list[Permission]:
    found = _file(name)
    return [_permission(part, values) for part in _parts(found[role], found.get("shared", {}))]


def _parts(entries: Iterable[Mapping[str, Any]], shared: Mapping[str, Any]) -> Iterator[Any]:
    """The statements, and in the place of a ``use`` what it names, with what is beside it."""
    for entry in entries:
        for used in entry.get("use", [None]):
            yield {**shared.get(used, {}), **{k: v for k, v in entry.items() if k != "use"}}


def _permission(part: Mapping[str, Any], values: Values) -> Permission:
    actions, unseen = part["actions"], part.get("unseen", {})
    return Permission(
        tuple(actions),
        tuple(resource for text in part["resources"] for resource in _expanded(text, values)),
        _filled(part["why"], values),
        conditions=_filled(part.get("conditions", {}), values),
        unseen=dict.fromkeys(actions, unseen) if isinstance(unseen, str) else unseen,
        effect=part.get("effect", "Allow"),
    )


def _expanded(text: str, values: Values) -> Iterator[str]:
    """``text`` filled in, once for each of the resources that a name in it stands for."""
    name = text[1:].partition("}")[0]
    several = values.get(name) if text.startswith("{") else None
    if not isinstance(several, tuple):
        yield _filled(text, values)
    else:
        yield from (_filled(text, {**values, name: one}) for one in several)


def _filled(content: Any, values: Values) -> Any:
    if isinstance(content, str):
        return content.format_map(values)
    if isinstance(content, list):
        return [_filled(part, values) for part in content]
    return {_filled(key, values): _filled(part, values) for key, part in content.items()}


LOGGING: Mapping[str, str] = _file("functions")["beside"]["logging"]
TRACING: Mapping[str, str] = _file("functions")["beside"]["tracing"]
EVERY_FUNCTION: Mapping[str, str] = {**LOGGING, **TRACING}
INVOKED_BY_EVENTS: Mapping[str, str] = _file("functions")["beside"]["invoked_by_events"]
EVENT_FUNCTIONS = ("start", "welcome", "resume", "abort")
SIGNALS: Mapping[str, str] = _file("instances")["beside"]["signals"]
BESIDE_THE_HANDLERS: Mapping[str, str] = _file("cloudformation")["beside"]["handlers"]
