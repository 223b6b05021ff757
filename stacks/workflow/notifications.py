"""A message to people when a run has ended."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from codeferry_contracts.names import Stage
from codeferry_contracts.report import EVENT_RUN_FINISHED, EVENT_SOURCE
from stacks.policies import acknowledge


class Notifications(Construct):
    """``topic`` gets a readable text for every run of the stage that ends.

    ``email`` is subscribed, and gets a mail of AWS's that asks to confirm it; others may
    subscribe as well.
    """

    def __init__(self, scope: Construct, id_: str, *, stage: Stage, email: str) -> None:
        super().__init__(scope, id_)
        self.topic = sns.Topic(
            self,
            "Topic",
            display_name=f"Codeferry {stage.name}",
            master_key=self._key(stage),
            enforce_ssl=True,
        )
        self.topic.add_subscription(subscriptions.EmailSubscription(email))
        rule = self._rule(stage)
        granted = "The CDK's grant to publish: both GenerateDataKey calls, on this key alone."
        acknowledge(rule, {"AwsSolutions-IAM5[Action::kms:GenerateDataKey*]": granted})

    def _key(self, stage: Stage) -> kms.Key:
        # EventBridge may not use AWS's own key for SNS, whose policy nobody can change.
        return kms.Key(
            self,
            "Key",
            description=f"Codeferry {stage.name}: messages about runs",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _rule(self, stage: Stage) -> events.Rule:
        return events.Rule(
            self,
            "RunFinished",
            description="Codeferry: tells people how a run ended",
            event_pattern=events.EventPattern(
                source=[EVENT_SOURCE],
                detail_type=[EVENT_RUN_FINISHED],
                detail={"stage": [stage.name]},
            ),
            targets=[
                # By a role of the rule's own: the topic's policy need not let EventBridge in
                # as such, whichever account's rule it acts for.
                targets.SnsTopic(self.topic, message=_message(stage), authorize_using_role=True)
            ],
        )


def _message(stage: Stage) -> events.RuleTargetInput:
    """The text, from fields of the event that cannot hold a quote.

    EventBridge puts values in as they are, and each line of the text between quotes, which
    the mail then shows.
    """
    field = events.EventField.from_path
    succeeded, total = field("$.detail.counts.succeeded"), field("$.detail.counts.total")
    run, status = field("$.detail.run_id"), field("$.detail.status")
    return events.RuleTargetInput.from_multiline_text(
        f"{field('$.detail.summary')}\n"
        f"{status}: {succeeded}/{total} instances, {field('$.detail.duration_seconds')} s\n"
        f"More: ferry status {run} --stage {stage.name}"
    )
