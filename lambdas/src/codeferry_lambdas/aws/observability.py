"""Log, metrics and named errors of a function: the entry point of every handler."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore import exceptions as botocore_errors

from codeferry_contracts.errors import CodeferryError
from codeferry_lambdas.aws.errors import AwsUnavailable, for_step_functions, from_aws
from codeferry_lambdas.aws.settings import Settings

NAMESPACE = "Codeferry"

# In ASCII: what others wrote (keys, instances' words) moves no terminal that shows the log.
_as_line = functools.partial(json.dumps, default=str, separators=(",", ":"))
logger = Logger(service="codeferry", json_serializer=_as_line)

Event = dict[str, Any]
Action = Callable[[Event], Any]
Handler = Callable[[Event, object], Any]
Measured = Mapping[str, tuple[MetricUnit, float]]


def entry(action: Action) -> Handler:
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
    return for_step_functions(error)


def phase(name: str) -> Callable[[Action], Action]:
    """Time what is decorated as a phase of the run that its event names: each attempt by itself,
    also one that fails."""

    def timed(action: Action) -> Action:
        @functools.wraps(action)
        def attempt(event: Event) -> Any:
            stage, began = Settings.from_env().stage.name, time.monotonic()
            try:
                return action(event)
            finally:
                count_phase(stage, event["run"]["workflow"], name, time.monotonic() - began)

        return attempt

    return timed


def count_phase(stage: str, workflow: str, name: str, seconds: float) -> None:
    """Count the seconds that a phase of a run took, one metric by phase."""
    measured = {"PhaseSeconds": (MetricUnit.Seconds, seconds)}
    emit(measured, stage=stage, workflow=workflow, phase=name)


def emit(measured: Measured, **dimensions: str) -> None:
    """Values in CloudWatch's embedded metric format, in the log. Each combination of dimensions
    is a metric that is paid for, so their values come from short lists: no run, no instance."""
    metrics = Metrics(namespace=NAMESPACE, service="workflow")
    for name, value in dimensions.items():
        metrics.add_dimension(name=name, value=value)
    for name, (unit, amount) in measured.items():
        metrics.add_metric(name=name, unit=unit, value=amount)
    metrics.flush_metrics()
