"""What an instance of the fleet may do."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from codeferry_contracts.names import Stage
from stacks.acknowledgements import acknowledge, acknowledge_wildcard
from stacks.fleet_storage import FleetStorageStack


class FleetRole(Construct):
    """The instances' role: Systems Manager, the stage's exported policies, and what the first
    start reads."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
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
                managed.from_managed_policy_name(self, "Exported", stage.named("instance")),
                storage.drain_policy,
            ],
        )
        self._allow(["s3:GetObject"], f"{agent.bucket.bucket_arn}/{agent.s3_object_key}")
        self._allow(["autoscaling:CompleteLifecycleAction"], group_arn)
        acknowledge_wildcard(self.role, group_arn, "A group's ARN has a number in the middle.")
        if models:
            self._read_models(storage, models)
        acknowledge(
            self.role,
            {
                "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/"
                "AmazonSSMManagedInstanceCore]": "AWS keeps it to what its SSM agent needs, "
                "which changes with the agent."
            },
        )

    def _read_models(self, storage: FleetStorageStack, prefix: str) -> None:
        objects = f"{storage.permanent_arn}/{prefix}/*"
        self._allow(["s3:GetObject"], objects)
        acknowledge_wildcard(self.role, objects, "Weights come in as many files as they like.")
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[storage.permanent_arn],
                conditions={"StringLike": {"s3:prefix": [f"{prefix}/*"]}},
            )
        )

    def _allow(self, actions: list[str], resource: str) -> None:
        self.role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
