"""The S3 client every transfer uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.config import Config

if TYPE_CHECKING:
    from boto3.session import Session
    from types_boto3_s3 import S3Client

CONCURRENCY = 4

# Retrying is botocore's: connection errors, 5xx, SlowDown and timeouts, with jitter and a
# quota shared by the client's threads. A part is repeated alone, from memory.
ATTEMPTS = 8
_CONNECT_SECONDS = 10
_READ_SECONDS = 60


def make_client(
    session: Session,
    *,
    endpoint_url: str | None = None,
    concurrency: int = CONCURRENCY,
    attempts: int = ATTEMPTS,
) -> S3Client:
    """An S3 client for ``concurrency`` requests at a time from this session's credentials.

    Each request is made at most ``attempts`` times.
    """
    config = Config(
        max_pool_connections=concurrency + 2,
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        tcp_keepalive=True,
    )
    client: S3Client = session.client("s3", endpoint_url=endpoint_url, config=config)
    return client
