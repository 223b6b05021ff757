"""The definition executed: canned functions, real Step Functions semantics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.workflow.canned import Canned

pytestmark = pytest.mark.e2e

HAPPY = ["Plan", "Dispatch", "Await", "Collect", "Verify", "Cleanup", "Report"]


def test_happy_run(canned: Canned) -> None:
    """A run that meets no trouble calls each function once, in order, and succeeds."""
    ended = canned.run()
    assert ended.status == "SUCCEEDED"
    assert ended.called == HAPPY
    assert ended.output["succeeded"] is True


def test_identity_reaches_every_function(canned: Canned) -> None:
    """Every function learns the run's id, start and workflow from the execution itself."""
    ended = canned.run()
    for _, event in ended.calls:
        assert event["run"]["id"] == canned.run_id
        assert event["run"]["workflow"] == "sync"
        assert event["run"]["started_at"].endswith("Z")


def test_plan_gets_request_and_document(canned: Canned) -> None:
    """Plan gets the execution's input untouched, and the document's name."""
    ended = canned.run({"archive": {"key": "k"}, "error": "a key like any other"})
    assert ended.calls[0][1]["request"] == {
        "archive": {"key": "k"},
        "error": "a key like any other",
    }
    assert ended.calls[0][1]["document"] == "codeferry-test-sync"


@pytest.mark.parametrize("request_", [[], "text", 7, {"error": {"Error": "mine"}}])
def test_any_input_reaches_report(canned: Canned, request_: Any) -> None:
    """Whatever JSON a person starts the workflow with, a refusal in plan is reported."""
    ended = canned.answer("Plan", {"raise": "RequestInvalid"}).run(request_)
    assert (ended.status, ended.error) == ("FAILED", "RequestInvalid")
    assert ended.called == ["Plan", "Cleanup", "Report"]
    assert ended.last("Cleanup")["request"] == request_


def test_verify_failure(canned: Canned) -> None:
    """A failed verification is cleaned up after and is what the run ends with."""
    ended = canned.answer("Verify", {"raise": "VerificationFailed"}).run()
    assert (ended.status, ended.error) == ("FAILED", "VerificationFailed")
    assert ended.called == HAPPY
    assert "batches" in ended.last("Report")["state"]


@pytest.mark.parametrize("goes_back", [True, False])
def test_a_failed_wave_is_returned(canned: Canned, goes_back: bool) -> None:
    """A rollback runs for the wave, and its end is on the report beside the first error."""
    canned.answer("Verify", {"raise": "WaveFailed"})
    if not goes_back:
        canned.rollback_fails()
    ended = canned.run()
    assert (ended.status, ended.error) == ("FAILED", "WaveFailed")
    assert ended.called == HAPPY
    state = ended.last("Report")["state"]
    assert state["error"]["Error"] == "WaveFailed"
    if goes_back:
        assert state["rollback"] == {"run_id": f"back-{canned.run_id}", "status": "SUCCEEDED"}
    else:
        assert "rollback_error" in state
    assert canned.returned_input() == {"target": f"wave:{canned.run_id}"}


def test_a_wave_that_returned_by_itself_needs_no_rollback(canned: Canned) -> None:
    """No run is started for it."""
    ended = canned.answer("Verify", {"raise": "WaveReturned"}).run()
    assert (ended.status, ended.error) == ("FAILED", "WaveReturned")
    assert "rollback" not in ended.last("Report")["state"]


def test_cleanup_failure_is_a_warning(canned: Canned) -> None:
    """Cleanup's own failure goes to the report and does not fail the run."""
    ended = canned.answer("Cleanup", {"raise": "AwsRefused"}).run()
    assert ended.status == "SUCCEEDED"
    assert ended.last("Report")["state"]["cleanup_error"]["Error"] == "AwsRefused"


def test_cleanup_failure_hides_nothing(canned: Canned) -> None:
    """When cleanup fails after a failure, the run ends with the first error."""
    canned.answer("Plan", {"raise": "NoInstances"}).answer("Cleanup", {"raise": "AwsRefused"})
    ended = canned.run()
    assert (ended.status, ended.error) == ("FAILED", "NoInstances")
    assert ended.last("Report")["state"]["cleanup_error"]["Error"] == "AwsRefused"


def test_report_failure(canned: Canned) -> None:
    """A run whose report fails is a failed run, with the report's error."""
    ended = canned.answer("Report", {"raise": "AwsRefused"}).run()
    assert (ended.status, ended.error) == ("FAILED", "AwsRefused")


def test_report_failure_hides_nothing(canned: Canned) -> None:
    """When the report fails after a failure, the run still ends with the first error."""
    canned.answer("Verify", {"raise": "VerificationFailed"}).answer(
        "Report", {"raise": "AwsRefused"}
    )
    ended = canned.run()
    assert (ended.status, ended.error) == ("FAILED", "VerificationFailed")


def test_report_decides(canned: Canned) -> None:
    """A report that says the run failed ends the execution with its error and cause."""
    verdict = {"succeeded": False, "error": "instances_failed", "cause": "2/3 instances"}
    ended = canned.answer("Report", {"return": verdict}).run()
    assert (ended.status, ended.error, ended.cause) == (
        "FAILED",
        "instances_failed",
        "2/3 instances",
    )


def test_dispatch_failure_is_the_batches_own(canned: Canned) -> None:
    """A batch that cannot be sent is recorded with its error; the other batches go on."""
    canned.answer("Plan", {"return": {"waves": [[0], [1], [2]]}})
    canned.answer("Dispatch", {"raise": "AwsRefused"}, {"return": {"id": "c", "sent": True}})
    ended = canned.run()
    assert ended.status == "SUCCEEDED"
    collected = [event for name, event in ended.calls if name == "Collect"]
    assert [event["batch"] for event in collected] == [0, 1, 2]
    assert collected[0]["error"]["Error"] == "AwsRefused"
    assert "error" not in collected[1]
    assert ended.called[-3:] == ["Verify", "Cleanup", "Report"]


def test_collect_failure_is_collected(canned: Canned) -> None:
    """A collect that fails is followed by one that records the failure."""
    ended = canned.answer("Collect", {"raise": "AwsRefused"}, {}).run()
    assert ended.called.count("Collect") == 2
    assert ended.last("Collect")["error"]["Error"] == "AwsRefused"


def test_lost_batch_stops_nobody(canned: Canned) -> None:
    """When not even a batch's failure can be recorded, the run still reaches its report."""
    ended = canned.answer("Collect", {"raise": "AwsRefused"}).run()
    assert ended.called[-3:] == ["Verify", "Cleanup", "Report"]


def test_nothing_sent_is_not_awaited(canned: Canned) -> None:
    """A batch for which nothing was sent goes straight to collect."""
    ended = canned.answer("Dispatch", {"return": {"id": "", "sent": False}}).run()
    assert ended.called == [name for name in HAPPY if name != "Await"]


def test_sweep_without_event(canned: Canned) -> None:
    """Without a status event the wait looks again, and again, until the command has ended."""
    canned.answer("Await", {"silent": True}, {"silent": True}, {"silent": True}, {})
    ended = canned.run()
    assert ended.status == "SUCCEEDED"
    assert ended.called.count("Await") == 4


def test_twelve_hours_of_waiting_leave_fewer_than_500_events(canned: Canned) -> None:
    """Executed, with short waits, and all of them being there."""
    waits = [15, 60, *[420] * ((12 * 3600 - 75) // 420)]
    silences = [{"silent": True} for _ in waits]
    ended = canned.answer("Await", *silences, {}).run()
    assert ended.status == "SUCCEEDED"
    assert ended.called.count("Await") == len(waits) + 1 == 105
    assert len(ended.events) < 500


def test_transient_errors_are_retried(canned: Canned) -> None:
    """A function that AWS kept from its work is called again; the run does not notice."""
    for name in FUNCTIONS_BUT_AWAIT:
        answer = {"Plan": {"waves": [[0]]}, "Dispatch": {"id": "c", "sent": True}}.get(name)
        then = {} if answer is None else {"return": answer}
        canned.answer(name, {"raise": "AwsUnavailable"}, then)
    ended = canned.run()
    assert ended.status == "SUCCEEDED"
    assert [ended.called.count(name) for name in FUNCTIONS_BUT_AWAIT] == [2] * 6


FUNCTIONS_BUT_AWAIT = [name for name in HAPPY if name != "Await"]


def test_waves_follow_each_other(canned: Canned) -> None:
    """No batch of a wave is sent before every batch of the wave before was collected."""
    canned.answer("Plan", {"return": {"waves": [[0, 1, 2], [3, 4], [5]]}})
    ended = canned.run()
    steps = [(n, e["batch"]) for n, e in ended.calls if n in ("Dispatch", "Collect")]
    last_collected = max(steps.index(("Collect", n)) for n in (0, 1, 2))
    assert last_collected < min(steps.index(("Dispatch", n)) for n in (3, 4))
    assert sorted(batch for name, batch in steps if name == "Collect") == [0, 1, 2, 3, 4, 5]


def test_state_stays_small(canned: Canned) -> None:
    """With 200 batches no state's input or output comes near 32 KiB."""
    canned.answer("Plan", {"return": {"waves": [list(range(200))]}})
    canned.answer("Dispatch", {"return": {"id": "", "sent": False}})
    ended = canned.run()
    assert ended.status == "SUCCEEDED"
    assert ended.called.count("Collect") == 200
    details = [d for event in ended.events for d in event.values() if isinstance(d, dict)]
    sizes = [len(d.get("input", "")) + len(d.get("output", "")) for d in details]
    assert 0 < max(sizes) < 8 * 1024
    assert len(json.dumps(ended.last("Report"))) < 8 * 1024
