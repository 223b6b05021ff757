"""The embedded AWS as GitHub's jobs see it: closed, but for those whose token a role trusts."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass

import boto3

from tests.unit.stacks.iam_evaluator import Request, decide

AUDIENCE = "sts.amazonaws.com"
# The access key of the test's own calls.
TEST = "test"


@dataclass(frozen=True)
class Cloud:
    """``url`` answers everything but Run Command."""

    url: str
    region: str

    def client(self, service):
        keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), TEST)
        return boto3.client(service, endpoint_url=self.url, region_name=self.region, **keys)

    def trusts(self, role, subject):
        """Whether the deployed role takes a token of GitHub's with that subject."""
        statements = self._role(role)["AssumeRolePolicyDocument"]["Statement"]
        issuers = {statement["Principal"]["Federated"] for statement in statements}
        (provider,) = issuers
        known = self.client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=provider)
        issuer = known["Url"].removeprefix("https://")
        claims = {f"{issuer}:aud": AUDIENCE, f"{issuer}:sub": subject}
        asked = Request("sts:AssumeRoleWithWebIdentity", context=claims)
        return AUDIENCE in known["ClientIDList"] and decide(statements, asked)

    def credentials(self, role):
        """What the job gets; its calls are known by this key."""
        key = job_key(role)
        secret = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), key)
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": key, **secret}

    def may(self, role, call):
        """Whether the deployed role's policies allow a recorded call."""
        asked = Request(call["action"], call["resource"])
        return decide(self._statements(role), asked)

    def functions(self):
        """The functions' names, by which their calls are known."""
        pages = self.client("lambda").get_paginator("list_functions").paginate()
        return {function["FunctionName"] for page in pages for function in page["Functions"]}

    def calls(self, since=0.0):
        with urllib.request.urlopen(f"{self.url}/_codeferry/calls") as answer:
            return [call for call in json.load(answer)["calls"] if call["time"] >= since]

    def _role(self, arn):
        return self.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]

    def _statements(self, role):
        iam = self.client("iam")
        name = role.rpartition("/")[2]
        found = []
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
            version = iam.get_policy_version(
                PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"]
            )
            found += version["PolicyVersion"]["Document"]["Statement"]
        return found


def job_key(role):
    """The access key of a job that has that role: a function may have the role's name."""
    return f"job-{role.rpartition('/')[2]}"
