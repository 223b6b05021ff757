"""The metrics that dashboard and alarms are made of, by the names they are emitted under.

The workflow's are emitted by ``lambdas/…/observability.py`` and ``run_metrics.py``, the
drain's by ``agent/…/drain/status.py``; the rest are AWS's own.
"""

from __future__ import annotations

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch

from stacks.functions import SHAPES
from stacks.settings import Settings

WORKFLOW_NAMESPACE = "Codeferry"
DRAIN_NAMESPACE = "Codeferry/Drain"
FIVE_MINUTES = Duration.minutes(5)

# These end with an error when the run has one: a wrong request, an archive that does not fit,
# nobody to reach. The run's own failure tells that.
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
        unexpected = [name for name in SHAPES if name not in FAIL_WITH_THE_RUN]
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
