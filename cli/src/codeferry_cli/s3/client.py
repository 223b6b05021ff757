"""The S3 client of a command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codeferry_cli.aws.session import Aws
from codeferry_contracts.errors import CodeferryError

if TYPE_CHECKING:
    from boto3.session import Session

    from codeferry_transfer.s3 import S3, EnvironmentCredentials


@dataclass(frozen=True)
class Server:
    """The S3 to reach, beyond what the AWS configuration says."""

    endpoint_url: str | None = None
    expected_owner: str | None = None
    request_payer: bool = False


def open_s3(aws: Aws, server: Server) -> S3:
    """A client with the command's credentials, region and endpoint."""
    from codeferry_transfer.s3 import S3

    return S3(
        _static_credentials(aws) or aws.session,
        endpoint_url=server.endpoint_url or aws.endpoint,
        expected_owner=server.expected_owner,
        request_payer=server.request_payer,
    )


def _static_credentials(aws: Aws) -> EnvironmentCredentials | None:
    """The embedded AWS's keys or the environment's, which need no botocore; None elsewhere."""
    from codeferry_transfer.s3 import EnvironmentCredentials, Keys, from_environment

    def session() -> Session:
        return aws.session

    if aws.local:
        keys = Keys(aws.local.access_key_id, aws.local.secret_access_key, "")
        return EnvironmentCredentials(keys, aws.local.region, session)
    if aws.access.profile:
        return None
    return from_environment(os.environ, session, region=aws.access.region or "")


@contextmanager
def bucket_remedy() -> Iterator[None]:
    """Replace the hint about a missing bucket: here it is none that a stage would deploy."""
    try:
        yield
    except CodeferryError as error:
        if error.code == "bucket_missing":
            error.hint = "Check the name, --profile, --region and --endpoint-url."
        raise
