"""Errors on their way through Step Functions."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from codeferry_contracts.errors import RequestInvalid
from codeferry_lambdas.aws.errors import NoInstances, for_step_functions, from_aws, read_failure
from codeferry_lambdas.aws.observability import entry, logger


def client_error(code: str, call: str = "GetObject", status: int = 400) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "as AWS says"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, call)


def as_lambda_reports(error: BaseException) -> dict[str, str]:
    """What a Catch gets: the class name, and the runtime's JSON with the exception's text."""
    name = type(error).__name__
    cause = {"errorMessage": str(error), "errorType": name, "stackTrace": []}
    return {"Error": name, "Cause": json.dumps(cause)}


def test_what_others_wrote_is_logged_in_ascii() -> None:
    """A key or an instance's words move no terminal that shows the log."""
    hostile = "k\x9b2J\u202e\U000e0041\ud800"
    record = logging.LogRecord("x", 20, "x", 1, "%s", (hostile,), None)
    line = logger.registered_formatter.format(record)
    assert line.isascii()
    assert json.loads(line)["message"] == hostile


@pytest.mark.parametrize("error", [RequestInvalid("m.", hint="h."), NoInstances("m.", hint="h.")])
def test_round_trip(error: Any) -> None:
    """Code, message and hint arrive in the report, and the class name stays matchable."""
    failure = as_lambda_reports(for_step_functions(error))
    assert failure["Error"] == type(error).__name__
    assert read_failure(failure) == {"code": error.code, "message": "m.", "hint": "h."}


def test_told_stays_the_error_it_was() -> None:
    """In Python the error is still an instance of its class, with its own code."""
    spoken = for_step_functions(NoInstances("m.", code="other"))
    assert isinstance(spoken, NoInstances)
    assert spoken.code == "other"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ({"Error": "States.Timeout", "Cause": ""}, "step_timed_out"),
        ({"Error": "States.Timeout"}, "step_timed_out"),
        ({"Error": "Sandbox.Timedout", "Cause": '{"errorMessage": "x"}'}, "step_timed_out"),
        ({"Error": "KeyError", "Cause": '{"errorMessage": "\'k\'"}'}, "internal_error"),
        ({"Error": "Lambda.Unknown", "Cause": "not JSON"}, "internal_error"),
        ({"Error": "X", "Cause": '{"errorMessage": {"code": 1}}'}, "internal_error"),
        ({"Error": "X", "Cause": "[1]"}, "internal_error"),
        ({}, "internal_error"),
    ],
)
def test_foreign_failures(failure: dict[str, str], code: str) -> None:
    """A failure that is not ours still becomes a code and a sentence."""
    error = read_failure(failure)
    assert error["code"] == code
    assert error["message"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (client_error("ThrottlingException"), "AwsUnavailable"),
        (client_error("Whatever", status=503), "AwsUnavailable"),
        (client_error("AccessDenied", status=403), "AwsRefused"),
        (EndpointConnectionError(endpoint_url="http://x"), "AwsUnavailable"),
        (NoInstances("none"), "NoInstances"),
    ],
)
def test_handlers_let_out_named_errors(error: Exception, name: str) -> None:
    """Whatever a function runs into leaves it under a name the definition can match."""

    @entry
    def handler(event: dict[str, Any]) -> None:
        raise error

    with pytest.raises(Exception) as raised:  # noqa: PT011 - the class is what is tested
        handler({}, None)
    assert type(raised.value).__name__ == name
    assert set(json.loads(str(raised.value))) == {"code", "message", "hint"}


def test_bugs_are_not_dressed_up() -> None:
    """An error nobody foresaw leaves the function as it is."""

    @entry
    def handler(event: dict[str, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handler({}, None)


def test_refused_command_keeps_parameters_to_itself() -> None:
    """AWS's text about a refused SendCommand, which may quote parameters, is not repeated."""
    error = from_aws(client_error("InvalidParameters", "SendCommand"))
    assert "as AWS says" not in str(error)
    assert "InvalidParameters" in error.message


def test_denied_names_the_permission() -> None:
    """An access denied says which call the role lacks."""
    error = from_aws(client_error("AccessDeniedException", "DescribeDocument"))
    assert "DescribeDocument" in error.hint


def test_a_policy_that_denies_sending_is_told_apart_with_what_it_denies() -> None:
    """By the ARN in AWS's words, of which nothing else is repeated."""
    denied = client_error("AccessDeniedException", "SendCommand")
    arn = "arn:aws:ec2:eu-west-1:111122223333:instance/i-1"
    denied.response["Error"]["Message"] = (
        "User: arn:aws:sts::1:assumed-role/x/y is not authorized to perform: ssm:SendCommand on "
        f"resource: {arn} because no identity-based policy allows the ssm:SendCommand action"
    )
    error = from_aws(denied)
    assert error.message == f"A policy denies SendCommand on {arn}."
    assert "--deep" in error.hint
    assert from_aws(client_error("AccessDenied", "SendCommand")).message.endswith("SendCommand.")
