"""The control endpoint of the emulated services: faults in force, and the journal of calls."""

from __future__ import annotations

import asyncio
import json

import pytest

from codeferry_local.emulator.control import (
    CALLS_PATH,
    FAULTS_PATH,
    Journal,
    Need,
    with_faults,
    with_journal,
    with_recorded_checks,
)


@pytest.fixture
def serve():
    """A service that answers 204, behind the faults; called with a method, a path and a body."""

    async def dispatch(*_):
        return 204, {}, b""

    answer = with_faults(dispatch, lambda method, path, headers, body: headers.get("action"))
    return lambda method, path, headers=None, body=b"": asyncio.run(
        answer(method, path, headers or {}, body)
    )


def test_the_next_calls_of_an_action_are_throttled(serve):
    """As many as said, of this action only, with the error that SDKs know."""
    look, other = {"action": "logs:FilterLogEvents"}, {"action": "logs:GetLogEvents"}
    serve("POST", FAULTS_PATH, body=json.dumps({"throttle_first": {look["action"]: 2}}).encode())
    assert serve("POST", "/", other)[0] == 204
    refused = [serve("POST", "/", look) for _ in range(3)]
    assert [answer[0] for answer in refused] == [400, 400, 204]
    assert json.loads(refused[0][2])["__type"] == "ThrottlingException"


def test_faults_can_be_taken_back(serve):
    """DELETE forgets all of them."""
    look = {"action": "logs:FilterLogEvents"}
    serve("POST", FAULTS_PATH, body=json.dumps({"throttle_first": {look["action"]: 2}}).encode())
    assert serve("DELETE", FAULTS_PATH)[0] == 200
    assert serve("POST", "/", look)[0] == 204


def test_what_iam_is_asked_is_in_the_journal():
    """With the condition keys that are words."""
    calls = Journal()

    def enforce(*_, **__):
        return None

    context = {"aws:ResourceTag/t": "demo", "aws:TagKeys": ["a"], "dynamodb:Attributes": {1}}
    with_recorded_checks(enforce, calls)(
        "actor", "ssm:SendCommand", "ssm", "r", resource_arn="arn", service_context=context
    )
    (entry,) = calls.to_json()
    assert {**entry, "time": 0} == {
        "time": 0,
        "access_key": "actor",
        "action": "ssm:SendCommand",
        "resource": "arn",
        "context": {"aws:ResourceTag/t": "demo", "aws:TagKeys": ["a"]},
    }


def test_the_journal_tells_what_was_needed():
    """A call is noted before it is answered."""
    calls = Journal()

    async def dispatch(*_):
        return 204, {}, b""

    def need(method, path, *_):
        return Need(access_key="person", action=method, resource=path)

    serve = with_journal(dispatch, need, calls)
    asyncio.run(serve("GET", "/b/k"))
    answer = json.loads(asyncio.run(serve("GET", CALLS_PATH))[2])
    assert [(call["action"], call["resource"]) for call in answer["calls"]] == [("GET", "/b/k")]
