"""No template asks for a service that is not to be had, or takes a name that two regions share.

Sources: AWS PrivateLink Guide, "AWS services that integrate with AWS PrivateLink"; AWS Systems
Manager User Guide, "Reference: ec2messages, ssmmessages, and other API operations" (newer regions
have ``ssmmessages`` only, and agents from 3.3.40.0 on need no other); IAM User Guide, "IAM and AWS
STS quotas", "IAM name requirements" (names are the account's, not a region's); Amazon S3 User
Guide, "Bucket naming rules" (names are the partition's).
"""

from __future__ import annotations

import json

import pytest

from tests.unit.stacks.iam_evaluator import plain

# What a VPC can be given an endpoint for in every region that CDK deploys to: what the stacks
# need or may come to need. Another one is looked up in the guide first, and added here.
ENDPOINT_SERVICES = {
    "autoscaling",
    "cloudformation",
    "dynamodb",
    "ec2",
    "events",
    "kms",
    "lambda",
    "logs",
    "monitoring",
    "s3",
    "sns",
    "sqs",
    "ssm",
    "ssmmessages",
    "states",
    "sts",
    "xray",
}
# The property that names what is one for all regions of an account, or of the partition. An inline
# policy's name is its role's own.
NAMES = {
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
    "AWS::S3::Bucket": "BucketName",
}


def templates(directory):
    """The templates of an assembly by stack; every stack of the app is in one that has all."""
    found = {path.name: json.loads(path.read_text()) for path in directory.glob("*.template.json")}
    assert len(found) >= 6
    return found


def retired(templates):
    """The services of endpoints that are not to be had (everywhere)."""
    wanted = {
        plain(resource["Properties"]["ServiceName"]).rpartition(".")[2]
        for template in templates.values()
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    }
    return wanted - ENDPOINT_SERVICES


def without_region(templates):
    """The names that another region of the account would want, too: (type, name)."""
    return {
        (resource["Type"], plain(name))
        for template in templates.values()
        for resource in template["Resources"].values()
        for name in [resource.get("Properties", {}).get(NAMES.get(resource["Type"], ""))]
        if name and "AWS::Region" not in json.dumps(name)
    }


def test_no_endpoint_is_of_a_retired_service(everything):
    """A stack whose endpoint service a region lacks cannot be created there."""
    assert retired(templates(everything)) == set()


def test_no_global_name_is_without_its_region(everything):
    """The second region of an account would fail on the name that the first has taken."""
    assert without_region(templates(everything)) == set()


def one(kind, **properties):
    return {"T": {"Resources": {"R": {"Type": kind, "Properties": properties}}}}


@pytest.mark.parametrize("service", ["ec2messages", "awsconnector"])
def test_a_retired_service_is_noticed(service):
    """The check itself, on a name as CDK writes it."""
    name = {"Fn::Join": ["", ["com.amazonaws.", {"Ref": "AWS::Region"}, f".{service}"]]}
    assert retired(one("AWS::EC2::VPCEndpoint", ServiceName=name)) == {service}
    still = one("AWS::EC2::VPCEndpoint", ServiceName="com.amazonaws.eu-west-1.ssm")
    assert retired(still) == set()


@pytest.mark.parametrize(("kind", "named"), NAMES.items())
def test_a_name_without_its_region_is_noticed(kind, named):
    """The check itself; no name at all is CloudFormation's own, which is unique."""
    with_region = {"Fn::Join": ["-", ["codeferry", {"Ref": "AWS::Region"}]]}
    assert without_region(one(kind, **{named: "codeferry"})) == {(kind, "codeferry")}
    assert without_region(one(kind, **{named: with_region})) == set()
    assert without_region(one(kind)) == set()
