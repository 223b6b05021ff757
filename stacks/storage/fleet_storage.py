"""The fleet storage stack: one permanent bucket and the ephemeral ones.

In a stack of their own, so that the fleet can come and go. Destroying this stack empties and
deletes the ephemeral buckets; the permanent one stays in the account, with its policy. The
next deployment takes it over if it gets its name (``-c permanent_bucket=NAME`` and ``cdk
deploy --import-existing-resources``); CloudFormation knows an existing resource only by a
name that is written out in the template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from codeferry_contracts import names
from stacks.permissions.roles import drain_permissions
from stacks.policies import (
    accept_implied_dependencies,
    accept_wildcards,
    acknowledge,
    acknowledge_wildcard,
    statement,
)
from stacks.settings import Settings
from stacks.storage.buckets import log_bucket_cleanup, private

# Who may still do this is the break-glass role alone. PutBucketPolicy is among it, because another
# policy would be the way around this one: CloudFormation writes it once, with the bucket. To expire
# versions by a lifecycle rule would be another way to lose them; CloudFormation has to stay able
# to write the rules.
_DESTRUCTIVE_FOR_BUCKET = ("s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketPolicy")
_DESTRUCTIVE_FOR_OBJECTS = ("s3:DeleteObjectVersion",)


class FleetStorageStack(Stack):
    """``permanent``: models and data sets. ``ephemeral``: outputs and checkpoints, by name."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, id_, description="Codeferry: what a fleet keeps", **kwargs)
        accept_implied_dependencies(self)
        stage = settings.stage
        name = settings.named_in_iam(self, "break-glass")
        break_glass = BreakGlass(
            self, "BreakGlass", name=name, permission_set=settings.break_glass_permission_set
        )
        self.permanent = PermanentBucket(
            self,
            "Permanent",
            name=settings.permanent_bucket,
            break_glass=break_glass.role,
        ).bucket
        break_glass.open(self.permanent)
        # Exported by name here, so that the importing stack can tell what it is importing.
        self.permanent_arn = self.export_value(self.permanent.bucket_arn)
        self.ephemeral = {
            name: ephemeral_bucket(self, id_, days=days, empty=settings.empty_on_destroy)
            for name, id_, days in (
                (names.OUTPUT_OUTPUTS, "Outputs", settings.output_days),
                (names.OUTPUT_CHECKPOINTS, "Checkpoints", settings.checkpoint_days),
            )
        }
        log_bucket_cleanup(self, settings.log_retention)
        self.drain_log = f"/codeferry/{stage.name}/drain"
        log = logs.LogGroup(
            self,
            "DrainLog",
            log_group_name=self.drain_log,
            retention=settings.log_retention,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.drain_policy = drain_policy(
            self,
            settings.named_in_iam(self, "drain"),
            buckets=list(self.ephemeral.values()),
            log=log,
        )
        self._outputs(break_glass.role)

    def _outputs(self, break_glass: iam.Role) -> None:
        CfnOutput(
            self,
            names.OUTPUT_PERMANENT,
            value=self.permanent.bucket_name,
            description="Models and data. Stays, with all versions, when this stack is destroyed.",
        )
        for name, bucket in self.ephemeral.items():
            CfnOutput(
                self,
                name,
                value=bucket.bucket_name,
                description="Expires by itself; is emptied and deleted with this stack.",
            )
        CfnOutput(self, "DrainPolicyArn", value=self.drain_policy.managed_policy_arn)
        CfnOutput(self, "BreakGlassRole", value=break_glass.role_name)


class BreakGlass(Construct):
    """The one role that can delete what is permanent: taken by a person, with a second factor.

    AWS says of a session whether it had one only where IAM itself asked for it. Sessions of
    Identity Center, which asks at its own door, say nothing; so one permission set may be named.
    """

    def __init__(self, scope: Construct, id_: str, *, name: str, permission_set: str) -> None:
        super().__init__(scope, id_)
        self.role = iam.Role(
            self,
            "Role",
            role_name=name,
            description="Deletes permanent data. Every use of it should be explained.",
            max_session_duration=Duration.hours(1),
            assumed_by=iam.CompositePrincipal(*self._trusted(permission_set)),
        )

    def _trusted(self, permission_set: str) -> Iterator[iam.PrincipalBase]:
        account = iam.AccountRootPrincipal()
        yield account.with_conditions({"Bool": {"aws:MultiFactorAuthPresent": "true"}})
        if permission_set:
            stack = Stack.of(self)
            # "Referencing permission sets in resource policies", IAM Identity Center User Guide.
            role = f"aws-reserved/sso.amazonaws.com/*AWSReservedSSO_{permission_set}_*"
            arn = f"arn:{stack.partition}:iam::{stack.account}:role/{role}"
            yield account.with_conditions({"ArnLike": {"aws:PrincipalArn": arn}})

    def open(self, bucket: s3.Bucket) -> None:
        """Let the role look into ``bucket`` and delete from it and itself."""
        objects = bucket.arn_for_objects("*")
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket", "s3:ListBucketVersions", *_DESTRUCTIVE_FOR_BUCKET],
                resources=[bucket.bucket_arn],
            )
        )
        self.role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:DeleteObject", *_DESTRUCTIVE_FOR_OBJECTS], resources=[objects]
            )
        )
        acknowledge_wildcard(self.role, objects, "Breaking the glass is for any object in it.")
        self._stay()

    def _stay(self) -> None:
        """Role and policy outlive the stack with the bucket, which nobody else could delete; and
        whoever may delete the role may make it anew, with another trust."""
        self.role.apply_removal_policy(RemovalPolicy.RETAIN)
        policy = self.role.node.find_child("DefaultPolicy")
        assert isinstance(policy, iam.Policy)
        policy.apply_removal_policy(RemovalPolicy.RETAIN)


class PermanentBucket(Construct):
    """Versioned, kept when the stack goes, and closed to deletion for everyone but one role.

    ``name`` may be empty for one that CloudFormation makes up.
    """

    def __init__(self, scope: Construct, id_: str, *, name: str, break_glass: iam.Role) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=name or None,
            versioned=True,
            removal_policy=RemovalPolicy.RETAIN,
            lifecycle_rules=[_abort_uploads()],
            **private(),
        )
        self._deny_deletion(break_glass, name)
        _accept_missing_access_log(self.bucket)

    def _deny_deletion(self, break_glass: iam.Role, name: str) -> None:
        self.bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid="PermanentButForBreakGlass",
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=[*_DESTRUCTIVE_FOR_BUCKET, *_DESTRUCTIVE_FOR_OBJECTS],
                resources=[self.bucket.bucket_arn, self.bucket.arn_for_objects("*")],
                conditions={"ArnNotEquals": {"aws:PrincipalArn": break_glass.role_arn}},
            )
        )
        # The protection outlives the stack as the bucket does.
        policy = self.bucket.policy
        assert policy is not None
        policy.apply_removal_policy(RemovalPolicy.RETAIN)
        if name:
            properties = policy.node.default_child
            assert isinstance(properties, s3.CfnBucketPolicy)
            properties.bucket = name
            policy.node.add_dependency(self.bucket)
            acknowledge(
                self.bucket,
                {"AwsSolutions-S10": "Its policy denies HTTP; the rule looks for it by reference."},
            )


def ephemeral_bucket(scope: Construct, id_: str, *, days: int, empty: bool) -> s3.Bucket:
    """A bucket whose objects go after ``days``, and which goes with its stack.

    Without ``empty`` the stack is destroyed only when nothing is in it any more.
    """
    bucket = s3.Bucket(
        scope,
        id_,
        removal_policy=RemovalPolicy.DESTROY,
        auto_delete_objects=empty,
        lifecycle_rules=[
            s3.LifecycleRule(id="ephemeral", expiration=Duration.days(days)),
            _abort_uploads(),
        ],
        **private(),
    )
    _accept_missing_access_log(bucket)
    return bucket


def drain_policy(
    scope: Construct, name: str, *, buckets: list[s3.Bucket], log: logs.LogGroup
) -> iam.ManagedPolicy:
    """The exported policy of whoever drains into ``buckets``."""
    permissions = drain_permissions([bucket.bucket_arn for bucket in buckets], log.log_group_arn)
    policy = iam.ManagedPolicy(
        scope,
        "DrainPolicy",
        managed_policy_name=name,
        description="For instance roles: carry outputs to the stage's output buckets.",
        statements=[statement(permission) for permission in permissions],
    )
    accept_wildcards(policy, permissions)
    return policy


def _abort_uploads() -> s3.LifecycleRule:
    return s3.LifecycleRule(
        id="leftovers", abort_incomplete_multipart_upload_after=Duration.days(1)
    )


def _accept_missing_access_log(bucket: s3.Bucket) -> None:
    reason = (
        "A log bucket beside every bucket would have to be kept and paid for by everyone; turn on "
        "CloudTrail data events where an audit needs them."
    )
    acknowledge(bucket, {"AwsSolutions-S1": reason})
