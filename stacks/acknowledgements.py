"""The one way a cdk-nag finding is accepted: by rule and with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct


def acknowledge(scope: IConstruct, reasons: Mapping[str, str]) -> None:
    """Accept findings of ``scope`` and below it: rule (or ``Rule[finding]``) to reason."""
    for rule, reason in reasons.items():
        Validations.of(scope).acknowledge(Acknowledgment(id=rule, reason=reason))


def acknowledge_wildcard(scope: IConstruct, resource: str, reason: str) -> None:
    """Accept one resource with a ``*`` in the policies of ``scope``, and no other."""
    finding = _spell(Stack.of(scope).resolve(resource))
    acknowledge(scope, {f"AwsSolutions-IAM5[Resource::{finding}]": reason})


def _spell(value: Any) -> str:
    """A resolved ARN as cdk-nag spells it in a finding's id."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    match function:
        case "Fn::Join":
            return "".join(_spell(part) for part in argument[1])
        case "Fn::GetAtt":
            return f"<{'.'.join(argument)}>"
        case "Fn::Sub":
            return str(argument).replace("${", "<").replace("}", ">")
        case "Fn::ImportValue":
            return _spell(argument)
        case _:
            return f"<{argument}>"
