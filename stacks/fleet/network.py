"""The fleet's network: subnets of yours, or a small one of its own without a way in or out."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from stacks.policies import acknowledge
from stacks.settings import FleetSettings

# What an instance without a route to the Internet calls: Systems Manager's two, its logs, and who
# it is; and, at its first start, CloudFormation and Auto Scaling, which wait for its word.
_SERVICES = ("ssm", "ssmmessages", "logs", "sts", "cloudformation", "autoscaling")
_HTTPS = 443
# Of the network of its own, which is connected to nothing it could collide with.
_RANGE = "10.64.0.0/16"


class FleetNetwork(Construct):
    """``vpc`` and ``security_group`` for the fleet's instances.

    The group lets nothing in. In subnets of yours, what the instances reach is up to their
    routes; in the own network it is S3 and the services they need, through endpoints.
    """

    def __init__(self, scope: Construct, id_: str, *, settings: FleetSettings) -> None:
        super().__init__(scope, id_)
        self.vpc = self._given(settings) if settings.vpc else self._own(settings.zones)
        self.security_group = ec2.SecurityGroup(
            self,
            "Instances",
            vpc=self.vpc,
            description="Codeferry fleet: nothing may come in",
            allow_all_outbound=True,
        )

    def _given(self, settings: FleetSettings) -> ec2.IVpc:
        stack = Stack.of(self)
        zones = [f"{stack.region}{letter}" for letter in "abcdef"]
        return ec2.Vpc.from_vpc_attributes(
            self,
            "Given",
            vpc_id=settings.vpc,
            # Names for the CDK alone: an Auto Scaling group goes by its subnets.
            availability_zones=zones[: len(settings.subnets)],
            private_subnet_ids=list(settings.subnets),
        )

    def _own(self, zones: tuple[str, ...]) -> ec2.Vpc:
        # Not every zone has every endpoint service and instance type, and a template cannot ask.
        chosen: dict[str, Any] = {"availability_zones": list(zones)} if zones else {"max_azs": 2}
        vpc = ec2.Vpc(
            self,
            "Own",
            ip_addresses=ec2.IpAddresses.cidr(_RANGE),
            **chosen,
            nat_gateways=0,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Fleet", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=20
                )
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
            },
        )
        self._endpoints(vpc)
        acknowledge(
            vpc,
            {
                "AwsSolutions-VPC7": "Nothing leaves this network but through its endpoints, "
                "whose use CloudTrail records; flow logs would say the same for a price."
            },
        )
        return vpc

    def _endpoints(self, vpc: ec2.Vpc) -> None:
        group = ec2.SecurityGroup(
            self,
            "Endpoints",
            vpc=vpc,
            description="Codeferry fleet: the instances of the network reach its endpoints",
            allow_all_outbound=False,
        )
        group.add_ingress_rule(
            ec2.Peer.ipv4(_RANGE), ec2.Port.tcp(_HTTPS), "HTTPS from the network"
        )
        for service in _SERVICES:
            vpc.add_interface_endpoint(
                service,
                service=ec2.InterfaceVpcEndpointAwsService(service),
                security_groups=[group],
                open=False,
            )
