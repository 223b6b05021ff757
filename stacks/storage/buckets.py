"""The settings that all buckets have, and bucket cleanup: what empties one before its stack goes.

As the CDK makes it, Lambda creates the function's log group at the first call, and nothing ever
deletes that; its role may create any log group in the account.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnResource, RemovalPolicy, Stack
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3

# The id under which a stack holds the function and its role, once for all its buckets.
_PROVIDER = "Custom::S3AutoDeleteObjectsCustomResourceProvider"


def private() -> dict[str, Any]:
    """Every bucket's settings: encryption, TLS only, nothing public, no ACLs."""
    return {
        "encryption": s3.BucketEncryption.S3_MANAGED,
        "enforce_ssl": True,
        "block_public_access": s3.BlockPublicAccess.BLOCK_ALL,
        "object_ownership": s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
    }


def log_bucket_cleanup(stack: Stack, retention: logs.RetentionDays) -> None:
    """Let the function write to a log group of the stack's own, which goes with it.

    The role may do only that, so the group is not made again by a line that comes late. Called
    when the stack has its buckets; without one to be emptied there is nothing to do.
    """
    provider = stack.node.try_find_child(_PROVIDER)
    if provider is None:
        return
    group = logs.LogGroup(
        stack, "EmptyingLog", retention=retention, removal_policy=RemovalPolicy.DESTROY
    )
    function, role = provider.node.find_child("Handler"), provider.node.find_child("Role")
    assert isinstance(function, CfnResource)
    assert isinstance(role, CfnResource)
    function.add_property_override("LoggingConfig", {"LogGroup": group.log_group_name})
    role.add_property_deletion_override("ManagedPolicyArns")
    role.add_property_override("Policies", [_log_policy(group)])


def _log_policy(group: logs.LogGroup) -> dict[str, object]:
    statement = {
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": group.log_group_arn,
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {"PolicyName": "log", "PolicyDocument": document}
