"""The S3 client against a real server, straight and through the failing proxy."""

from __future__ import annotations

from collections.abc import Callable

import boto3
import pytest

from codeferry_transfer.s3 import S3
from tests.proxy.rules import Rule
from tests.proxy.server import FaultProxy


@pytest.fixture
def s3(s3_client: S3) -> S3:
    return s3_client


@pytest.fixture
def through(faulty: Callable[..., FaultProxy]) -> Callable[..., tuple[S3, FaultProxy]]:
    """``through(Rule(…), attempts=4)``: a client behind a proxy with these rules, and the proxy."""

    def start(*rules: Rule, attempts: int = 4) -> tuple[S3, FaultProxy]:
        proxy = faulty(*rules)
        return S3(boto3.Session(), endpoint_url=proxy.url, attempts=attempts), proxy

    return start
