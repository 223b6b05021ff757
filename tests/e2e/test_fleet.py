"""Fleets of any size: one real execution each, on instances that cost no process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from math import ceil

import pytest

from codeferry_contracts.cost import BATCH_LIMIT
from codeferry_lambdas.fleet.batches import history_events, schedule
from tests.e2e.test_ways_in import ended
from tests.long import sized
from tests.unit.lambdas.factories import packed_archive

pytestmark = pytest.mark.e2e

PAYLOAD_LIMIT = 32 * 1024
HISTORY_LIMIT = 25_000
DEFAULT_TIMEOUT_SECONDS = 900


@pytest.fixture
def fleet(aws):
    """``fleet(size)`` registers so many instances under one target; their ids."""
    ec2, launched = aws.client("ec2"), []

    def launch(size, target):
        tags = [{"Key": "codeferry:target", "Value": target}]
        answer = ec2.run_instances(
            ImageId="ami-00000000",
            InstanceType="t3.micro",
            MinCount=size,
            MaxCount=size,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        ids = [instance["InstanceId"] for instance in answer["Instances"]]
        launched.extend(ids)
        entries = [{"instance_id": i, "root": "/nonexistent", "executor": "null"} for i in ids]
        aws.control("POST", "instances", {"instances": entries})
        return ids

    yield launch
    ec2.terminate_instances(InstanceIds=launched)
    aws.control("DELETE", "instances", {"instance_ids": launched})


def texts(event) -> Iterator[str]:
    """What a state took or gave in one event of the history."""
    for details in event.values():
        if isinstance(details, dict):
            yield from (v for k, v in details.items() if k in ("input", "output", "parameters"))


def history(aws, run_id):
    arn = f"{aws.machine.replace(':stateMachine:', ':execution:')}:{run_id}"
    pages = aws.client("stepfunctions").get_paginator("get_execution_history")
    return [event for page in pages.paginate(executionArn=arn) for event in page["events"]]


def sent_to(aws, ids):
    """The instance ids of every SendCommand to this fleet."""
    calls = aws.control("GET", "calls")["calls"]
    sent = [c["resources"]["InstanceIds"] for c in calls if c["operation"] == "SendCommand"]
    return [batch for batch in sent if set(batch) & ids]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [50, 120, 1_000, sized(2_500, 10_000)])
def test_a_fleet_is_reached_whole(aws, fleet, size):
    """Every instance once, 50 per command, counted right; the state stays small and the
    history short, by what was recorded and by the model of what AWS would record."""
    target = f"fleet-{uuid.uuid4().hex[:8]}"
    ids = set(fleet(size, target))
    key = f"archives/{target}.tar.gz"
    aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=packed_archive())
    request = {"archive": {"key": key}, "target": target}
    aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine, name=target, input=json.dumps(request)
    )
    assert ended(aws, target, seconds=800)["status"] == "SUCCEEDED"

    report = aws.report(target)
    assert report["counts"] == {"total": size, "succeeded": size, "failed": 0, "skipped": 0}
    assert {outcome["instance_id"] for outcome in report["instances"]} == ids
    assert report["verification"]["verified"] == size

    batches = sent_to(aws, ids)
    assert len(batches) == ceil(size / BATCH_LIMIT)
    assert max(map(len, batches)) <= BATCH_LIMIT
    assert sorted(i for batch in batches for i in batch) == sorted(ids)

    events = history(aws, target)
    assert max(len(text.encode()) for event in events for text in texts(event)) < PAYLOAD_LIMIT
    model = history_events(schedule(size, "100%"), DEFAULT_TIMEOUT_SECONDS)
    assert len(events) <= model < HISTORY_LIMIT
    assert aws.keys("archives/") == []
