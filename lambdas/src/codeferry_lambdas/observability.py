"""What a function tells the outside: its log, its metrics, and its errors by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore import exceptions as botocore_errors

from codeferry_contracts.errors import CodeferryError
from codeferry_contracts.report import Report
from codeferry_lambdas.errors import AwsUnavailable, from_aws, told

NAMESPACE = "Codeferry"

logger = Logger(service="codeferry")

Event = dict[str, Any]
Handler = Callable[[Event, object], Any]


def entry(action: Callable[[Event], Any]) -> Handler:
    """A Lambda handler that does ``action`` and lets errors out in the form Step Functions
    can match and the report can read."""

    @functools.wraps(action)
    def handler(event: Event, context: object = None) -> Any:
        try:
            return action(event)
        except CodeferryError as error:
            raise _logged(error) from error
        except botocore_errors.ClientError as error:
            raise _logged(from_aws(error)) from error
        except (botocore_errors.ConnectionError, botocore_errors.HTTPClientError) as error:
            unavailable = AwsUnavailable(f"AWS did not answer: {type(error).__name__}.")
            raise _logged(unavailable) from error

    return handler


def _logged(error: CodeferryError) -> CodeferryError:
    logger.warning(error.message, extra={"error": error.to_json()})
    return told(error)


def count_run(report: Report, seconds: float) -> None:
    """The run in CloudWatch metrics, by stage and workflow (embedded metric format)."""
    metrics = Metrics(namespace=NAMESPACE, service="workflow")
    metrics.add_dimension(name="stage", value=report["stage"])
    metrics.add_dimension(name="workflow", value=report["workflow"])
    succeeded = report["status"] == "SUCCEEDED"
    counts = {
        "RunsSucceeded": int(succeeded),
        "RunsFailed": int(not succeeded),
        "InstancesSucceeded": report["counts"]["succeeded"],
        "InstancesFailed": report["counts"]["failed"],
    }
    for name, value in counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.add_metric(name="DurationSeconds", unit=MetricUnit.Seconds, value=seconds)
    metrics.flush_metrics()
