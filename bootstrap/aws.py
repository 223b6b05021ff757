"""The few questions that a bootstrap asks AWS itself, and what can go wrong in it.

Errors:
    BootstrapFailed
        ToolMissing       something this needs is not installed
        NotSignedIn       no credentials, or none that AWS accepts
        StepFailed        a program this runs ended with an error; its last words are quoted
        NotThere          something that should be there after a step is not
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
from botocore import exceptions as botocore_errors

from codeferry_contracts.errors import CodeferryError


class BootstrapFailed(CodeferryError):
    code = "bootstrap_failed"


class ToolMissing(BootstrapFailed):
    code = "tool_missing"


class NotSignedIn(BootstrapFailed):
    code = "not_signed_in"


class StepFailed(BootstrapFailed):
    code = "step_failed"


class NotThere(BootstrapFailed):
    code = "not_there"


# IAM User Guide, "IAM and AWS STS quotas".
_VERSIONS = 5


class Aws:
    """In one region, with the credentials of whoever runs this."""

    def __init__(self, region: str) -> None:
        self._session = boto3.Session(region_name=region)

    def account(self) -> str:
        try:
            found: str = self._client("sts").get_caller_identity()["Account"]
        except (botocore_errors.NoCredentialsError, botocore_errors.ClientError) as error:
            remedy = "Sign in: aws sso login, aws configure, or set AWS_PROFILE."
            raise NotSignedIn(f"AWS does not know who this is: {error}", hint=remedy) from error
        except botocore_errors.BotoCoreError as error:
            remedy = "Check the region and the network."
            raise NotSignedIn(f"AWS could not be reached: {error}", hint=remedy) from error
        return found

    def partition(self) -> str:
        found: str = self._session.get_partition_for_region(self._session.region_name)
        return found

    def status(self, stack: str) -> str:
        """The stack's status, "" when there is none."""
        found = self._describe(stack)
        return str(found["StackStatus"]) if found else ""

    def output(self, stack: str, name: str) -> str:
        found = self._describe(stack) or {}
        outputs = {o["OutputKey"]: str(o["OutputValue"]) for o in found.get("Outputs", [])}
        if name not in outputs:
            raise NotThere(f"{stack} has no output {name}.", hint="Run this again.")
        return outputs[name]

    def parameter(self, stack: str, name: str) -> str:
        """The value a stack was deployed with, "" when there is none."""
        found = (self._describe(stack) or {}).get("Parameters", [])
        return {p["ParameterKey"]: str(p["ParameterValue"]) for p in found}.get(name, "")

    def put_policy(self, arn: str, document: Mapping[str, Any], description: str) -> None:
        """Make the managed policy, or bring it up to date."""
        iam, text = self._client("iam"), json.dumps(document)
        try:
            current = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        except iam.exceptions.NoSuchEntityException:
            name = arn.rpartition("/")[2]
            iam.create_policy(PolicyName=name, PolicyDocument=text, Description=description)
            return
        answer = iam.get_policy_version(PolicyArn=arn, VersionId=current)
        if _read(answer["PolicyVersion"]["Document"]) != document:
            self._make_room(arn)
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)

    def _make_room(self, arn: str) -> None:
        """A policy has five versions at most."""
        iam = self._client("iam")
        versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
        old = sorted((v for v in versions if not v["IsDefaultVersion"]), key=_made)
        for version in old[: max(0, len(versions) + 1 - _VERSIONS)]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])

    def size(self, bucket: str, key: str) -> int | None:
        """Bytes of an object; None when it is not there."""
        try:
            return int(self._client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"])
        except botocore_errors.ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise

    def _describe(self, stack: str) -> dict[str, Any] | None:
        try:
            answer = self._client("cloudformation").describe_stacks(StackName=stack)
        except botocore_errors.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        described: dict[str, Any] = answer["Stacks"][0]
        return described

    def _client(self, service: str) -> Any:
        return self._session.client(service)


def _made(version: Mapping[str, Any]) -> int:
    """Versions are counted: v1, v2, …"""
    return int(version["VersionId"].removeprefix("v"))


def _read(document: Any) -> Any:
    """botocore has decoded a document already, unless an emulator sent it otherwise."""
    return json.loads(document) if isinstance(document, str) else document
