"""collect: the outcomes of one batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_lambdas.handlers import collect
from codeferry_lambdas.runs import invocations
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Record, Run
from tests.unit.lambdas.factories import event, invocation, plan, result_line

COMMAND = "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b"
FAILURE = {"Error": "AwsRefused", "Cause": json.dumps({"errorMessage": "no"})}


def listed(ssm: Stubber, found: list[Any], token: str = "", after: str = "") -> None:
    expected: dict[str, Any] = {"CommandId": COMMAND, "Details": True, "MaxResults": 50}
    answer: dict[str, Any] = {"CommandInvocations": found}
    ssm.add_response(
        "list_command_invocations",
        answer | ({"NextToken": token} if token else {}),
        expected | ({"NextToken": after} if after else {}),
    )


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocations, "SETTLING_SECONDS", (0.0, 0.0))


def reserve(ledger: Ledger, run: Run) -> None:
    ledger.reserve(run.id, 0)
    ledger.set_command(run.id, 0, COMMAND)


def statuses(record: Record) -> list[str]:
    return [outcome["status"] for outcome in record.outcomes(1)]


def test_pages(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """All pages are read; every instance has its file, the batch its own, the ledger its count."""
    made = plan(3)
    record.write_plan(made)
    reserve(ledger, run)
    one, two, three = made.batches[0]
    listed(ssm, [invocation(one, output=result_line())], token="more")
    listed(ssm, [invocation(two, "Undeliverable"), invocation(three, "Failed")], after="more")
    collect.handler(event(run, batch=0), None)
    assert statuses(record) == ["succeeded", "failed", "failed"]
    assert record.read(run.keys.instance(one.instance_id))["change"] == "applied"
    (found,) = ledger.batches(run.id)
    assert (found.failed, found.ended) == (2, True)


def test_the_wave_is_told_as_soon_as_an_instance_is(
    ssm: Stubber, run: Run, record: Record, ledger: Ledger
) -> None:
    """Who follows the run reads it in the instance's own file."""
    made = plan(1, 1, rollout=((1,), (0,)))
    record.write_plan(made)
    reserve(ledger, run)
    (host,) = made.batches[0]
    listed(ssm, [invocation(host, output=result_line())])
    collect.handler(event(run, batch=0), None)
    assert record.read(run.keys.instance(host.instance_id))["wave"] == 2


def test_late_invocations(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """An event that was ahead of the invocations' own status is given some seconds."""
    made = plan(1)
    record.write_plan(made)
    reserve(ledger, run)
    (host,) = made.batches[0]
    listed(ssm, [])
    listed(ssm, [invocation(host, "InProgress")])
    listed(ssm, [invocation(host, output=result_line())])
    collect.handler(event(run, batch=0), None)
    assert statuses(record) == ["succeeded"]


def test_lost_agent(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """An instance that stays pending after the command has ended is a failure."""
    made = plan(1)
    record.write_plan(made)
    reserve(ledger, run)
    for _ in range(3):
        listed(ssm, [invocation(made.batches[0][0], "InProgress")])
    collect.handler(event(run, batch=0), None)
    assert statuses(record) == ["failed"]


def test_skipped_batch(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """A batch that was not sent because the budget was spent is skipped, not failed."""
    record.write_plan(plan(2))
    ledger.reserve(run.id, 0)
    ledger.set_skipped(run.id, 0)
    collect.handler(event(run, batch=0), None)
    assert statuses(record) == ["skipped", "skipped"]
    assert [b.failed for b in ledger.batches(run.id)] == [0]


def test_batch_that_never_was_sent(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """A dispatch that failed is recorded on each of its instances."""
    record.write_plan(plan(2))
    collect.handler(event(run, batch=0, error=FAILURE), None)
    outcomes = record.outcomes(1)
    assert [o["error"]["message"] for o in outcomes if o["error"]] == [
        "A step of the workflow failed: AwsRefused: no"
    ] * 2
    (found,) = ledger.batches(run.id)
    assert (found.failed, found.ended) == (2, False)


def test_failed_batch_keeps_answers(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """When waiting for a batch failed, who has answered by then has succeeded."""
    made = plan(2)
    record.write_plan(made)
    reserve(ledger, run)
    listed(ssm, [invocation(made.batches[0][0], output=result_line())])
    collect.handler(event(run, batch=0, error=FAILURE), None)
    assert statuses(record) == ["succeeded", "failed"]


def test_failed_batch_without_ssm(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """When SSM is what failed, the first error is recorded all the same."""
    record.write_plan(plan(1))
    reserve(ledger, run)
    ssm.add_client_error("list_command_invocations", "InternalServerError", http_status_code=500)
    collect.handler(event(run, batch=0, error=FAILURE), None)
    assert statuses(record) == ["failed"]


def test_twice_is_once(ssm: Stubber, run: Run, record: Record, ledger: Ledger) -> None:
    """Collecting a batch twice counts its failures once."""
    made = plan(1)
    record.write_plan(made)
    reserve(ledger, run)
    for _ in range(2):
        listed(ssm, [invocation(made.batches[0][0], "Failed")])
        collect.handler(event(run, batch=0), None)
    assert [b.failed for b in ledger.batches(run.id)] == [1]
