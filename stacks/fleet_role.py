"""What an instance of the fleet may do."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from stacks.acknowledgements import acknowledge
from stacks.fleet_storage import FleetStorageStack
from stacks.instance_permissions import first_start
from stacks.instance_permissions import models as fetch_models
from stacks.statements import grant


class FleetRole(Construct):
    """The instances' role: Systems Manager, the stage's policies (``exported`` is the name of the
    workflow's), and what the first start reads."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        exported: str,
        group_arn: str,
        agent: s3_assets.Asset,
        storage: FleetStorageStack,
        models: str,
    ) -> None:
        super().__init__(scope, id_)
        managed = iam.ManagedPolicy
        self.role = iam.Role(
            self,
            "Role",
            description="Codeferry fleet: Systems Manager, command output, drain",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            managed_policies=[
                managed.from_aws_managed_policy_name("AmazonSSMManagedInstanceCore"),
                managed.from_managed_policy_name(self, "Exported", exported),
                storage.drain_policy,
            ],
        )
        agent_arn = f"{agent.bucket.bucket_arn}/{agent.s3_object_key}"
        granted = first_start(agent_arn, group_arn)
        if models:
            granted += fetch_models(storage.permanent_arn, models)
        grant(self.role, granted)
        acknowledge(
            self.role,
            {
                "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/"
                "AmazonSSMManagedInstanceCore]": "AWS keeps it to what its SSM agent needs, "
                "which changes with the agent."
            },
        )
