"""The few questions a bootstrap asks AWS itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from botocore import exceptions as botocore_errors

from scripts.bootstrap_errors import NotSignedIn, NotThere


class Aws:
    """In one region, with the credentials of whoever runs this."""

    def __init__(self, region: str) -> None:
        self._session = boto3.Session(region_name=region)

    def account(self) -> str:
        found: str = self._ask(lambda: self._client("sts").get_caller_identity()["Account"])
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

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (botocore_errors.NoCredentialsError, botocore_errors.ClientError) as error:
            remedy = "Sign in: aws sso login, aws configure, or set AWS_PROFILE."
            raise NotSignedIn(f"AWS does not know who this is: {error}", hint=remedy) from error
        except botocore_errors.BotoCoreError as error:
            remedy = "Check the region and the network."
            raise NotSignedIn(f"AWS could not be reached: {error}", hint=remedy) from error

    def _client(self, service: str) -> Any:
        return self._session.client(service)
