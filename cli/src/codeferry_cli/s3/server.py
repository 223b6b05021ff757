"""The S3 that a command talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codeferry_cli.aws import Aws
from codeferry_cli.s3.options import Server

if TYPE_CHECKING:
    from codeferry_transfer.s3 import S3


def open_s3(aws: Aws, server: Server) -> S3:
    """A client with the command's credentials, region and endpoint."""
    from codeferry_transfer.s3 import S3

    return S3(
        aws.session,
        endpoint_url=server.endpoint_url or aws.endpoint,
        config=aws.config(),
        expected_owner=server.expected_owner,
        request_payer=server.request_payer,
    )
