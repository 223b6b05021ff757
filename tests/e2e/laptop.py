"""A machine from which a stage is bootstrapped and deployed, and what is in the account."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-west-1"

# Service, call, list in the answer, and name in each entry (the entry itself where it is "").
INVENTORY = (
    ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", "AutoScalingGroupName"),
    ("cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("dynamodb", "list_tables", "TableNames", ""),
    ("ec2", "describe_instances", "Reservations", "ReservationId"),
    ("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateName"),
    ("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
    ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
    ("ec2", "describe_subnets", "Subnets", "SubnetId"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
    ("events", "list_rules", "Rules", "Name"),
    ("iam", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("kms", "list_keys", "Keys", "KeyId"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("ssm", "describe_parameters", "Parameters", "Name"),
    ("stepfunctions", "list_state_machines", "stateMachines", "name"),
)


@dataclass
class Laptop:
    """A machine that is signed in to an empty account."""

    url: str
    directory: Path
    region: str = REGION

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "CODEFERRY_"))}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "laptop",
            "AWS_SECRET_ACCESS_KEY": "laptop",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "HOME": str(self.directory),
        }

    def run(self, command, **changes):
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            check=False,
        )

    def cdk(self, *arguments, **changes):
        return self.run([sys.executable, ROOT / "scripts/cdk.py", *arguments], **changes)

    def synthesise(self, directory, *context):
        """An assembly of the app as ``context`` configures it."""
        options = [part for word in context for part in ("-c", word)]
        made = self.cdk("synth", "--quiet", "--all", "--output", directory, *options)
        assert made.returncode == 0, made.stderr

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def inventory(self):
        """All that is in the account: (call, name); policies are those of the account."""
        found = {
            (call, entry[name] if name else entry)
            for service, call, entries, name in INVENTORY
            for entry in getattr(self.client(service), call)().get(entries, [])
        }
        policies = self.client("iam").list_policies(Scope="Local")["Policies"]
        return found | {("list_policies", policy["PolicyName"]) for policy in policies}
