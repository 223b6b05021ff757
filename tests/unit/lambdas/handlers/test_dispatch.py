"""dispatch: one SendCommand for one batch, at most once."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.stub import ANY, Stubber

from codeferry_contracts.parameters import (
    AGENT_URL_PARAMETER,
    AGENT_URL_PATTERN,
    PAYLOAD_PARAMETER,
    decode_payload,
)
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import dispatch
from codeferry_lambdas.runs import command
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import PinnedArchive, PinnedDocument, Plan, Record, Run
from tests.unit.lambdas.factories import KEY, event, plan

BACK = {"target": "web", "project": "demo"}  # a rollback's request
COMMAND = "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b"


@pytest.fixture
def planned(record: Record) -> Plan:
    made = plan(2, 2)
    record.write_plan(made)
    return made


def ids(made: Plan, number: int = 0) -> list[str]:
    return [instance.instance_id for instance in made.batches[number]]


def expect_send(ssm: Stubber, instance_ids: list[str], **changes: Any) -> None:
    arguments = {
        "InstanceIds": instance_ids,
        "DocumentName": "codeferry-dev-sync",
        "DocumentVersion": "3",
        "DocumentHash": "d" * 64,
        "DocumentHashType": "Sha256",
        "Comment": "run-1",
        "TimeoutSeconds": 600,
        "MaxConcurrency": "2",
        "MaxErrors": "100%",
        "Parameters": ANY,
    }
    ssm.add_response("send_command", {"Command": {"CommandId": COMMAND}}, arguments | changes)


def sent(run: Run, number: int = 0) -> Any:
    return dispatch.handler(event(run, batch=number), None)


def test_sends_once(planned: Plan, ssm: Stubber, run: Run, ledger: Ledger) -> None:
    """A batch is sent, its command remembered, and a repeat answers from memory."""
    expect_send(ssm, ids(planned))
    assert sent(run) == {"id": COMMAND, "sent": True}
    assert sent(run) == {"id": COMMAND, "sent": True}


@pytest.mark.parametrize("answered", [2, 1])
def test_lost_answer_is_found(
    planned: Plan, ssm: Stubber, run: Run, ledger: Ledger, answered: int
) -> None:
    """When SendCommand's answer was lost, the command is found by run and instances."""
    ledger.reserve(run.id, 0)
    commands = [
        {"CommandId": "1" * 36, "Comment": "another", "InstanceIds": ids(planned)},
        {"CommandId": "2" * 36, "Comment": run.id, "InstanceIds": ids(planned, 1)},
        {"CommandId": COMMAND, "Comment": run.id, "InstanceIds": ids(planned)[:answered]},
    ]
    filters = [
        {"key": "DocumentName", "value": "codeferry-dev-sync"},
        {"key": "InvokedAfter", "value": ANY},
    ]
    ssm.add_response("list_commands", {"Commands": commands}, {"Filters": filters})
    assert sent(run) == {"id": COMMAND, "sent": True}
    assert [b.command_id for b in ledger.batches(run.id)] == [COMMAND]


def test_reserved_but_never_sent(planned: Plan, ssm: Stubber, run: Run, ledger: Ledger) -> None:
    """A reservation whose command SSM does not have is sent after all."""
    ledger.reserve(run.id, 0)
    ssm.add_response("list_commands", {"Commands": []})
    expect_send(ssm, ids(planned))
    assert sent(run)["id"] == COMMAND


def test_throttled_send_is_repeated(
    planned: Plan, ssm: Stubber, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSM's refusal for being busy is the one after which sending again is safe."""
    monkeypatch.setattr(command, "_BUSY_SECONDS", (0.0, 0.0, 0.0))
    for _ in range(3):
        ssm.add_client_error("send_command", "ThrottlingException")
    expect_send(ssm, ids(planned))
    assert sent(run)["id"] == COMMAND


def test_a_command_over_the_accounts_quota_is_sent_again(
    planned: Plan, ssm: Stubber, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSM answers with a command that it has cancelled before any instance had it."""
    monkeypatch.setattr(command, "_BUSY_SECONDS", (0.0, 0.0))
    refused = {"CommandId": "1" * 36, "Status": "Failed", "StatusDetails": "Rate Exceeded"}
    ssm.add_response("send_command", {"Command": refused})
    expect_send(ssm, ids(planned))
    assert sent(run)["id"] == COMMAND


def test_a_command_over_the_quota_is_not_taken_for_one_whose_answer_was_lost(
    planned: Plan, ssm: Stubber, run: Run, ledger: Ledger
) -> None:
    """It is ours by run and instances, and nobody will ever answer it."""
    ledger.reserve(run.id, 0)
    refused = {"CommandId": "1" * 36, "Comment": run.id, "InstanceIds": ids(planned)}
    ssm.add_response("list_commands", {"Commands": [refused | {"StatusDetails": "RateExceeded"}]})
    expect_send(ssm, ids(planned))
    assert sent(run)["id"] == COMMAND


def test_other_errors_are_not_repeated(planned: Plan, ssm: Stubber, run: Run) -> None:
    """After an error that leaves it open whether it was sent, nothing is sent blindly."""
    ssm.add_client_error("send_command", "InternalServerError", http_status_code=500)
    with pytest.raises(Exception, match="SendCommand failed") as raised:
        sent(run)
    assert type(raised.value).__name__ == "AwsUnavailable"


def test_payload_and_url(planned: Plan, settings: Settings, run: Run) -> None:
    """The instance is told what to verify, and gets a URL of one version that lives through
    delivery, lock and download."""
    made = plan(1, archive=PinnedArchive(KEY, "v1", 10, "c" * 64))
    arguments = command.command_arguments(settings, made, run, 0)
    payload = decode_payload(arguments["Parameters"][PAYLOAD_PARAMETER][0])
    assert (payload["digest"], payload["sha256"]) == ("e" * 64, "c" * 64)
    url = urlsplit(payload["url"])
    query = parse_qs(url.query)
    assert url.netloc == "codeferry-dev-artifacts.s3.eu-west-1.amazonaws.com"
    assert query["versionId"] == ["v1"]
    assert query["X-Amz-Expires"] == ["1500"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


@pytest.mark.parametrize(
    ("timeout", "command_", "expected"),
    [(None, (), 1500), (60, (), 1500), (7200, (), 7800), (7200, ("sleep", "7000"), 1500)],
)
def test_the_archives_url_lives_as_long_as_it_may_be_needed(
    timeout: int | None, command_: tuple[str, ...], expected: int
) -> None:
    """For the delivery and the work that is not the command, which has a timeout of its own."""
    request: dict[str, Any] = {"archive": {"key": KEY}, "target": "web"}
    request |= {"command": list(command_)} if command_ else {}
    request |= {"options": {"timeout_seconds": timeout}} if timeout else {}
    assert command.archive_url_seconds(plan(1, request=request)) == expected


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, False),
        ({"options": {"rollout": {"waves": ["1"], "bake_seconds": 5}}}, False),
        ({"command": ["x"]}, True),
        ({"options": {"install": True}}, True),
        ({"options": {"rollout": {"waves": ["1"], "health": ["x"]}}}, True),
    ],
)
def test_output_is_kept_only_of_what_prints(
    settings: Settings, run: Run, more: Any, asked: bool
) -> None:
    """Where CloudWatch Logs cannot be reached the SSM agent tries for minutes before each step."""
    made = plan(1, request={"archive": {"key": KEY}, "target": "web", **more})
    arguments = command.command_arguments(settings, made, run, 0)
    expected = {
        "CloudWatchLogGroupName": settings.log_group,
        "CloudWatchOutputEnabled": True,
    }
    assert arguments.get("CloudWatchOutputConfig") == (expected if asked else None)


@pytest.mark.parametrize("archive", [PinnedArchive(KEY, "v1", 10, "c" * 64), None])
def test_the_agent_of_the_pinned_document(
    settings: Settings, run: Run, archive: PinnedArchive | None
) -> None:
    """An instance that lacks it gets its URL, in a rollback too, whatever has been deployed since:
    the document says which agent."""
    request = {"archive": {"key": KEY}, "target": "web"} if archive else BACK
    document = PinnedDocument("codeferry-dev-sync", "3", "d" * 64, "a" * 64)
    made = plan(1, archive=archive, request=request, document=document)
    arguments = command.command_arguments(settings, made, run, 0)
    (stated,) = arguments["Parameters"][AGENT_URL_PARAMETER]
    assert re.fullmatch(AGENT_URL_PATTERN, stated)
    url = urlsplit(stated)
    assert url.netloc == "cdk-assets.s3.eu-west-1.amazonaws.com"
    assert url.path == f"/{'a' * 64}.agent"
    assert parse_qs(url.query)["X-Amz-Expires"] == ["720"]


def test_a_document_of_before_gets_the_parameters_it_knows(
    settings: Settings, record: Record, run: Run
) -> None:
    """A run that was planned before the stage was updated carries its code in its document."""
    written = dataclasses.asdict(plan(1))
    del written["document"]["agent"]
    record.write(run.keys.targets, written)
    arguments = command.command_arguments(settings, record.plan(), run, 0)
    assert set(arguments["Parameters"]) == {"runId", "payload", "executionTimeout"}


def test_url_through_another_endpoint(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """With an endpoint of its own the bucket is in the path, where any instance finds it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    monkeypatch.setattr(clients, "s3", clients.s3.__wrapped__)
    url = command.presign(settings.bucket, plan(1).archive, 60)
    assert re.match(r"http://127\.0\.0\.1:4566/codeferry-dev-artifacts/archives/", url)


def test_budget_is_passed_on(record: Record, ssm: Stubber, run: Run, ledger: Ledger) -> None:
    """SSM may let fail what is left of the budget after the batches before."""
    made = plan(2, 2, budget=3)
    record.write_plan(made)
    ledger.set_collected(run.id, 0, failed=2, ended=True)
    expect_send(ssm, ids(made, 1), MaxErrors="1")
    assert sent(run, 1)["sent"] is True


def test_spent_budget_sends_nothing(record: Record, ssm: Stubber, run: Run, ledger: Ledger) -> None:
    """Over the budget a batch is not sent, and noted as skipped."""
    record.write_plan(plan(2, 2, budget=1))
    ledger.set_collected(run.id, 0, failed=2, ended=True)
    assert sent(run, 1) == {"id": "", "sent": False}
    assert [b.skipped for b in ledger.batches(run.id)] == [False, True]


def online(ssm: Stubber, *instance_ids: str) -> None:
    found = [{"InstanceId": i, "PingStatus": "Online"} for i in instance_ids]
    ssm.add_response("describe_instance_information", {"InstanceInformationList": found})


def test_departed_instance_is_left_out(planned: Plan, ssm: Stubber, run: Run) -> None:
    """An instance that left since plan does not keep the command from the others."""
    _gone, here = ids(planned)
    ssm.add_client_error("send_command", "InvalidInstanceId")
    online(ssm, here)
    expect_send(ssm, [here])
    assert sent(run)["sent"] is True


def test_everybody_departed(planned: Plan, ssm: Stubber, run: Run) -> None:
    """A batch of which nobody is left sends nothing and is collected as such."""
    ssm.add_client_error("send_command", "InvalidInstanceId")
    online(ssm)
    assert sent(run) == {"id": "", "sent": False}


def test_closed_run_sends_nothing(planned: Plan, ssm: Stubber, run: Run, ledger: Ledger) -> None:
    """After cleanup nothing is sent any more."""
    ledger.close(run.id)
    with pytest.raises(Exception, match="ended before") as raised:
        sent(run)
    assert type(raised.value).__name__ == "RunClosed"


def test_closed_while_sending(
    planned: Plan, ssm: Stubber, run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that went out while the run was being stopped is cancelled at once."""
    answers = iter([False, True])
    monkeypatch.setattr(Ledger, "is_closed", lambda *_: next(answers))
    expect_send(ssm, ids(planned))
    ssm.add_response("cancel_command", {}, {"CommandId": COMMAND})
    with pytest.raises(Exception, match="while this batch"):
        sent(run)
