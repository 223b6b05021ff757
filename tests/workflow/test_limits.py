"""The real definition where Step Functions and Lambda set limits, and as its role.

Sources: Step Functions Developer Guide, "Handling errors in Step Functions workflows", "Service
quotas" and "Handle transient Lambda service exceptions"; Lambda Developer Guide, "Understanding
Lambda function scaling".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from codeferry_local.emulator.step_functions import DATA_LIMIT, MOST_BYTES, THROTTLED
from tests.workflow.canned import Canned, Ended
from tests.workflow.conftest import client

pytestmark = pytest.mark.e2e


def failures(ended: Ended) -> list[str]:
    """The errors of tasks, in order."""
    details = [event.get("taskFailedEventDetails") for event in ended.events]
    return [detail["error"] for detail in details if detail]


def test_too_much_data_ends_a_run_at_once(canned: Canned) -> None:
    """No States.ALL catches it: not even Cleanup and Report run."""
    ended = canned.answer("Verify", {"return": "x" * MOST_BYTES}).run()
    assert (ended.status, ended.error) == ("FAILED", DATA_LIMIT)
    assert ended.called[-1] == "Verify"


def test_as_much_data_as_allowed_passes(canned: Canned) -> None:
    """What Plan may answer leaves room for what is added to it."""
    ended = canned.answer("Plan", {"return": {"waves": [[0]], "more": "x" * 200_000}}).run()
    assert ended.status == "SUCCEEDED"


@contextmanager
def concurrency(endpoint: str, function: str, most: int) -> Iterator[None]:
    functions = client("lambda", endpoint)
    functions.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=most)
    try:
        yield
    finally:
        functions.delete_function_concurrency(FunctionName=function)


@pytest.mark.parametrize("function", ["Plan", "Dispatch", "Await", "Collect", "Verify"])
def test_a_throttled_function_is_called_again(canned: Canned, endpoint: str, function: str) -> None:
    """More often than after any other error, for minutes: in an account that runs ten functions at
    a time others may have all ten. Then the run ends as after any error."""
    with concurrency(endpoint, function, 0):
        ended = canned.run()
    assert failures(ended).count(THROTTLED) >= 16
    assert ended.called[-2:] == ["Cleanup", "Report"]


def test_a_function_that_fails_before_its_token_is_answered_fails_the_task(canned: Canned) -> None:
    """Await's own error is not a wait of four hours: the task has failed, and is retried."""
    ended = canned.answer("Await", {"raise": "Lambda.ServiceException"}, {}).run()
    assert ended.status == "SUCCEEDED"
    assert "Lambda.ServiceException" in failures(ended)


@pytest.fixture
def weak(endpoint: str, canned: Canned) -> Iterator[Any]:
    """Lets the workflow's machine act as a role that allows what the test says."""
    iam = client("iam", endpoint)
    trust = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}}
    document = {"Version": "2012-10-17", "Statement": [trust | {"Action": "sts:AssumeRole"}]}
    # The role that the machine was created with, which nothing else has.
    iam.create_role(RoleName="any", AssumeRolePolicyDocument=json.dumps(document))

    def allow(*statements: dict[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_role_policy(RoleName="any", PolicyName="p", PolicyDocument=json.dumps(policy))

    yield allow
    iam.delete_role_policy(RoleName="any", PolicyName="p")
    iam.delete_role(RoleName="any")


INVOKE = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}


def test_a_run_calls_what_its_role_allows(canned: Canned, weak: Any) -> None:
    """Every function, here."""
    weak(INVOKE)
    assert canned.run().status == "SUCCEEDED"


@pytest.mark.parametrize("function", ["Plan", "Dispatch", "Await", "Collect", "Verify"])
def test_a_run_calls_nothing_else(canned: Canned, weak: Any, function: str) -> None:
    """The role without one function: its state fails, and the function is never called."""
    weak(INVOKE, {**INVOKE, "Effect": "Deny", "Resource": f"*:function:{function}"})
    ended = canned.run()
    assert function not in ended.called
    assert "Lambda.AWSLambdaException" in failures(ended)
