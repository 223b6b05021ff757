"""Local instances: EC2 records in MiniStack, directories here, agents in the local SSM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codeferry_contracts.target import TARGET_TAG
from codeferry_local.home import InstanceRecord
from codeferry_local.ssm.server import SsmServer


def launch(
    ec2: Any, ssm: SsmServer, directory: Path, *, count: int, target: str
) -> list[InstanceRecord]:
    """``count`` instances tagged for ``target``, each with its own root below ``directory``."""
    return [_launch_one(ec2, ssm, directory, f"{target}-{n}", target) for n in range(1, count + 1)]


def _launch_one(
    ec2: Any, ssm: SsmServer, directory: Path, name: str, target: str
) -> InstanceRecord:
    tags = {"Name": name, TARGET_TAG: target}
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
    ssm.add_instance(instance_id, root, tags=tags, name=name)
    return InstanceRecord(instance_id=instance_id, name=name, tags=tags, root=str(root))
