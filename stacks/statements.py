"""Permissions as the CDK takes them: policy statements, their wildcards accepted by reason."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import IConstruct

from stacks.acknowledgements import acknowledge_wildcard
from stacks.permissions import Permission


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
