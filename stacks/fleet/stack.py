"""The fleet: an Auto Scaling group of instances that make themselves whole, or go.

Code reaches them as any other target: through the tag ``codeferry:target``. This stack knows
nothing of releases; what an instance that joins late has to run is the workflow's to decide.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sns as sns
from constructs import Construct

from codeferry_contracts.target import TARGET_TAG
from stacks.fleet.network import FleetNetwork
from stacks.fleet.user_data import FirstStart, agent_path, drain_files, sha256, user_data
from stacks.permissions.roles import first_start_permissions
from stacks.permissions.roles import models_permissions as fetch_models
from stacks.policies import accept_implied_dependencies, acknowledge, grant
from stacks.settings import FleetSettings, Settings
from stacks.storage.fleet_storage import FleetStorageStack

HOOK = "first-start"
# The first start may take this long, weights and all; it says so itself when it is done.
FIRST_START = Duration.hours(1)


class FleetStack(Stack):
    """Composes network, role, launch template and group. ``group_name`` is fixed by stage and
    target, so that alarms, people and ``asg:NAME`` targets can name it."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        fleet: FleetSettings,
        storage: FleetStorageStack,
        alarms: sns.ITopic,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, description=f"Codeferry: the fleet {fleet.target}", **kwargs)
        accept_implied_dependencies(self)
        self._stage, self._fleet = settings.stage, fleet
        self.group_name = self._stage.fleet(fleet.target)
        agent = s3_assets.Asset(self, "Agent", path=str(fleet.agent))
        network = FleetNetwork(self, "Network", settings=fleet)
        role = FleetRole(
            self,
            "Role",
            exported=settings.named_in_iam(self, "instance"),
            group_arn=self._group_arn(),
            agent=agent,
            storage=storage,
            models=fleet.models,
        ).role
        template = self._launch_template(network, role, self._user_data(agent, storage))
        group = self._group(network, template, self._unfit_alarm(alarms))
        # The first instances need both, and a group refers to neither.
        group.node.add_dependency(network, role)
        Tags.of(group).add(TARGET_TAG, fleet.target, apply_to_launched_instances=True)
        CfnOutput(self, "Group", value=group.auto_scaling_group_name)
        CfnOutput(self, "Target", value=fleet.target)

    def _group_arn(self) -> str:
        owner = f"{self.partition}:autoscaling:{self.region}:{self.account}"
        return f"arn:{owner}:autoScalingGroup:*:autoScalingGroupName/{self.group_name}"

    def _user_data(self, agent: s3_assets.Asset, storage: FleetStorageStack) -> ec2.UserData:
        models = f"s3://{storage.permanent.bucket_name}/{self._fleet.models}/"
        first_start = FirstStart(
            region=self.region,
            stack=self.stack_name,
            resource="Group",
            group=self.group_name,
            hook=HOOK,
            agent={
                "url": agent.s3_object_url,
                "sha256": sha256(self._fleet.agent),
                "path": agent_path(),
            },
            files=drain_files(
                stage=self._stage.name, region=self.region, log_group=storage.drain_log
            ),
            models=models if self._fleet.models else "",
        )
        return ec2.UserData.custom(user_data(first_start))

    def _launch_template(
        self, network: FleetNetwork, role: iam.Role, data: ec2.UserData
    ) -> ec2.LaunchTemplate:
        fleet = self._fleet
        template = ec2.LaunchTemplate(
            self,
            "Template",
            machine_image=ec2.MachineImage.from_ssm_parameter(fleet.image_parameter),
            instance_type=ec2.InstanceType(fleet.types[0]),
            role=role,
            security_group=network.security_group,
            user_data=data,
            require_imdsv2=True,
            http_put_response_hop_limit=1,
            # Each minute's metrics of an instance cost; nobody reads them.
            detailed_monitoring=False,
            instance_initiated_shutdown_behavior=ec2.InstanceInitiatedShutdownBehavior.TERMINATE,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        fleet.disk_gib,
                        encrypted=True,
                        volume_type=ec2.EbsDeviceVolumeType.GP3,
                    ),
                )
            ],
        )
        Tags.of(template).add(TARGET_TAG, fleet.target)
        return template

    def _group(
        self, network: FleetNetwork, template: ec2.LaunchTemplate, unfit: cloudwatch.Alarm
    ) -> autoscaling.AutoScalingGroup:
        fleet = self._fleet
        group = autoscaling.AutoScalingGroup(
            self,
            "Instances",
            auto_scaling_group_name=self.group_name,
            vpc=network.vpc,
            mixed_instances_policy=_mixed(fleet, template),
            min_capacity=fleet.minimum,
            max_capacity=fleet.maximum,
            group_metrics=[autoscaling.GroupMetrics.all()],
            default_instance_warmup=Duration.seconds(60),
            capacity_rebalance=fleet.spot,
            signals=autoscaling.Signals.wait_for_min_capacity(timeout=FIRST_START),
            update_policy=_refresh(unfit),
        )
        _hold_back(group)
        _accept(group)
        return group

    def _unfit_alarm(self, alarms: sns.ITopic) -> cloudwatch.Alarm:
        """Instances that do not become whole: rolls an update back while it is under way."""
        alarm = cloudwatch.Alarm(
            self,
            "Unfit",
            alarm_name=self._stage.named(f"{self._fleet.target}-unfit"),
            alarm_description="Codeferry: fewer instances in service than the fleet's minimum.",
            metric=cloudwatch.Metric(
                namespace="AWS/AutoScaling",
                metric_name="GroupInServiceInstances",
                dimensions_map={"AutoScalingGroupName": self.group_name},
                statistic="Minimum",
                period=Duration.minutes(1),
            ),
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            threshold=self._fleet.minimum,
            evaluation_periods=15,
            # A group that has just been made has no metrics yet.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(alarms))
        return alarm


def _mixed(fleet: FleetSettings, template: ec2.LaunchTemplate) -> autoscaling.MixedInstancesPolicy:
    """On-demand or spot throughout, of whichever of the types can be had."""
    return autoscaling.MixedInstancesPolicy(
        launch_template=template,
        launch_template_overrides=[
            autoscaling.LaunchTemplateOverrides(instance_type=ec2.InstanceType(type_))
            for type_ in fleet.types
        ],
        instances_distribution=autoscaling.InstancesDistribution(
            on_demand_percentage_above_base_capacity=0 if fleet.spot else 100,
            on_demand_allocation_strategy=autoscaling.OnDemandAllocationStrategy.PRIORITIZED,
            spot_allocation_strategy=(
                autoscaling.SpotAllocationStrategy.PRICE_CAPACITY_OPTIMIZED if fleet.spot else None
            ),
        ),
    )


def _refresh(alarm: cloudwatch.Alarm) -> autoscaling.UpdatePolicy:
    """A new launch template (image, agent, types) replaces instances one part at a time.

    CloudFormation starts the instance refresh and, when it fails or the alarm goes off, rolls
    the stack back, which is a refresh to the template before.
    """
    return autoscaling.UpdatePolicy.instance_refresh(
        strategy=autoscaling.InstanceRefreshStrategy.ROLLING,
        # New ones come up before old ones go: a fleet of one is never a fleet of none.
        min_healthy_percentage=100,
        max_healthy_percentage=110,
        checkpoint_percentages=[10, 50, 100],
        checkpoint_delay=Duration.minutes(5),
        bake_time=Duration.minutes(5),
        instance_warmup=Duration.minutes(1),
        skip_matching=True,
        alarms=[alarm],
    )


def _hold_back(group: autoscaling.AutoScalingGroup) -> None:
    """No instance is in service before its first start has said so; one that never does goes.

    As a property of the group: a hook of its own would come after the first instances.
    """
    properties = group.node.default_child
    assert isinstance(properties, autoscaling.CfnAutoScalingGroup)
    properties.override_logical_id("Group")
    hook = autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty(
        lifecycle_hook_name=HOOK,
        lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
        default_result="ABANDON",
        heartbeat_timeout=int(FIRST_START.to_seconds()),
    )
    properties.lifecycle_hook_specification_list = [hook]


def _accept(group: autoscaling.AutoScalingGroup) -> None:
    acknowledge(
        group,
        {
            "AwsSolutions-AS3": "Scaling is on the dashboard and in the group's activity history; "
            "mail for every spot instance that comes and goes is read by nobody.",
            "Annotation::@aws-cdk/aws-autoscaling:signalsNotUsedByInstanceRefresh": "The signals "
            "are for the stack's creation; a refresh waits for the lifecycle hook.",
            "AwsSolutions-EC26": "The launch template's volumes are encrypted; the rule looks for "
            "them in the group.",
        },
    )


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
        granted = first_start_permissions(agent_arn, group_arn)
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
