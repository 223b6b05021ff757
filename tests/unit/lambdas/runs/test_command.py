"""Runs with a command: expectations, variables by reference, output, exit status."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.stub import Stubber

from codeferry_contracts.archive import Manifest, summarise
from codeferry_contracts.errors import RequestInvalid
from codeferry_contracts.parameters import (
    ENVIRONMENT_URL_PARAMETER,
    PAYLOAD_PARAMETER,
    TIMEOUT_PARAMETER,
    decode_payload,
)
from codeferry_contracts.request import Environment, Expect
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.handlers import cleanup, dispatch
from codeferry_lambdas.planning.plan import _environment
from codeferry_lambdas.planning.request import read_request
from codeferry_lambdas.runs import command
from codeferry_lambdas.runs.outcomes import roll_up
from codeferry_lambdas.runs.record import PinnedEnvironment, Record, Run
from codeferry_lambdas.runs.report import Known, build_report
from codeferry_lambdas.runs.verification import verify
from tests.unit.lambdas.factories import (
    ENTRIES,
    KEY,
    event,
    instances,
    invocation,
    outcome,
    plan,
    result_line,
)
from tests.unit.lambdas.handlers.test_dispatch import COMMAND, expect_send, ids

BUCKET = "codeferry-dev-artifacts"
ENVIRONMENT = "environments/run-1.env.json"
# Where an older ferry puts it.
BEFORE = "archives/run-1.env.json"
REQUEST: dict[str, Any] = {"archive": {"key": KEY}, "target": "web"}
TRAIN = {**REQUEST, "command": ["python3", "training/train.py"]}
(HOST,) = instances(1)
RAN = {"ending": "exited", "exit_code": 3, "seconds": 1.5, "output_bytes": 9, "tail": "boom\n"}


def test_a_command_expects_its_entry_script() -> None:
    """Unless the request says what it expects, that is the script and its directory."""
    assert read_request(TRAIN, "sync").expect == Expect(("training/train.py",), ("training",))
    stated = {**TRAIN, "expect": {"files": ["other.py"]}}
    assert read_request(stated, "sync").expect == Expect(("other.py",))
    assert read_request(REQUEST, "sync").expect == Expect()


@pytest.mark.parametrize(
    ("request_", "workflow", "words"),
    [
        (REQUEST, "script", "a script run needs a command"),
        ({**REQUEST, "environment": {"key": ENVIRONMENT}}, "sync", "environment needs a command"),
        ({**REQUEST, "command": []}, "sync", "at least 1 is needed"),
        ({**REQUEST, "command": ["a\0b"]}, "sync", "NUL"),
        ({**REQUEST, "command": ["\udc80"]}, "sync", "not valid Unicode"),
        ({**TRAIN, "environment": {"key": "runs/x.env.json"}}, "sync", "environment.key"),
    ],
)
def test_unusable_requests(request_: Any, workflow: str, words: str) -> None:
    """What a command needs, or cannot be, is said by name."""
    with pytest.raises(RequestInvalid, match=words):
        read_request(request_, workflow)


def test_dependencies_may_be_installed_without_a_command(settings: Settings, run: Run) -> None:
    """A service's release needs them too, and so does who joins late."""
    request = read_request({**REQUEST, "options": {"install": True}}, "sync").to_json()
    arguments = command.command_arguments(settings, plan(1, request=request), run, 0)
    payload = decode_payload(arguments["Parameters"][PAYLOAD_PARAMETER][0])
    assert (payload["install"], payload["command"]) == (True, [])


def test_the_instance_is_told_the_command(settings: Settings, run: Run) -> None:
    """Arguments travel in the payload, variables as a URL of one version, never as values, in a
    parameter of its own that lives for little longer than the delivery."""
    request = {**TRAIN, "environment": {"key": ENVIRONMENT}, "options": {"timeout_seconds": 7}}
    pinned = PinnedEnvironment(ENVIRONMENT, "v9")
    made = plan(1, request=request, environment=pinned, step_seconds=967)
    arguments = command.command_arguments(settings, made, run, 0)
    payload = decode_payload(arguments["Parameters"][PAYLOAD_PARAMETER][0])
    assert payload["command"] == TRAIN["command"]
    assert payload["command_seconds"] == 7
    assert payload["environment"] is True
    (url,) = arguments["Parameters"][ENVIRONMENT_URL_PARAMETER]
    assert f"/{ENVIRONMENT}?versionId=v9" in url
    assert "X-Amz-Expires=780&" in url
    assert ENVIRONMENT not in json.dumps(payload)
    assert arguments["Parameters"][TIMEOUT_PARAMETER] == ["967"]


def test_who_follows_finds_the_output(
    settings: Settings, record: Record, ssm: Stubber, run: Run
) -> None:
    """dispatch leaves the command, its log group and its instances in the run's record."""
    made = plan(2)
    record.write_plan(made)
    expect_send(ssm, ids(made))
    dispatch.handler(event(run, batch=0), None)
    assert record.read(run.keys.command(0)) == {
        "command_id": COMMAND,
        "log_group": settings.log_group,
        "instances": ids(made),
    }


@pytest.mark.parametrize("key", [ENVIRONMENT, BEFORE])
def test_variables_are_taken_from_either_place(key: str) -> None:
    """A ferry of before the own prefix goes on starting runs; its requests name the old key."""
    request = {**TRAIN, "environment": {"key": key, "version_id": "v1"}}
    assert read_request(request, "sync").environment == Environment(key, "v1")


def test_variables_of_another_run_are_neither_used_nor_deleted(
    settings: Settings, run: Run, record: Record
) -> None:
    """A command of this run could print them. The request is refused, and what cleans up after it
    leaves them where they are."""
    theirs = "environments/run-2.env.json"
    clients.s3().put_object(Bucket=BUCKET, Key=theirs, Body=b'{"TOKEN": "x"}')
    request = {**TRAIN, "environment": {"key": theirs}}
    with pytest.raises(RequestInvalid, match=r"environment\.key is not of this run") as raised:
        _environment(settings, read_request(request, "sync"), run)
    assert ENVIRONMENT in str(raised.value.hint)
    cleanup.handler(event(run, request=request), None)
    assert clients.s3().get_object(Bucket=BUCKET, Key=theirs)["Body"].read()


@pytest.mark.parametrize("key", [ENVIRONMENT, BEFORE])
def test_variables_are_deleted(settings: Settings, run: Run, record: Record, key: str) -> None:
    """cleanup deletes the variables' object, with a plan or without one, and nothing else."""
    for pinned in (True, False):
        version = clients.s3().put_object(Bucket=BUCKET, Key=key, Body=b"{}")["VersionId"]
        if pinned:
            record.write_plan(plan(1, environment=PinnedEnvironment(key, version)))
        else:
            clients.s3().delete_object(Bucket=BUCKET, Key=run.keys.targets)
        cleanup.handler(event(run, request={**TRAIN, "environment": {"key": key}}), None)
        found = clients.s3().list_object_versions(Bucket=BUCKET, Prefix=key)
        assert not found.get("Versions")
    kept = clients.s3().put_object(Bucket=BUCKET, Key=run.keys.report, Body=b"{}")
    cleanup.handler(event(run, request={**TRAIN, "environment": {"key": run.keys.report}}), None)
    head = clients.s3().head_object(Bucket=BUCKET, Key=run.keys.report)
    assert head["VersionId"] == kept["VersionId"]


def ended(status: str, *outputs: str) -> Any:
    found = invocation(HOST, status)
    found["CommandPlugins"] = [{"Name": f"step-{n}", "Output": o} for n, o in enumerate(outputs)]
    (rolled,) = roll_up([HOST], [found], "run-1")
    return rolled


def failing(**ran: Any) -> str:
    error = {"code": "exit_code", "message": "exit code 3", "hint": "h"}
    return result_line(status="failed", ran=RAN | ran, error=error)


def test_the_last_steps_line_counts() -> None:
    """The first step says what was applied, the last how the command ended."""
    rolled = ended("Failed", result_line(status="running") + "\nboom\n", failing())
    assert rolled["status"] == "failed"
    assert rolled["error"]["message"] == "exit code 3"
    assert rolled["ran"] == RAN | {"signal": 0}
    good = ended("Success", result_line(status="running"), result_line(ran=RAN | {"exit_code": 0}))
    assert (good["status"], good["change"], good["ran"]["exit_code"]) == ("succeeded", "applied", 0)


def test_a_command_cannot_speak_for_the_instance() -> None:
    """A result line among the command's own output is not believed."""
    forged = result_line(ran=RAN | {"exit_code": 0})
    rolled = ended("Failed", f"{result_line(status='running')}\n{forged}\n", failing())
    assert rolled["status"] == "failed"
    alone = ended("Success", f"{result_line(status='running')}\n{forged}\n", "")
    assert (alone["status"], alone["error"]["code"]) == ("failed", "interrupted")


@pytest.mark.parametrize("status", ["Success", "Failed"])
def test_a_command_without_an_ending_was_interrupted(status: str) -> None:
    """Where only the first line came, the instance or its agent ended meanwhile."""
    rolled = ended(status, result_line(status="running"), "")
    assert (rolled["status"], rolled["error"]["code"]) == ("failed", "interrupted")
    assert rolled["release_id"] == "e" * 20


@pytest.mark.parametrize(
    ("status", "code"), [("Cancelled", "cancelled"), ("ExecutionTimedOut", "execution_timed_out")]
)
def test_ssm_ended_the_command(status: str, code: str) -> None:
    """What SSM ended is told in SSM's words, with what the instance still said."""
    line = result_line(
        status="failed",
        ran=RAN | {"ending": "cancelled", "exit_code": -1},
        error={"code": "cancelled", "message": "m", "hint": ""},
    )
    rolled = ended(status, result_line(status="running"), line)
    assert (rolled["status"], rolled["error"]["code"]) == ("failed", code)
    assert rolled["ran"]["ending"] == "cancelled"


@pytest.mark.parametrize("status", ["Failed", "ExecutionTimedOut", "Execution Timed Out"])
def test_how_a_command_ended_wins_over_the_agents_status(status: str) -> None:
    """The agent takes a step that was killed for one that failed, or by a shell's 137 for one that
    took too long; the last step has the instance's own words."""
    running = result_line(status="running")
    rolled = ended(status, running, failing())
    assert (rolled["status"], rolled["error"]["message"]) == ("failed", "exit code 3")
    good = ended(status, running, result_line(ran=RAN | {"exit_code": 0}))
    assert (good["status"], good["change"], good["error"]) == ("succeeded", "applied", None)


def interrupted() -> str:
    error = {"code": "interrupted", "message": "interrupted", "hint": "h"}
    return result_line(status="failed", ran=RAN | {"ending": "interrupted"}, error=error)


def test_an_interrupted_command_that_was_cancelled_is_cancelled() -> None:
    """The agent kills what it cancels, and the instance cannot know why."""
    rolled = ended("Cancelled", result_line(status="running"), interrupted())
    assert (rolled["error"]["code"], rolled["ran"]["ending"]) == ("cancelled", "cancelled")
    rolled = ended("ExecutionTimedOut", result_line(status="running"), interrupted())
    assert rolled["error"]["message"] == "interrupted (SSM: ExecutionTimedOut)"
    assert "timeout_seconds" not in rolled["error"]["hint"]


def test_a_failed_command_is_verified_all_the_same() -> None:
    """Its release is on the instance, and is compared like any other."""
    manifest = Manifest(summarise("p", ENTRIES), ENTRIES)
    summary = manifest.summary
    ran: Any = RAN | {"signal": 0}
    tree = {"digest": summary.digest, "release_id": summary.release_id, "files": summary.files}
    assert verify([outcome(HOST, status="failed", ran=ran, **tree)], manifest)["verified"] == 1
    wrong = outcome(HOST, status="failed", ran=ran, **{**tree, "digest": "0" * 64})
    assert verify([wrong], manifest)["mismatched"] == [HOST.instance_id]
    never = outcome(HOST, status="failed", release_id="", digest="", files=0)
    assert verify([never], manifest)["mismatched"] == []


def test_a_script_makes_no_release() -> None:
    """Its tree is compared with the manifest like any other, though no release is made of it."""
    manifest = Manifest(summarise("p", ENTRIES), ENTRIES)
    summary = manifest.summary
    same = outcome(HOST, change="ran", release_id="", digest=summary.digest, files=summary.files)
    assert verify([same], manifest)["mismatched"] == []
    other = outcome(HOST, change="ran", release_id="", digest="0" * 64, files=summary.files)
    assert verify([other], manifest)["mismatched"] == [HOST.instance_id]
    applied = outcome(HOST, release_id="", digest=summary.digest, files=summary.files)
    assert verify([applied], manifest)["mismatched"] == [HOST.instance_id]


def test_the_report_names_command_and_phase(run: Run) -> None:
    """The report repeats the command, and an error of the command is one of execute."""
    failed = outcome(
        HOST,
        status="failed",
        ran=RAN | {"signal": 0},
        error={"code": "exit_code", "message": "exit code 3", "hint": ""},
    )
    known = Known(run, "dev", TRAIN, run.started_at, {}, plan(1), [failed])
    report = build_report(known)
    assert report["command"] == TRAIN["command"]
    assert report["error"] is not None
    assert report["error"]["phase"] == "execute"
    assert "exit code 3" in report["error"]["message"]
    assert json.dumps(report)
