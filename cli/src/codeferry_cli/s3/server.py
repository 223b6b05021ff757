"""The S3 that a command talks to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from codeferry_cli.aws import Aws
from codeferry_cli.s3.options import Server

if TYPE_CHECKING:
    from boto3.session import Session

    from codeferry_transfer.s3 import S3, EnvironmentCredentials


def open_s3(aws: Aws, server: Server) -> S3:
    """A client with the command's credentials, region and endpoint."""
    from codeferry_transfer.s3 import S3

    return S3(
        _plain(aws) or aws.session,
        endpoint_url=server.endpoint_url or aws.endpoint,
        expected_owner=server.expected_owner,
        request_payer=server.request_payer,
    )


def _plain(aws: Aws) -> EnvironmentCredentials | None:
    """What is known without botocore; the embedded AWS is, and keys in the environment are."""
    from codeferry_transfer.s3 import EnvironmentCredentials, Keys, from_environment

    def session() -> Session:
        return aws.session

    if aws.local:
        keys = Keys(aws.local.access_key_id, aws.local.secret_access_key, "")
        return EnvironmentCredentials(keys, aws.local.region, session)
    if aws.access.profile:
        return None
    return from_environment(os.environ, session, region=aws.access.region or "")
