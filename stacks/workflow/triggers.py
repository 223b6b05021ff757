"""The EventBridge rules that start, resume and stop runs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from codeferry_contracts import layout
from codeferry_contracts.names import Stage
from stacks.policies import acknowledge
from stacks.storage.artifacts import StorageStack


class Triggers(Construct):
    """The EventBridge rules: an upload starts a run, an instance that joins late gets its release,
    a finished command resumes, a stop cleans up. ``undelivered`` holds the events that no function
    could take; the monitoring stack watches it."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        stage: Stage,
        storage: StorageStack,
        functions: dict[str, lambda_.Function],
        machines: Sequence[sfn.StateMachine],
    ) -> None:
        super().__init__(scope, id_)
        self.undelivered = _dead_letters(self)
        self._rule(
            "Upload",
            functions["start"],
            source="aws.s3",
            detail_type="Object Created",
            detail={
                "bucket": {"name": [storage.bucket.bucket_name]},
                "object": {"key": [{"prefix": layout.INBOX_PREFIX}]},
            },
        )
        self._rule(
            "InstanceStarted",
            functions["welcome"],
            source="aws.ec2",
            detail_type="EC2 Instance State-change Notification",
            detail={"state": ["running"]},
        )
        # An instance runs a while before its SSM agent is online, and no event says when.
        events.Rule(
            self,
            "LookForJoiners",
            schedule=events.Schedule.rate(Duration.minutes(1)),
            targets=[targets.LambdaFunction(functions["welcome"], retry_attempts=0)],
        )
        self._rule(
            "CommandEnded",
            functions["resume"],
            source="aws.ssm",
            detail_type="EC2 Command Status-change Notification",
            detail={"document-name": [{"prefix": f"codeferry-{stage.name}-"}]},
        )
        self._rule(
            "RunStopped",
            functions["abort"],
            source="aws.states",
            detail_type="Step Functions Execution Status Change",
            detail={
                "status": ["ABORTED", "TIMED_OUT"],
                "stateMachineArn": [machine.state_machine_arn for machine in machines],
            },
        )

    def _rule(
        self,
        id_: str,
        function: lambda_.Function,
        *,
        source: str,
        detail_type: str,
        detail: dict[str, Any],
    ) -> None:
        events.Rule(
            self,
            id_,
            event_pattern=events.EventPattern(
                source=[source], detail_type=[detail_type], detail=detail
            ),
            targets=[
                targets.LambdaFunction(
                    function,
                    dead_letter_queue=self.undelivered,
                    retry_attempts=8,
                    max_event_age=Duration.hours(2),
                )
            ],
        )
        # A delivered event whose handler keeps failing must not vanish either.
        function.configure_async_invoke(
            retry_attempts=2, on_failure=destinations.SqsDestination(self.undelivered)
        )


def _dead_letters(scope: Construct) -> sqs.Queue:
    queue = sqs.Queue(scope, "Undelivered", enforce_ssl=True, retention_period=Duration.days(14))
    acknowledge(queue, {"AwsSolutions-SQS3": "This is the dead-letter queue."})
    return queue
