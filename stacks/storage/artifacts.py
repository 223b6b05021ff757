"""The storage stack: archives, run records and the dispatcher's reservations.

All of it goes with its stack: archives and releases are of no use without the instances' workflow,
and records that have to outlive a stage belong into a bucket of whoever keeps them.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from constructs import Construct

from codeferry_contracts import layout
from stacks.policies import accept_implied_dependencies, acknowledge
from stacks.settings import Settings
from stacks.storage.buckets import log_bucket_cleanup, private


class StorageStack(Stack):
    """``bucket``: the artifact bucket. ``ledger``: reservations, command ids and task tokens."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, id_, description="Codeferry: archives and run records", **kwargs)
        accept_implied_dependencies(self)
        self.bucket = ArtifactBucket(
            self,
            "Artifacts",
            record_days=settings.record_days,
            empty=settings.empty_on_destroy,
        ).bucket
        log_bucket_cleanup(self, settings.log_retention)
        self.ledger = Ledger(self, "Ledger").table
        # Exported by name here, so that the importing stack can tell what it is importing.
        self.bucket_arn = self.export_value(self.bucket.bucket_arn)
        self.table_arn = self.export_value(self.ledger.table_arn)


class ArtifactBucket(Construct):
    """Versioned, private, TLS only, self-emptying; announces its uploads on EventBridge.

    Goes with its stack, emptied before. Without ``empty`` the stack is destroyed only when
    nothing is in it any more.
    """

    def __init__(self, scope: Construct, id_: str, *, record_days: int, empty: bool) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            versioned=True,
            removal_policy=RemovalPolicy.DESTROY,
            auto_delete_objects=empty,
            lifecycle_rules=_lifecycle(record_days),
            **private(),
        )
        self._announce_uploads()
        acknowledge(
            self.bucket,
            {
                "AwsSolutions-S1": "Archives live for minutes and every access by Codeferry is in "
                "the run's record; a log bucket would outlive what it describes. Turn on "
                "CloudTrail data events where an audit needs them."
            },
        )

    def _announce_uploads(self) -> None:
        # The L2 switch (event_bridge_enabled) deploys a custom resource with a Lambda of its
        # own for what CloudFormation has had as a property since 2021.
        bucket = self.bucket.node.default_child
        assert isinstance(bucket, s3.CfnBucket)
        bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )


def _lifecycle(record_days: int) -> list[s3.LifecycleRule]:
    """The backstop behind cleanup, and the lifetime of the records."""
    return [
        *(
            _expiring(prefix.rstrip("/"), prefix, Duration.days(days))
            for prefix, days in layout.LIFETIME_DAYS.items()
        ),
        _expiring("records", layout.RUNS_PREFIX, Duration.days(record_days)),
        # The last good release of a target stays; those before it are for rollbacks.
        s3.LifecycleRule(
            id="releases",
            prefix=layout.RELEASES_PREFIX,
            noncurrent_version_expiration=Duration.days(record_days),
        ),
        s3.LifecycleRule(
            id="leftovers",
            abort_incomplete_multipart_upload_after=Duration.days(1),
            expired_object_delete_marker=True,
        ),
    ]


def _expiring(id_: str, prefix: str, lifetime: Duration) -> s3.LifecycleRule:
    """Objects that are gone for good a day after their time. Not one rule for all prefixes: of
    several rules S3 follows the one that deletes sooner, and releases must stay longer."""
    return s3.LifecycleRule(
        id=id_,
        prefix=prefix,
        expiration=lifetime,
        noncurrent_version_expiration=Duration.days(1),
    )


class Ledger(Construct):
    """One table, keyed ``pk``/``sk``; items expire by ``expires_at`` (epoch seconds)."""

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires_at",
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            removal_policy=RemovalPolicy.DESTROY,
        )
        acknowledge(
            self.table,
            {
                "AwsSolutions-DDB3": "The items matter only while their run is under way and "
                "expire with it; a restored table would describe commands long gone."
            },
        )
