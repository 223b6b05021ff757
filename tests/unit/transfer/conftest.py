"""A real S3 server, and a proxy before it that fails where it is told to."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest

from codeferry_transfer.s3 import S3
from tests.proxy.rules import Rule
from tests.proxy.server import FaultProxy


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def client(ministack: str, _credentials: None) -> Any:
    return boto3.client("s3", endpoint_url=ministack)


@pytest.fixture
def s3_client(ministack: str, _credentials: None) -> Iterator[S3]:
    s3 = S3(boto3.Session(), endpoint_url=ministack)
    yield s3
    s3.close()


@pytest.fixture
def bucket(client: Any) -> str:
    """A versioned bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def faulty(ministack: str) -> Iterator[Callable[..., FaultProxy]]:
    """``faulty(Rule(…))``: a proxy before the server with these rules."""
    with ExitStack() as proxies:

        def start(*rules: Rule) -> FaultProxy:
            proxy = proxies.enter_context(FaultProxy(ministack))
            proxy.set(*rules)
            return proxy

        yield start
