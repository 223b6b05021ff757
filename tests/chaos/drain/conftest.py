"""A versioned bucket, the fault proxy before it, and agents to kill."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.chaos.drain.agents import Nursery
from tests.proxy.server import FaultProxy

ACCOUNT = "000000000000"


class Bucket:
    """A bucket that keeps every version, to compare contents with."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"results-{uuid.uuid4().hex[:12]}"
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_bucket(
            Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        self.client.put_bucket_versioning(
            Bucket=self.name, VersioningConfiguration={"Status": "Enabled"}
        )

    def history(self) -> dict[str, list[bytes]]:
        """All contents that each key ever had, the newest first."""
        found = []
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.name):
            found += page.get("Versions", [])
        found.sort(key=lambda version: not version["IsLatest"])
        with ThreadPoolExecutor(4) as threads:
            contents = threads.map(lambda its: self.read(its["Key"], its["VersionId"]), found)
            history: dict[str, list[bytes]] = defaultdict(list)
            for version, content in zip(found, contents, strict=True):
                history[version["Key"]].append(content)
        return history

    def read(self, key: str, version: str) -> bytes:
        answer = self.client.get_object(Bucket=self.name, Key=key, VersionId=version)
        content: bytes = answer["Body"].read()
        return content


@pytest.fixture
def bucket(ministack: str) -> Bucket:
    return Bucket(ministack)


@pytest.fixture
def proxy(ministack: str) -> Iterator[FaultProxy]:
    with FaultProxy(ministack) as running:
        yield running


@pytest.fixture
def nursery(tmp_path: Path, bucket: Bucket, proxy: FaultProxy) -> Iterator[Callable[..., Nursery]]:
    """``nursery(**options)``: agents that drain to the bucket through the proxy."""
    with ExitStack() as open_ones:

        def make(**options: Any) -> Nursery:
            options = {"owners": {bucket.name: ACCOUNT}, "workers": 4} | options
            made = Nursery(options, proxy.url, tmp_path / "agents.log")
            open_ones.callback(made.close)
            return made

        yield make
