"""report and abort: how a run ended, on record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from codeferry_cli.views import report_view
from codeferry_contracts.report import Report
from codeferry_lambdas.aws import clients
from codeferry_lambdas.aws.settings import Settings
from codeferry_lambdas.fleet.unreachable import Unreachable
from codeferry_lambdas.handlers import abort, report
from codeferry_lambdas.runs import cancelled
from codeferry_lambdas.runs.announce import announce
from codeferry_lambdas.runs.ledger import Ledger
from codeferry_lambdas.runs.record import Record, Run
from codeferry_lambdas.runs.report import Known, build_report
from tests.unit.lambdas.factories import KEY, event, instances, outcome, plan, result_line

REQUEST = {"archive": {"key": KEY}, "target": "web"}
STATE = {"waves": [[0]], "batches": {"finished": True}}
OFFLINE = Unreachable("i-offline", "", "agent_offline", "is offline", "Start it.")
ERROR = {"code": "disk_full", "message": "No space.", "hint": "Make room."}
FAILURE = {
    "Error": "NoInstances",
    "Cause": json.dumps({"errorMessage": json.dumps({**ERROR, "code": "no_instances"})}),
}
ONE, TWO, THREE = instances(3)


def known(**changes: Any) -> Known:
    values: dict[str, Any] = {
        "run": Run("run-1", "2026-11-12T00:00:00.000Z", "sync"),
        "stage": "dev",
        "request": REQUEST,
        "finished_at": "2026-11-12T00:01:00.000+00:00",
        "state": STATE,
        "plan": plan(3),
        "outcomes": [outcome(ONE), outcome(TWO), outcome(THREE)],
    }
    return Known(**(values | changes))


def failed(instance: Any) -> Any:
    return outcome(instance, status="failed", error=ERROR)


def test_success() -> None:
    """A run in which every instance succeeded has."""
    made = build_report(known())
    assert (made["status"], made["error"]) == ("SUCCEEDED", None)
    assert made["counts"] == {"total": 3, "succeeded": 3, "failed": 0, "skipped": 0}


def test_one_of_three() -> None:
    """One failed instance fails the run, which says how many did and why."""
    made = build_report(known(outcomes=[outcome(ONE), failed(TWO), outcome(THREE)]))
    assert made["status"] == "FAILED"
    assert made["error"] is not None
    assert made["error"]["code"] == "instances_failed"
    assert made["error"]["message"].startswith("2/3 instances succeeded.")
    assert TWO.instance_id in made["error"]["message"]
    assert "No space." in made["error"]["message"]


@pytest.mark.parametrize(("budget", "status"), [(0, "FAILED"), (1, "SUCCEEDED"), (2, "SUCCEEDED")])
def test_budget(budget: int, status: str) -> None:
    """A run may have as many failures as its budget."""
    outcomes = [outcome(ONE), failed(TWO), outcome(THREE)]
    assert build_report(known(plan=plan(3, budget=budget), outcomes=outcomes))["status"] == status


def test_skipped_fail_the_run() -> None:
    """Instances that were skipped fail the run whatever its budget."""
    outcomes = [outcome(ONE), failed(TWO), outcome(THREE, status="skipped", error=ERROR)]
    assert build_report(known(plan=plan(3, budget=3), outcomes=outcomes))["status"] == "FAILED"


def test_unreachable_instances_failed() -> None:
    """An instance that was asked for and could not be reached is a failed one."""
    made = build_report(known(plan=plan(3, unreachable=(OFFLINE,))))
    assert made["counts"] == {"total": 4, "succeeded": 3, "failed": 1, "skipped": 0}
    assert made["instances"][-1]["error"] == {
        "code": "agent_offline",
        "message": "The instance is offline.",
        "hint": "Start it.",
    }


def test_unrecorded_instances_are_not_forgotten() -> None:
    """An instance without a record is in the report, and the run has not succeeded."""
    made = build_report(known(outcomes=[outcome(ONE)]))
    assert made["counts"] == {"total": 3, "succeeded": 1, "failed": 0, "skipped": 2}
    assert made["status"] == "FAILED"


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ({"error": FAILURE}, "plan"),
        ({"error": FAILURE, "waves": [[0]]}, "dispatch"),
        ({"error": FAILURE, **STATE}, "verify"),
    ],
)
def test_first_error_decides(state: dict[str, Any], phase: str) -> None:
    """The first error of the workflow is the run's, with the phase it belongs to."""
    made = build_report(known(state=state))
    assert made["error"] == {**ERROR, "code": "no_instances", "phase": phase}
    assert made["status"] == "FAILED"


@pytest.mark.parametrize("request_", [REQUEST, None, [], {"target": 3}])
def test_plan_that_failed(request_: Any) -> None:
    """A run that failed in plan is reported with what is known."""
    made = build_report(known(request=request_, plan=None, outcomes=(), state={"error": FAILURE}))
    assert made["instances"] == []
    assert made["archive"] is None
    assert made["target"] == ("web" if request_ == REQUEST else "")


def test_lost_record_is_no_success() -> None:
    """A run whose record is gone has not succeeded, though nothing failed."""
    made = build_report(known(plan=None, outcomes=()))
    assert made["status"] == "FAILED"
    assert made["error"] is not None
    assert made["error"]["code"] == "record_missing"


def test_cleanup_failure_is_a_warning() -> None:
    """What cleanup ran into is a warning beside the others, not the error."""
    made = build_report(
        known(plan=plan(3, warnings=("Left out: x",)), state={**STATE, "cleanup_error": FAILURE})
    )
    assert made["status"] == "SUCCEEDED"
    assert made["warnings"][0] == "Left out: x"
    assert made["warnings"][1].startswith("Cleanup failed: No space.")


def test_mismatched_instances_failed() -> None:
    """Who reported another tree has failed, also in the table of instances."""
    verification: Any = {"mismatched": [TWO.instance_id], "warnings": []}
    made = build_report(known(verification=verification))
    assert [o["status"] for o in made["instances"]] == ["succeeded", "failed", "succeeded"]


@given(
    st.lists(st.sampled_from(["succeeded", "failed", "skipped", None]), min_size=1, max_size=60),
    st.one_of(st.none(), st.integers(0, 60)),
)
def test_counts_always_add_up(statuses: list[str | None], budget: int | None) -> None:
    """Whatever was recorded, every planned instance is counted once, and the run succeeds
    only when nobody was skipped and the failures fit the budget."""
    batch = instances(len(statuses))
    recorded = [
        outcome(i, status=s, error=None if s == "succeeded" else ERROR)
        for i, s in zip(batch, statuses, strict=True)
        if s
    ]
    made = build_report(known(plan=plan(len(batch), budget=budget), outcomes=recorded))
    counts = made["counts"]
    assert counts["total"] == len(statuses) == len(made["instances"])
    assert counts["total"] == counts["succeeded"] + counts["failed"] + counts["skipped"]
    within = statuses.count("failed") <= (budget or 0)
    whole = not statuses.count("skipped") and not statuses.count(None)
    assert (made["status"] == "SUCCEEDED") == (within and whole)


def test_handler(
    settings: Settings, run: Run, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report lies in S3, the metrics in the log, and the execution gets a small verdict."""
    record.write_plan(plan(2))
    record.write_outcomes(0, [outcome(ONE), failed(TWO)])
    verdict = report.handler(event(run, request=REQUEST, state=STATE), None)
    assert (verdict["succeeded"], verdict["error"]) == (False, "instances_failed")
    assert verdict["cause"].startswith("1/2 instances succeeded.")
    written: Report = record.read(run.keys.report)
    assert written["counts"]["failed"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    metrics = next(line for line in lines if "_aws" in line)
    assert (metrics["RunsFailed"], metrics["InstancesSucceeded"]) == ([1.0], [1.0])
    assert (metrics["stage"], metrics["workflow"]) == ("dev", "sync")


def page(settings: Settings, run: Run) -> str:
    answer = clients.s3().get_object(Bucket=settings.bucket, Key=run.keys.page)
    assert answer["ContentType"] == "text/html; charset=utf-8"
    return answer["Body"].read().decode()


def test_page(settings: Settings, run: Run, record: Record) -> None:
    """The report lies beside its JSON as a page, of a run that ended and of one stopped."""
    record.write_plan(plan(1))
    record.write_outcomes(0, [outcome(ONE)])
    report.handler(event(run, request=REQUEST, state=STATE), None)
    assert ONE.instance_id in page(settings, run)


def test_a_page_that_fails_changes_nothing(
    settings: Settings, run: Run, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How a run went does not depend on how its page looks."""
    monkeypatch.setattr(
        "codeferry_lambdas.report_page.page.render", lambda report: report["no such field"]
    )
    record.write_plan(plan(1))
    record.write_outcomes(0, [outcome(ONE)])
    assert report.handler(event(run, request=REQUEST, state=STATE), None)["succeeded"]
    assert record.read(run.keys.report)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("module", ["plan", "dispatch", "await_command", "collect", "cleanup"])
def test_only_what_reports_loads_the_page(module: str) -> None:
    """A cold start pays for the template engine only where a page is made."""
    code = f"import sys, codeferry_lambdas.handlers.{module}; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_event(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event tells how the run ended, without the list of instances."""
    sent: list[Any] = []
    client: Any = clients.events()
    monkeypatch.setattr(client, "put_events", lambda Entries: sent.extend(Entries))  # noqa: N803
    announce(build_report(known()))
    (entry,) = sent
    assert (entry["Source"], entry["DetailType"]) == ("codeferry", "Codeferry Run Finished")
    detail = json.loads(entry["Detail"])
    assert (detail["status"], detail["duration_seconds"]) == ("SUCCEEDED", 60)
    assert "instances" not in detail
    assert "succeeded" in detail["summary"]


def say(ssm: Stubber, command_id: str, status: str, outputs: dict[str, str]) -> None:
    """What ListCommandInvocations answers next about a command."""
    told = [
        {
            "CommandId": command_id,
            "InstanceId": instance_id,
            "Status": status,
            "StatusDetails": status,
            "CommandPlugins": [{"Name": "record", "Output": output}],
        }
        for instance_id, output in outputs.items()
    ]
    ssm.add_response(
        "list_command_invocations",
        {"CommandInvocations": told},
        {"CommandId": command_id, "Details": True, "MaxResults": 50},
    )


def test_what_a_cancel_has_left_is_asked_of_the_instances(
    settings: Settings,
    ssm: Stubber,
    run: Run,
    record: Record,
    ledger: Ledger,
    aws_event: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Release, output and how the command ended, as they are on record there; who does not answer
    is said to be unknown, and who has no record was not changed."""
    monkeypatch.setattr(cancelled, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(cancelled, "ENDING_SECONDS", 0.0)
    killed, alive, none, mute, cut, done, stuck = instances(7)
    ran = {"ending": "interrupted", "exit_code": -1, "signal": 9, "seconds": 2.0}
    ran |= {"output_bytes": 6, "tail": "step 1"}
    error = {"code": "interrupted", "message": "It was interrupted.", "hint": "Start again."}
    record.write_plan(plan(7, 1))
    ledger.reserve("run-1", 0)
    ledger.set_command("run-1", 0, "c" * 36)
    ssm.add_response("cancel_command", {}, {"CommandId": "c" * 36})
    say(ssm, "c" * 36, "Cancelling", {killed.instance_id: ""})
    ssm.add_response("send_command", {"Command": {"CommandId": "d" * 36}})
    outputs = {
        killed.instance_id: result_line(status="failed", ran=ran, error=error),
        alive.instance_id: result_line(status="running"),
        none.instance_id: "No record.\n",
        cut.instance_id: result_line()[:40],
        done.instance_id: result_line(),
        stuck.instance_id: f"It still runs.\n{result_line(status='running')}",
    }
    say(ssm, "d" * 36, "Success", outputs)
    abort.handler(aws_event("sfn-execution-aborted"), None)
    made: Report = record.read(record.keys.report)
    found = {o["instance_id"]: o for o in made["instances"]}
    codes = {i: o["error"]["code"] if o["error"] else "" for i, o in found.items()}
    assert codes == {
        killed.instance_id: "cancelled",
        alive.instance_id: "cancelled",
        none.instance_id: "cancelled",
        mute.instance_id: "unknown",
        cut.instance_id: "unknown",
        done.instance_id: "",
        stuck.instance_id: "still_running",
        "i-00000000000000007": "not_reached",
    }
    assert made["status"] == "CANCELLED"
    told = found[killed.instance_id]
    assert (told["release_id"], told["command_id"]) == ("e" * 20, "c" * 36)
    assert told["ran"] is not None
    assert (told["ran"]["ending"], told["ran"]["tail"]) == ("cancelled", "step 1")
    assert found[none.instance_id]["release_id"] == ""
    assert "nothing" not in str(found[mute.instance_id]["error"])
    left = "What is left running: still runs on 1 instance, not known of 2 instances"
    assert report_view.left_lines(made) == [left]
    assert [line for line in report_view.tails(made) if "step 1" in line]
    assert report_view.summary_line(made).startswith(
        "4/8 instances are known to have release " + "e" * 20
    )
    assert "Run it again" not in "\n".join(report_view.reasons(made))


def test_abort(
    settings: Settings,
    ssm: Stubber,
    record: Record,
    ledger: Ledger,
    aws_event: Callable[[str], Any],
) -> None:
    """A stopped execution's command is cancelled, its archive deleted, and it has a report."""
    clients.s3().put_object(Bucket=settings.bucket, Key=KEY, Body=b"x")
    record.write_plan(plan(1))
    ledger.reserve("run-1", 0)
    ledger.set_command("run-1", 0, "c" * 36)
    ssm.add_response("cancel_command", {}, {"CommandId": "c" * 36})
    say(ssm, "c" * 36, "Cancelled", {ONE.instance_id: ""})
    asked = {"DocumentName": "codeferry-dev-record", "InstanceIds": [ONE.instance_id]}
    asked |= {"Parameters": {"runId": ["run-1"], "project": ["demo"]}}
    asked |= {"Comment": "run-1", "TimeoutSeconds": 30, "MaxErrors": "100%"}
    ssm.add_response("send_command", {"Command": {"CommandId": "d" * 36}}, asked)
    say(ssm, "d" * 36, "Success", {ONE.instance_id: "No record.\n"})
    abort.handler(aws_event("sfn-execution-aborted"), None)
    made: Report = record.read(record.keys.report)
    assert (made["status"], made["run_id"], made["workflow"]) == ("CANCELLED", "run-1", "sync")
    assert (made["target"], made["counts"]["failed"]) == ("web", 1)
    assert made["started_at"].startswith("2026-11-12T00:00:00")
    assert "run-1" in page(settings, Run("run-1", made["started_at"], "sync"))


def test_abort_keeps_a_report(
    settings: Settings, record: Record, aws_event: Callable[[str], Any]
) -> None:
    """A run that was reported before it was stopped keeps its report."""
    record.write(record.keys.report, {"mine": True})
    abort.handler(aws_event("sfn-execution-aborted"), None)
    assert record.read(record.keys.report) == {"mine": True}


def test_abort_of_a_timeout(
    settings: Settings, record: Record, aws_event: Callable[[str], Any]
) -> None:
    """An execution that timed out has failed; one too large for its event is cleaned too."""
    timed_out = aws_event("sfn-execution-aborted")
    timed_out["detail"] |= {"status": "TIMED_OUT", "input": None}
    abort.handler(timed_out, None)
    made: Report = record.read(record.keys.report)
    assert made["status"] == "FAILED"
    assert made["error"] is not None
    assert made["error"]["code"] == "run_timed_out"


@pytest.mark.parametrize(
    ("hint", "stage", "told"),
    [
        ("Raise options.timeout_seconds.", "dev", "Raise --timeout (options.timeout_seconds)."),
        ("See what it printed: ferry logs RUN", "dev", "See what it printed: ferry logs run-1"),
        ("Stop it: ferry cancel 1-b", "prod", "Stop it: ferry cancel 1-b --stage prod"),
        ("ferry status r --stage prod", "prod", "ferry status r --stage prod"),
        ("ferry logs RUN", "prod", "ferry logs run-1 --stage prod"),
        ("ferry logs RUN", "dev", "ferry logs run-1"),
    ],
)
def test_a_hint_is_what_one_can_type(hint: str, stage: str, told: str) -> None:
    """Options by their flags, the run by its id, the stage where it is not the default; in the
    instances' errors and so in the run's."""
    error = {"code": "exit_code", "message": "m", "hint": hint}
    made = build_report(known(stage=stage, outcomes=[outcome(ONE, status="failed", error=error)]))
    assert made["instances"][0]["error"] == error | {"hint": told}
    assert made["error"] is not None
    assert made["error"]["hint"] == told
