"""A stage of its own for every test: moto's S3, DynamoDB, EC2 and events, a stubbed SSM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Record, Run

EVENTS = Path(__file__).parents[2] / "events"
BUCKET = "codeferry-dev-artifacts"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # thousands of images nobody here looks at
    "STAGE": "dev",
    "ARTIFACT_BUCKET": BUCKET,
    "RUN_TABLE": "runs",
    "LOG_GROUP": "/codeferry/dev/runs",
    "AGENT_BUCKET": "cdk-assets",
}


@cache
def stubbed_client(service: str) -> Any:
    """Building a client reads its whole model; one a session is enough."""
    client: Any = boto3.client(service, region_name="eu-west-1")
    return client


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return ENVIRONMENT


@pytest.fixture
def settings(environment: dict[str, str]) -> Iterator[Settings]:
    """The stage, deployed: a versioned bucket and the table."""
    with mock_aws():
        s3 = clients.s3()
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        clients.table("runs").meta.client.create_table(
            TableName="runs",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield Settings.from_env()


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    return Ledger(settings.table)


@pytest.fixture
def run() -> Run:
    return Run("run-1", "2026-11-12T00:00:00.000Z", "sync")


@pytest.fixture
def record(settings: Settings, run: Run) -> Record:
    return Record(settings.bucket, run.keys)


def _stubbed(service: str, monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[Stubber]:
    client = stubbed_client(service)
    for name in names:
        monkeypatch.setattr(clients, name, lambda: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def ssm(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """SSM as botocore's model has it: requests are checked, answers are ours, in order."""
    yield from _stubbed("ssm", monkeypatch, "ssm", "sending_ssm")


@pytest.fixture
def states(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    yield from _stubbed("stepfunctions", monkeypatch, "states")


def load_event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


@pytest.fixture
def aws_event() -> Any:
    return load_event
