"""All policies of an assembly, with the names that things will have instead of references."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.unit.stacks.iam_evaluator import listed, plain

ACCOUNT, REGION = "111122223333", "eu-west-1"

# Type to the property with its name, and its ARN.
NAMED = {
    "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{name}"),
    "AWS::DynamoDB::Table": ("TableName", "{dynamodb}:table/{name}"),
    "AWS::Lambda::Function": ("FunctionName", "{lambda}:function:{name}"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "{states}:stateMachine:{name}"),
    "AWS::SSM::Document": ("Name", "{ssm}:document/{name}"),
    "AWS::Events::Rule": ("Name", "{events}:rule/{name}"),
    "AWS::SNS::Topic": ("TopicName", "{sns}:{name}"),
    "AWS::SQS::Queue": ("QueueName", "{sqs}:{name}"),
    "AWS::KMS::Key": ("", "{kms}:key/{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "{logs}:log-group:{name}:*"),
    "AWS::CloudWatch::Alarm": ("AlarmName", "{cloudwatch}:alarm:{name}"),
    "AWS::CloudWatch::Dashboard": (
        "DashboardName",
        f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{{name}}",
    ),
    "AWS::AutoScaling::AutoScalingGroup": (
        "AutoScalingGroupName",
        "{autoscaling}:autoScalingGroup:1:autoScalingGroupName/{name}",
    ),
    "AWS::IAM::Role": ("RoleName", f"arn:aws:iam::{ACCOUNT}:role/{{name}}"),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", f"arn:aws:iam::{ACCOUNT}:policy/{{name}}"),
    "AWS::IAM::InstanceProfile": (
        "InstanceProfileName",
        f"arn:aws:iam::{ACCOUNT}:instance-profile/{{name}}",
    ),
}


class _Regional(dict):
    def __missing__(self, service):
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}"


def arn_of(stack, id_, resource):
    """Its ARN; one without a name gets its stack's and logical id's, as from CloudFormation."""
    name_property, form = NAMED[resource["Type"]]
    made_up = f"{stack}-{id_}-1ABCDEFGHIJKL"
    if resource["Type"] == "AWS::S3::Bucket":
        made_up = made_up.lower()
    name = plain(resource["Properties"].get(name_property, made_up))
    return form.format_map(_Regional(name=name))


@dataclass(frozen=True)
class Policy:
    """``kind`` is the type of the resource it belongs to, ``about`` that resource's ARN or, of a
    role, its own; ``trust`` when it says who may become the role."""

    stack: str
    id_: str
    kind: str
    about: str
    statements: tuple
    trust: bool = False


class Assembly:
    """Every template's resources, and the policies in them."""

    def __init__(self, directory):
        self.templates = {
            path.name.removesuffix(".template.json"): json.loads(path.read_text())
            for path in sorted(directory.glob("*.template.json"))
        }
        self._names = {}
        for stack, template in self.templates.items():
            self._names |= self._of(stack, template)

    def resources(self, *kinds):
        """(stack, logical id, resource) of all, or of the given types."""
        for stack, template in self.templates.items():
            for id_, resource in template["Resources"].items():
                if not kinds or resource["Type"] in kinds:
                    yield stack, id_, resource

    def policies(self):
        """Every policy document, and every permission to invoke a function as one."""
        for stack, id_, resource in self.resources():
            properties, kind = resource["Properties"], resource["Type"]
            documents = [p["PolicyDocument"] for p in properties.get("Policies", [])]
            documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
            documents += [properties["KeyPolicy"]] if "KeyPolicy" in properties else []
            for document in documents:
                yield Policy(stack, id_, kind, "", self.read(stack, document))
            if kind == "AWS::IAM::Role":
                trust = self.read(stack, properties["AssumeRolePolicyDocument"])
                yield Policy(stack, id_, kind, arn_of(stack, id_, resource), trust, trust=True)
            if kind == "AWS::Lambda::Permission":
                yield Policy(stack, id_, kind, "", (self._permission(stack, properties),))

    def role_statements(self, stack, id_):
        """All that a role is allowed, but for AWS's own managed policies."""
        role = self.templates[stack]["Resources"][id_]["Properties"]
        attached = {str(self.read(stack, arn)) for arn in role.get("ManagedPolicyArns", [])}
        found = []
        for policy in self.policies():
            properties = self.templates[policy.stack]["Resources"][policy.id_]["Properties"]
            inline = policy.kind == "AWS::IAM::Policy" and {"Ref": id_} in properties["Roles"]
            own = policy.kind == "AWS::IAM::Role" and policy.id_ == id_ and not policy.trust
            managed = policy.kind == "AWS::IAM::ManagedPolicy" and self._arn(policy) in attached
            if managed or (policy.stack == stack and (inline or own)):
                found += policy.statements
        return found

    def read(self, stack, value):
        """A template's value with names where it refers; a document as its statements."""
        read = self._named(stack, plain(value))
        return tuple(read["Statement"]) if isinstance(read, dict) and "Statement" in read else read

    def _arn(self, policy):
        resource = self.templates[policy.stack]["Resources"][policy.id_]
        return arn_of(policy.stack, policy.id_, resource)

    def _permission(self, stack, properties):
        read = self.read(stack, properties)
        return {
            "Effect": "Allow",
            "Principal": {"Service": read["Principal"]},
            "Action": read["Action"],
            "Resource": read["FunctionName"],
            "Condition": {"ArnEquals": {"aws:SourceArn": read["SourceArn"]}},
        }

    def _of(self, stack, template):
        """Reference in a stack, or export, to the ARN behind it."""
        found = {}
        for id_, resource in template["Resources"].items():
            if resource["Type"] in NAMED:
                arn = arn_of(stack, id_, resource)
                found |= {(stack, f"<{id_}.Arn>"): arn, (stack, f"<{id_}>"): arn}
        for output in template.get("Outputs", {}).values():
            if "Export" in output:
                value = plain(output["Value"])
                found["", f"<{plain(output['Export']['Name'])}>"] = found.get((stack, value), value)
        return found

    def _named(self, stack, value):
        if isinstance(value, list):
            return [self._named(stack, part) for part in value]
        if isinstance(value, dict):
            return {key: self._named(stack, part) for key, part in value.items()}
        if isinstance(value, str):
            value = value.replace(":stack/this/", f":stack/{stack}/")
            for (where, reference), arn in self._names.items():
                if where in (stack, ""):
                    value = value.replace(reference, arn)
        return value


def samples(statement):
    """One request's action and resource for each pair that a statement names and that exists: an
    action is on resources of its own service."""
    for action in listed(statement["Action"]):
        for resource in listed(statement.get("Resource", "*")):
            if resource == "*" or action.split(":")[0] == resource.split(":")[2]:
                yield action.replace("*", "x"), resource.replace("*", "x").replace("?", "x")
