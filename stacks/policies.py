"""IAM policies as the CDK takes them, and the cdk-nag findings that are accepted, by reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import IConstruct

from stacks.permissions.roles import Permission


def accept_implied_dependencies(stack: Stack, *also: str) -> None:
    """W3005: the CDK writes a DependsOn beside the reference that implies it."""
    ignored = {"ignore_checks": ["W3005", *also]}
    stack.template_options.metadata = {"cfn-lint": {"config": ignored}}


def acknowledge(scope: IConstruct, reasons: Mapping[str, str]) -> None:
    """Accept findings of ``scope`` and below it: rule (or ``Rule[finding]``) to reason."""
    for rule, reason in reasons.items():
        Validations.of(scope).acknowledge(Acknowledgment(id=rule, reason=reason))


def acknowledge_wildcard(scope: IConstruct, resource: str, reason: str) -> None:
    """Accept one resource with a ``*`` in the policies of ``scope``, and no other."""
    finding = _finding_id(Stack.of(scope).resolve(resource))
    acknowledge(scope, {f"AwsSolutions-IAM5[Resource::{finding}]": reason})


def _finding_id(value: Any) -> str:
    """A resolved ARN as cdk-nag writes it in a finding's id."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    match function:
        case "Fn::Join":
            return "".join(_finding_id(part) for part in argument[1])
        case "Fn::GetAtt":
            return f"<{'.'.join(argument)}>"
        case "Fn::Sub":
            return str(argument).replace("${", "<").replace("}", ">")
        case "Fn::ImportValue":
            return _finding_id(argument)
        case _:
            return f"<{argument}>"


def statement(permission: Permission) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        actions=list(permission.actions),
        resources=list(permission.resources),
        conditions=dict(permission.conditions),
    )


def grant(role: iam.Role, permissions: Sequence[Permission]) -> None:
    """Give ``role`` the permissions in its own policy."""
    for permission in permissions:
        role.add_to_policy(statement(permission))
    accept_wildcards(role, permissions)


def accept_wildcards(scope: IConstruct, permissions: Sequence[Permission]) -> None:
    """Each resource with a ``*`` has its permission's reason."""
    for permission in permissions:
        for resource in permission.resources:
            if "*" in resource:
                acknowledge_wildcard(scope, resource, permission.why)
