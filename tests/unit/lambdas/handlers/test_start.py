"""start: uploads become runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_contracts.names import RUN_ID_PATTERN, inbox_run_id, require
from codeferry_lambdas.aws.errors import AwsRefused
from codeferry_lambdas.handlers import start

ARN = "arn:aws:states:eu-west-1:111122223333:stateMachine:codeferry-dev-sync"


@pytest.fixture(autouse=True)
def arn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_MACHINE_ARN_SYNC", ARN)


def expected(event: Any) -> dict[str, Any]:
    found = event["detail"]["object"]
    request = {
        "archive": {"key": found["key"], "version_id": found["version-id"]},
        "target": "gpu-workers",
    }
    name = inbox_run_id(event["detail"]["bucket"]["name"], found["key"], found["version-id"])
    return {"stateMachineArn": ARN, "name": name, "input": json.dumps(request)}


def test_upload_starts_its_run(states: Stubber, aws_event: Callable[[str], Any]) -> None:
    """An upload starts a run under a name of its own, with the key to the letter."""
    event = aws_event("s3-object-created")
    arguments = expected(event)
    require(RUN_ID_PATTERN, arguments["name"], "run id")
    states.add_response("start_execution", {"executionArn": ARN, "startDate": 0}, arguments)
    start.handler(event, None)


def test_redelivery_is_success(states: Stubber, aws_event: Callable[[str], Any]) -> None:
    """The same event again, after the run has ended, is not an error."""
    event = aws_event("s3-object-created")
    states.add_client_error(
        "start_execution", "ExecutionAlreadyExists", expected_params=expected(event)
    )
    start.handler(event, None)


def test_other_refusals_are_errors(states: Stubber, aws_event: Callable[[str], Any]) -> None:
    """A start that AWS refuses fails the function, so that the event is delivered again."""
    states.add_client_error("start_execution", "StateMachineDoesNotExist")
    with pytest.raises(AwsRefused):
        start.handler(aws_event("s3-object-created"), None)


def test_folder_marker_starts_nothing(states: Stubber, aws_event: Callable[[str], Any]) -> None:
    """The empty object a console makes for a folder is not an upload."""
    event = aws_event("s3-object-created")
    event["detail"]["object"]["key"] = "inbox/web/"
    start.handler(event, None)


@pytest.mark.parametrize("key", ["inbox/demo.tar.gz", "inbox/web/demo.zip", "inbox/web/.tar.gz"])
def test_senseless_keys_start_a_run_all_the_same(key: str) -> None:
    """A key that names no archive or target gives a request without a target."""
    assert start.request_for(key, "v") == {"archive": {"key": key, "version_id": "v"}}


def test_unversioned_upload() -> None:
    """An upload without a version leaves it out."""
    assert start.request_for("inbox/web/a.tar.gz", "")["archive"] == {"key": "inbox/web/a.tar.gz"}
