"""The roll-up of Run Command's statuses and the result lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeferry_contracts.report import ErrorRecord
from codeferry_lambdas.runs import outcomes
from codeferry_lambdas.runs.outcomes import roll_up
from tests.unit.lambdas.factories import instances, invocation, result_line

(HOST,) = instances(1)
STATUSES = [
    "Pending", "InProgress", "Delayed", "Success", "DeliveryTimedOut", "ExecutionTimedOut",
    "Failed", "Cancelled", "Cancelling", "Undeliverable", "Terminated", "InvalidPlatform",
    "AccessDenied", "Delivery Timed Out", "SomethingNew", "",
]  # fmt: skip
LINES = [
    "",
    "hello",
    result_line(),
    result_line(status="unchanged"),
    result_line(status="failed", error={"code": "disk_full", "message": "m", "hint": "h"}),
    result_line(status="failed"),
    result_line("another-run"),
    '{"codeferry_result":1,"status":"weird"}',
    '{"codeferry_result":1',
]


def only(status: str, output: str = "", otherwise: ErrorRecord | None = None) -> Any:
    (found,) = roll_up([HOST], [invocation(HOST, status, output)], "run-1", otherwise)
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from(STATUSES), st.sampled_from(LINES), st.booleans()), max_size=9
    )
)
def test_every_instance_has_one_outcome(answers: list[tuple[str, str, bool]]) -> None:
    """Whatever SSM answers, every instance gets one outcome, in order, with a reason unless
    it succeeded, and success needs both SSM's word and this run's result line."""
    batch = instances(len(answers))
    found = [
        invocation(instance, status, line)
        for instance, (status, line, answered) in zip(batch, answers, strict=True)
        if answered
    ]
    rolled = roll_up(batch, found, "run-1")
    assert [o["instance_id"] for o in rolled] == [i.instance_id for i in batch]
    for result, (status, line, answered) in zip(rolled, answers, strict=True):
        good = answered and status == "Success" and line in LINES[2:4]
        assert (result["status"] == "succeeded") == good
        assert (result["error"] is None) == good


def test_success_carries_what_the_instance_said() -> None:
    """The outcome of a success is the result line."""
    found = only("Success", f"noise\n{result_line(previous='old', unmet=['a'])}\n")
    assert (found["status"], found["change"], found["files"]) == ("succeeded", "applied", 2)
    assert (found["previous"], found["unmet"], found["manifest"]) == ("old", ["a"], True)


def test_failure_carries_the_instances_own_reason() -> None:
    """A failed result line gives the outcome its code, message and hint."""
    found = only("Failed", LINES[4])
    assert found["error"] == {"code": "disk_full", "message": "m", "hint": "h"}
    assert found["digest"] == "e" * 64


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("Undeliverable", "undeliverable"),
        ("DeliveryTimedOut", "delivery_timed_out"),
        ("Delivery Timed Out", "delivery_timed_out"),
        ("ExecutionTimedOut", "execution_timed_out"),
        ("InvalidPlatform", "invalid_platform"),
        ("AccessDenied", "ssm_access_denied"),
        ("Cancelled", "cancelled"),
        ("Failed", "step_failed"),
        ("Success", "result_missing"),
        ("InProgress", "agent_lost"),
        ("SomethingNew", "ssm_failed"),
    ],
)
def test_statuses_have_names(status: str, code: str) -> None:
    """Each of SSM's statuses without a result line is a failure with a code of its own."""
    found = only(status)
    assert (found["status"], found["error"]["code"]) == ("failed", code)
    assert found["ssm_status"] == status.replace(" ", "")


def test_the_agents_own_words_are_shown() -> None:
    """Its worker was killed, or the instance lost power: no second step, and this in the first."""
    words = (
        "document process failed unexpectedly: document worker timed out ,\n"
        "check [ssm-document-worker]/[ssm-session-worker] log for crash reason"
    )
    error = only("Failed", words)["error"]
    assert error["code"] == "agent_lost"
    assert " ".join(words.split()) in error["message"]
    assert "ran out of memory" in error["hint"]
    assert only("Failed", "sh: 1: out of pty")["error"]["message"].endswith("sh: 1: out of pty")
    assert len(only("Failed", "x" * 2500)["error"]["message"]) < 400


def test_terminated_is_skipped() -> None:
    """An instance SSM did not send to because others had failed has not failed itself."""
    found = only("Terminated")
    assert (found["status"], found["error"]["code"]) == ("skipped", "error_budget_spent")


def test_timeout_beats_an_early_result_line() -> None:
    """A result line does not make a success of what SSM saw time out."""
    found = only("ExecutionTimedOut", result_line())
    assert (found["status"], found["error"]["code"]) == ("failed", "execution_timed_out")


def test_missing_instance_failed() -> None:
    """An instance SSM says nothing about was never sent to, and failed."""
    (found,) = roll_up([HOST], [], "run-1")
    assert found["status"] == "failed"
    assert found["error"] is not None
    assert found["error"]["code"] == "not_sent"


def test_batch_error_fills_the_gaps_only() -> None:
    """When a batch failed as a whole, who has answered keeps his answer."""
    error: ErrorRecord = {"code": "aws_refused", "message": "m", "hint": ""}
    answered, running, silent = instances(3)
    found = [invocation(answered, "Success", result_line()), invocation(running, "InProgress")]
    rolled = roll_up([answered, running, silent], found, "run-1", error)
    assert [o["status"] for o in rolled] == ["succeeded", "failed", "failed"]
    assert [o["error"] for o in rolled] == [None, error, error]


def test_other_runs_answer_does_not_count() -> None:
    """A result line of another run is not this run's success."""
    found = only("Success", result_line("another-run"))
    assert found["error"]["code"] == "result_missing"
    assert "another-run" in found["error"]["message"]


def test_unspent() -> None:
    """Instances of a batch that was never sent are skipped with the budget as the reason."""
    found = outcomes.not_sent(HOST)
    assert found["status"] == "skipped"
    assert found["error"] is not None
    assert found["error"]["code"] == "error_budget_spent"
