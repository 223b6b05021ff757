"""The dashboard, the alarms, and the topic they go to.

Each alarm is for something a person has to do; what it means and what to do is in
docs/fleet.md, under the alarm's name. The workflow's metrics are emitted by
``lambdas/…/aws/observability.py`` and ``runs/announce.py``, the drain's by
``agent/…/drain/status.py``; the rest are AWS's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from codeferry_contracts.names import WORKFLOWS
from stacks.settings import Settings
from stacks.workflow.functions import FUNCTIONS

WORKFLOW_NAMESPACE = "Codeferry"
DRAIN_NAMESPACE = "Codeferry/Drain"
FIVE_MINUTES = Duration.minutes(5)

# These end with an error when the run has one: a wrong request, an archive that does not fit,
# nobody to reach. The run's own failure says that.
FAIL_WITH_THE_RUN = frozenset({"plan", "check", "dispatch", "collect", "verify"})


class Metrics:
    """Metrics of one stage, for ``stack``."""

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self._stack = stack
        self._stage = settings.stage
        self._fleet = settings.fleet

    def of_runs(self, name: str, statistic: str = "Sum") -> cloudwatch.IMetric:
        """A metric of the workflow's own, one line per workflow."""
        return self._of_workflow("service,stage,workflow", name, statistic)

    def of_phases(self, statistic: str) -> cloudwatch.IMetric:
        """Seconds that the phases of runs take, one line per workflow and phase."""
        return self._of_workflow("phase,service,stage,workflow", "PhaseSeconds", statistic)

    def _of_workflow(self, dimensions: str, name: str, statistic: str) -> cloudwatch.IMetric:
        terms = f'"service"="workflow" "stage"="{self._stage.name}"'
        return _search(WORKFLOW_NAMESPACE, dimensions, name, terms, statistic)

    def of_functions(self, name: str, statistic: str = "Sum") -> cloudwatch.IMetric:
        """A metric of all functions, one line each."""
        prefix = f'"{self._stage.function("")}"'
        return _search("AWS/Lambda", "FunctionName", name, prefix, statistic)

    def of_drain(self, name: str, statistic: str = "Sum") -> cloudwatch.IMetric:
        """A metric of the stage's drain agents, one line per instance."""
        stage = f'"Stage"="{self._stage.name}"'
        return _search(DRAIN_NAMESPACE, "Instance,Stage", name, stage, statistic)

    def oldest_output(self) -> cloudwatch.Metric:
        """Seconds that the oldest output has been waiting, on any instance of the stage."""
        return cloudwatch.Metric(
            namespace=DRAIN_NAMESPACE,
            metric_name="OldestAge",
            dimensions_map={"Stage": self._stage.name},
            statistic="Maximum",
            period=FIVE_MINUTES,
        )

    def ended_badly(self, workflow: str) -> dict[str, cloudwatch.Metric]:
        """Executions that failed and that timed out, also those that could not report it."""
        return {
            "failed": self._execution(workflow, "ExecutionsFailed"),
            "timed-out": self._execution(workflow, "ExecutionsTimedOut"),
        }

    def unexpected_errors(self) -> dict[str, cloudwatch.Metric]:
        """Errors of the functions that have no business failing, by function."""
        unexpected = [name for name in FUNCTIONS if name not in FAIL_WITH_THE_RUN]
        return {name: self._function(name, "Errors") for name in unexpected}

    def throttles(self) -> cloudwatch.Metric:
        """Of all functions of the account and region: they share one concurrency."""
        return cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name="Throttles",
            statistic="Sum",
            period=FIVE_MINUTES,
        )

    def of_fleet(self, name: str) -> cloudwatch.IMetric:
        """A metric of this stage's fleet, or of groups that are named as one."""
        group = self._stage.fleet(self._fleet.target if self._fleet else "")
        return _search(
            "AWS/AutoScaling",
            "AutoScalingGroupName",
            name,
            f'"{group}"',
            "Average",
        )

    def _function(self, name: str, metric: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name=metric,
            dimensions_map={"FunctionName": self._stage.function(name)},
            statistic="Sum",
            period=FIVE_MINUTES,
        )

    def _execution(self, workflow: str, metric: str) -> cloudwatch.Metric:
        owner = f"{self._stack.partition}:states:{self._stack.region}:{self._stack.account}"
        machine = f"arn:{owner}:stateMachine:{self._stage.state_machine(workflow)}"
        return cloudwatch.Metric(
            namespace="AWS/States",
            metric_name=metric,
            dimensions_map={"StateMachineArn": machine},
            statistic="Sum",
            period=FIVE_MINUTES,
        )


def _search(
    namespace: str, dimensions: str, name: str, terms: str, statistic: str
) -> cloudwatch.IMetric:
    """All metrics of that name whose dimensions match: a line appears with its first value."""
    where = f'{{{namespace},{dimensions}}} MetricName="{name}" {terms}'
    return cloudwatch.MathExpression(
        label=name,
        expression=f"SEARCH('{where}', '{statistic}', 300)",
        using_metrics={},
        period=FIVE_MINUTES,
    )


@dataclass(frozen=True)
class Watch:
    """An alarm: on when ``metric`` is at or above ``threshold`` for ``periods`` in a row."""

    name: str
    metric: cloudwatch.IMetric
    meaning: str
    threshold: float = 1
    periods: int = 1


class MonitoringStack(Stack):
    """``topic`` is where every alarm of the stage goes."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        settings: Settings,
        undelivered: sqs.IQueue,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, description="Codeferry: dashboard and alarms", **kwargs)
        stage = settings.stage
        self.topic = AlarmTopic(
            self, "Alarms", name=stage.named("alarms"), email=settings.alarm_email
        ).topic
        metrics = Metrics(self, settings)
        for watch in watches(metrics, undelivered):
            self._alarm(watch, stage.named(watch.name))
        Dashboard(self, "Dashboard", name=stage.named("overview"), metrics=metrics)
        CfnOutput(self, "AlarmTopic", value=self.topic.topic_arn)

    def _alarm(self, watch: Watch, name: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            "".join(word.capitalize() for word in watch.name.split("-")),
            alarm_name=name,
            alarm_description=f"Codeferry: {watch.meaning} What to do: docs/fleet.md.",
            metric=watch.metric,
            threshold=watch.threshold,
            evaluation_periods=watch.periods,
            comparison_operator=(cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD),
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        alarm.add_ok_action(actions.SnsAction(self.topic))


class AlarmTopic(Construct):
    """Alarms are published here; ``email`` gets them if there is one."""

    def __init__(self, scope: Construct, id_: str, *, name: str, email: str) -> None:
        super().__init__(scope, id_)
        self.topic = sns.Topic(self, "Topic", topic_name=name, enforce_ssl=True)
        self._let_alarms_publish()
        if email:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))

    def _let_alarms_publish(self) -> None:
        """A topic with a policy of its own has lost the one that lets the account's services in."""
        stack = Stack.of(self)
        owner = f"{stack.partition}:cloudwatch:{stack.region}:{stack.account}"
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"ArnLike": {"aws:SourceArn": f"arn:{owner}:alarm:codeferry-*"}},
            )
        )


class Dashboard(Construct):
    """Runs, phases, functions and, with a fleet, its instances and their backlog."""

    def __init__(self, scope: Construct, id_: str, *, name: str, metrics: Metrics) -> None:
        super().__init__(scope, id_)
        rows = [
            [
                _graph("Runs", metrics.of_runs("RunsSucceeded"), metrics.of_runs("RunsFailed")),
                _graph("Duration of runs, s", metrics.of_runs("DurationSeconds", "Average")),
            ],
            [
                _graph("Instances", *_instances(metrics)),
                _graph("Duration by phase, s", metrics.of_phases("Average")),
            ],
            [
                _graph("Archives, bytes", metrics.of_runs("ArchiveBytes", "Average")),
                _graph("Bytes delivered", metrics.of_runs("DeliveredBytes")),
            ],
            [
                _graph("Functions: errors", metrics.of_functions("Errors")),
                _graph("Functions: throttled", metrics.of_functions("Throttles")),
            ],
            [
                _graph("Drain: backlog", metrics.of_drain("PendingFiles", "Maximum")),
                _graph("Drain: bytes uploaded", metrics.of_drain("UploadedBytes")),
            ],
            [
                _graph("Drain: oldest output, s", metrics.oldest_output()),
                _graph("Fleet: wanted and in service", *_fleet(metrics)),
            ],
        ]
        cloudwatch.Dashboard(self, "Overview", dashboard_name=name, widgets=rows)


def watches(metrics: Metrics, undelivered: sqs.IQueue) -> Iterator[Watch]:
    """Everything that needs a person, except what the fleet's own stack watches."""
    for workflow in WORKFLOWS:
        for how, metric in metrics.ended_badly(workflow).items():
            yield Watch(
                f"runs-{how}-{workflow}",
                metric,
                f"A run of {workflow} has {how.replace('-', ' ')}.",
            )
    yield Watch(
        "events-undelivered",
        undelivered.metric_approximate_number_of_messages_visible(period=Duration.minutes(1)),
        "An event was given up: an upload or a stop had no effect.",
    )
    yield Watch(
        "drain-stuck",
        metrics.oldest_output(),
        "Outputs have been waiting on an instance for an hour.",
        threshold=3600,
        periods=3,
    )
    yield from _function_watches(metrics)


def _function_watches(metrics: Metrics) -> Iterator[Watch]:
    for name, metric in metrics.unexpected_errors().items():
        yield Watch(
            f"function-{name}-failing",
            metric,
            f"The function {name} failed, which no run is a reason for.",
        )
    yield Watch(
        "functions-throttled",
        metrics.throttles(),
        "Lambda refuses functions for lack of concurrency.",
        periods=3,
    )


def _instances(metrics: Metrics) -> Sequence[cloudwatch.IMetric]:
    return [metrics.of_runs("InstancesSucceeded"), metrics.of_runs("InstancesFailed")]


def _fleet(metrics: Metrics) -> Sequence[cloudwatch.IMetric]:
    return [metrics.of_fleet("GroupDesiredCapacity"), metrics.of_fleet("GroupInServiceInstances")]


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=12, height=6)
