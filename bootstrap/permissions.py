"""Permissions of CloudFormation in the account: those of Codeferry, where that is ours to say.

The CDK's own stack belongs to all who deploy to the account with the CDK. Where there is none,
it is made with Codeferry's policies; where it has been made with others, they stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootstrap.aws import Aws
from stacks.permissions.roles import (
    BOOTSTRAP_STACK,
    Place,
    boundary_document,
    cloudformation_permissions,
    place_of,
    policy_document,
    policy_name,
)

PARAMETER = "CloudFormationExecutionPolicies"
BOUNDARY = "boundary"


@dataclass(frozen=True)
class Permissions:
    """``options`` are for `cdk bootstrap`, ``context`` for the CDK app."""

    options: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    message: str = ""


def settle_permissions(aws: Aws, region: str, account: str, *, narrow: bool) -> Permissions:
    """Codeferry's, their policies made or brought up to date; or those that are there."""
    place = place_of(aws.partition(), region, account)
    arns = [_arn(place, part) for part in cloudformation_permissions(place)]
    given = aws.parameter(BOOTSTRAP_STACK, PARAMETER)
    if not (narrow or aws.status(BOOTSTRAP_STACK) == "" or set(given.split(",")) == set(arns)):
        return Permissions(message=_kept(given))
    for part, content in _documents(place):
        aws.put_policy(_arn(place, part), content, f"Codeferry, made by its bootstrap: {part}")
    return Permissions(
        options=("--cloudformation-execution-policies", ",".join(arns)),
        context=(f"permissions_boundary={policy_name(BOUNDARY, region)}",),
        message="✓ CloudFormation may do what Codeferry's stacks need",
    )


def _documents(place: Place) -> Iterator[tuple[str, dict[str, object]]]:
    for part, permissions in cloudformation_permissions(place).items():
        yield part, policy_document(permissions)
    yield BOUNDARY, boundary_document(place)


def _arn(place: Place, part: str) -> str:
    return place.iam(f"policy/{policy_name(part, place.region)}")


def _kept(given: str) -> str:
    # The CDK's bootstrap of old has no parameter for what is its default.
    policies = given or "AdministratorAccess"
    return (
        f"  CloudFormation keeps the rights this account's CDK bootstrap gave it: {policies}.\n"
        "  Where only Codeferry is deployed here, --narrow leaves it what Codeferry needs."
    )
