"""Local instances: EC2 records in MiniStack, directories here, agents in the local SSM."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codeferry_contracts.target import STAGE_TAG, TARGET_TAG
from codeferry_local.home import Home, InstanceRecord, State, read_state, write_state
from codeferry_local.ssm.server import SsmServer

Register = Callable[[InstanceRecord], object]


def launch(
    ec2: Any, ssm: SsmServer, directory: Path, *, count: int, target: str, stage: str
) -> list[InstanceRecord]:
    """``count`` instances tagged for ``target`` and ``stage``, each with its own root below
    ``directory``."""

    def register(record: InstanceRecord) -> None:
        ssm.add_instance(record.instance_id, Path(record.root), tags=record.tags, name=record.name)

    return [
        _launch_one(ec2, register, directory, f"{target}-{n}", _tags(target, stage))
        for n in range(1, count + 1)
    ]


def launch_more(home: Home, *, count: int, target: str) -> list[InstanceRecord]:
    """As ``launch`` on an embedded AWS that runs already, announced to EventBridge as EC2 does.

    Raises NotRunning.
    """
    state = read_state(home)
    taken = sum(record.tags.get(TARGET_TAG) == target for record in state.instances)
    names = [f"{target}-{taken + n}" for n in range(1, count + 1)]

    def register(record: InstanceRecord) -> None:
        body = {name: getattr(record, name) for name in ("instance_id", "root", "tags", "name")}
        _control(state, "instances", body)

    ec2 = state.access.client("ec2")
    tags = _tags(target, state.stage)
    records = [_launch_one(ec2, register, home.instances, name, tags) for name in names]
    state.instances.extend(records)
    write_state(home, state)
    for record in records:
        _control(state, f"started/{record.instance_id}", {})
    return records


def _tags(target: str, stage: str) -> dict[str, str]:
    return {TARGET_TAG: target, STAGE_TAG: stage}


def _launch_one(
    ec2: Any, register: Register, directory: Path, name: str, also: dict[str, str]
) -> InstanceRecord:
    tags = {"Name": name, **also}
    launched = ec2.run_instances(
        ImageId="ami-00000000",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    )
    instance_id = launched["Instances"][0]["InstanceId"]
    root = directory / instance_id
    for part in ("opt/codeferry", "tmp"):
        (root / part).mkdir(parents=True)
    record = InstanceRecord(instance_id=instance_id, name=name, tags=tags, root=str(root))
    register(record)
    return record


def _control(state: State, path: str, body: Any) -> None:
    """Ask the local SSM's control endpoint."""
    request = urllib.request.Request(  # noqa: S310 - the local SSM
        f"{state.endpoints['ssm']}/_codeferry/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
        answer.read()
