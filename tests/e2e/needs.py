"""Calls that were made, in words of IAM, and whether policies allow them."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass

from tests.unit.stacks.iam_evaluator import Request, decide, like, listed

# "sts:GetCallerIdentity" needs no permission (IAM User Guide, "GetCallerIdentity").
FREE = {"sts:GetCallerIdentity"}


@dataclass(frozen=True)
class Need:
    """What IAM asks before a call of ``who``; ``context`` holds the request's condition keys."""

    who: str
    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def journal(url):
    """Every call that the emulator behind ``url`` has answered."""
    with urllib.request.urlopen(f"{url}/_codeferry/calls") as answer:
        return json.load(answer)["calls"]


def needs_of(url, who, since):
    """What calls needed whose access key begins with ``who``, or with one of them."""
    return {
        Need(call["access_key"], call["action"], call["resource"])
        for call in journal(url)
        if call["access_key"].startswith(who)
        and call["action"] not in FREE
        and call["time"] >= since
    }


def refused(statements, needs):
    """The needs that no statement covers, or one denies."""
    return [
        need
        for need in needs
        if not decide(statements, Request(need.action, need.resource, dict(need.context)))
    ]


def unused(statements, needs):
    """The actions of each resource that no need made use of."""
    return {
        action
        for statement in statements
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if not any(uses(need, action, resource) for need in needs)
    }


def uses(need, action, resource):
    return need.action == action and like(resource, need.resource)


def statements_of(iam, role):
    """All statements of a deployed role: its own, and those of managed policies of the account;
    AWS's managed policies are AWS's."""
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [
        iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names
    ]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        if ":iam::aws:" not in arn:
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            documents.append(found["PolicyVersion"]["Document"])
    read = [json.loads(d) if isinstance(d, str) else d for d in documents]
    return [statement for document in read for statement in document["Statement"]]
