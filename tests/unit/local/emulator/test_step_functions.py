"""The embedded Step Functions is no kinder than AWS's.

Sources: Step Functions Developer Guide, "Handling errors in Step Functions workflows" (concepts-
error-handling: ``States.DataLimitExceeded`` is terminal and ``States.ALL`` does not catch it),
"Service quotas" (256 KiB of UTF-8), "Handle transient Lambda service exceptions" (at the limit of
invocations the error is ``Lambda.TooManyRequestsException``).
"""

from __future__ import annotations

import json
import threading

import pytest

from codeferry_local.emulator.step_functions import (
    DATA_LIMIT,
    MOST_BYTES,
    THROTTLED,
    with_call_size_limit,
    with_failed_wait,
    with_known_machine,
    with_known_token,
    with_machine_resource,
    with_permission,
    with_state_size_limit,
    with_throttling_name,
    with_uncaught_data_limit,
)


class Failed(Exception):
    def __init__(self, error, cause):
        super().__init__(error)
        self.error, self.cause = error, cause


def text(size):
    """A value that is so many bytes of JSON."""
    return "x" * (size - 2)


LARGEST = text(MOST_BYTES)
TOO_LARGE = text(MOST_BYTES + 1)
TOO_LARGE_IN_UTF_8 = "ä" * (MOST_BYTES // 2)


@pytest.mark.parametrize("given", [LARGEST, "ä" * ((MOST_BYTES - 2) // 2)], ids=["ascii", "utf-8"])
def test_data_up_to_the_limit_passes(given):
    """256 KiB of UTF-8 are not too much, in and out."""
    assert with_state_size_limit(lambda *_: (given, "Next"), Failed)({}, given, {}, {}) == (
        given,
        "Next",
    )


@pytest.mark.parametrize(
    ("given", "output"),
    [(TOO_LARGE, 1), (1, TOO_LARGE), (1, TOO_LARGE_IN_UTF_8)],
    ids=["in", "out", "utf-8"],
)
def test_data_over_the_limit_ends_the_execution(given, output):
    """A byte more of input or output is States.DataLimitExceeded."""
    with pytest.raises(Failed) as failed:
        with_state_size_limit(lambda *_: (output, "Next"), Failed)({}, given, {}, {})
    assert failed.value.error == DATA_LIMIT


@pytest.mark.parametrize(
    ("event", "answer"), [(text(MOST_BYTES + 1), 1), (1, text(MOST_BYTES + 1))]
)
def test_what_a_function_is_given_and_answers_counts(event, answer):
    """Also when the state keeps none of it."""
    with pytest.raises(Failed) as failed:
        with_call_size_limit(lambda *_: answer, Failed)("f", event)
    assert failed.value.error == DATA_LIMIT
    assert with_call_size_limit(lambda *_: LARGEST, Failed)("f", 1) == LARGEST


def test_nothing_matches_the_data_limit_but_its_name():
    """States.ALL catches everything else."""
    match = with_uncaught_data_limit(
        lambda patterns, error: "States.ALL" in patterns or error in patterns
    )
    assert not match(["States.ALL"], DATA_LIMIT)
    assert not match(["States.TaskFailed"], DATA_LIMIT)
    assert match([DATA_LIMIT], DATA_LIMIT)
    assert match(["States.ALL"], "Other")


def fails(error, cause):
    def call(function, event):
        raise Failed(error, cause)

    return call


def test_a_throttled_invocation_is_named():
    """Lambda's answer at the limit of concurrency, by the name that Retry matches."""
    body = json.dumps({"__type": "TooManyRequestsException", "message": "Rate Exceeded"})
    with pytest.raises(Failed) as failed:
        with_throttling_name(fails("Lambda.Unknown", body), Failed)("f", {})
    assert (failed.value.error, failed.value.cause) == (THROTTLED, "Rate Exceeded")


def test_other_failures_keep_their_name():
    """A function's own error, and one that Lambda does not know."""
    for error, cause in (("RequestInvalid", "{}"), ("Lambda.Unknown", "it crashed")):
        with pytest.raises(Failed) as failed:
            with_throttling_name(fails(error, cause), Failed)("f", {})
        assert (failed.value.error, failed.value.cause) == (error, cause)


def test_a_failed_function_ends_the_wait_for_its_token():
    """The task has failed on AWS, and does not wait for an answer that cannot come."""
    tokens = {"t": {"event": threading.Event(), "error": None}}
    call = with_failed_wait(fails("Some", "why"), Failed, tokens)

    def invoke(resource, given, token, state):
        with pytest.raises(Failed):
            call("f", given)

    with_known_token(invoke, {})("r", {}, "t", {})
    assert tokens["t"]["event"].is_set()
    assert tokens["t"]["error"] == {"Error": "Some", "Cause": "why"}


def test_without_a_token_nobody_is_told():
    """A plain invocation just fails."""
    with pytest.raises(Failed):
        with_failed_wait(fails("Some", "why"), Failed, {})("f", {})


def test_an_answer_to_a_token_is_about_its_machine():
    """Whoever waits, and has waited, for it; another request is about what it names."""
    waiting = {}
    with_known_machine(
        lambda *_: (with_known_token(lambda *_: None, waiting)("r", {}, "t", {}), None)
    )({}, {}, {"stateMachineArn": "arn:machine"}, {})
    find = with_machine_resource(lambda service, method, path, headers, body: "*", waiting)
    assert find("states", "POST", "/", {}, b'{"taskToken": "t"}') == "arn:machine"
    assert find("states", "POST", "/", {}, b'{"taskToken": "u"}') == "*"
    assert find("dynamodb", "POST", "/", {}, b'{"taskToken": "t"}') == "*"


@pytest.fixture
def refusing(monkeypatch):
    """An IAM that refuses everything to ``weak``; what it was asked."""
    asked = []

    def refusal_of(access_key, checks):
        asked.append((access_key, checks))
        return {"message": "not authorized"} if access_key == "weak" else None

    monkeypatch.setattr("codeferry_local.emulator.step_functions.refusal_of", refusal_of)
    return asked


def invoking(machine):
    call = with_permission(
        lambda function, event: "done",
        lambda arn: arn.rpartition(":")[2],
        lambda function, _: ("lambda:InvokeFunction", function),
        lambda message: Failed("Lambda.AWSLambdaException", message),
    )
    run = with_known_machine(lambda *_: (call("arn:function", {}), None))
    return run({}, {}, {"stateMachineArn": machine}, {})


def test_a_state_machine_invokes_as_its_role(refusing):
    """What the role does not allow is not called."""
    with pytest.raises(Failed) as failed:
        invoking("arn:weak")
    assert failed.value.error == "Lambda.AWSLambdaException"
    assert "not authorized" in failed.value.cause
    assert invoking("arn:strong") == ("done", None)
    assert refusing[1] == ("strong", [("lambda:InvokeFunction", "arn:function", {})])
