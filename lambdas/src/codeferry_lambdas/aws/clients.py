"""The AWS clients, each built when first used and kept for the life of the worker."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table
    from types_boto3_ec2 import EC2Client
    from types_boto3_events import EventBridgeClient
    from types_boto3_s3 import S3Client
    from types_boto3_ssm import SSMClient
    from types_boto3_stepfunctions import SFNClient


# A client's connections; who uses one from more threads would make them anew for every request.
MOST_THREADS = 16


def _config(**more: Any) -> Config:
    retries: Any = {"mode": "standard", "total_max_attempts": 8}
    return Config(
        retries=retries,
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=MOST_THREADS,
        **more,
    )


@cache
def s3() -> S3Client:
    """Signs with SigV4 for the bucket's own regional name.

    An endpoint set from outside has no name per bucket, so there the bucket goes into
    the path: the URL must be usable by an instance, not only by this client.
    """
    elsewhere = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    style: Literal["path", "virtual"] = "path" if elsewhere else "virtual"
    addressing = {"addressing_style": style, "us_east_1_regional_endpoint": "regional"}
    client: S3Client = boto3.client("s3", config=_config(signature_version="s3v4", s3=addressing))
    return client


@cache
def ssm() -> SSMClient:
    client: SSMClient = boto3.client("ssm", config=_config())
    return client


@cache
def sending_ssm() -> SSMClient:
    """For SendCommand alone: a repeat that nobody sees could send twice."""
    once: Any = {"mode": "standard", "total_max_attempts": 1}
    client: SSMClient = boto3.client(
        "ssm", config=Config(retries=once, connect_timeout=5, read_timeout=30)
    )
    return client


@cache
def ec2() -> EC2Client:
    client: EC2Client = boto3.client("ec2", config=_config())
    return client


@cache
def states() -> SFNClient:
    client: SFNClient = boto3.client("stepfunctions", config=_config())
    return client


@cache
def events() -> EventBridgeClient:
    client: EventBridgeClient = boto3.client("events", config=_config())
    return client


@cache
def table(name: str) -> Table:
    found: Table = boto3.resource("dynamodb", config=_config()).Table(name)
    return found
