"""What is watched, and that every alarm reaches somebody who knows what it means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

# One worker for all of these, and so one synthesis.
pytestmark = pytest.mark.xdist_group("stacks")

ROOT = Path(__file__).resolve().parents[3]
RUNBOOK = ROOT / "docs" / "fleet.md"


@pytest.fixture
def alarms(found):
    """Name to properties, of the monitoring and of the fleet."""
    both = [*found("Monitoring", "AWS::CloudWatch::Alarm").values()]
    both += found("Fleet", "AWS::CloudWatch::Alarm").values()
    return {
        r["Properties"]["AlarmName"].removeprefix("codeferry-prod-"): r["Properties"] for r in both
    }


def test_every_failure_that_needs_a_person_has_its_alarm(alarms):
    """Failed runs of each workflow, events given up, outputs that wait, functions, the fleet."""
    from codeferry_contracts.names import WORKFLOWS

    runs = {f"runs-{how}-{w}" for w in WORKFLOWS for how in ("failed", "timed-out")}
    functions = {f"function-{n}-failing" for n in ("start", "resume", "abort", "cleanup", "report")}
    rest = {"events-undelivered", "drain-stuck", "functions-throttled", "gpu-workers-unfit"}
    assert runs | functions | rest <= set(alarms)


def test_every_alarm_reaches_the_topic(alarms):
    """An alarm without an action is a lamp in an empty room."""
    for name, alarm in alarms.items():
        assert len(alarm["AlarmActions"]) == 1, name


def test_no_data_is_no_alarm(alarms):
    """A stage at rest emits nothing."""
    for name, alarm in alarms.items():
        assert alarm["TreatMissingData"] == "notBreaching", name


def test_the_address_gets_the_alarms(only):
    """-c alarm_email subscribes to the topic, which takes TLS only."""
    subscription = only("Monitoring", "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.org")
    policy = only("Monitoring", "AWS::SNS::TopicPolicy")
    (deny,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms_watch_what_the_workflow_emits(alarms):
    """Machines and functions have the names that the workflow stack deploys."""
    from codeferry_contracts.names import Stage
    from stacks.functions import SHAPES

    functions = {Stage("prod").function(name) for name in SHAPES}
    for name, alarm in alarms.items():
        (dimension,) = alarm.get("Dimensions") or [{}]
        if dimension.get("Name") == "FunctionName":
            assert dimension["Value"] in functions, name


def test_the_dashboard_shows_runs_functions_drain_and_fleet(only):
    """One page, in the namespaces that our own code and AWS emit to."""
    body = json.dumps(only("Monitoring", "AWS::CloudWatch::Dashboard")["DashboardBody"])
    for word in ("RunsFailed", "DurationSeconds", "Codeferry/Drain", "GroupInServiceInstances"):
        assert word in body
    assert "codeferry-prod-gpu-workers" in body


def test_the_runbook_explains_every_alarm(alarms):
    """docs/fleet.md says what each means and what to do, under its name."""
    text = RUNBOOK.read_text()
    explained = [
        re.compile(p.replace("*", "[a-z-]+")) for p in re.findall(r"^\| `([a-z*-]+)`", text, re.M)
    ]
    missing = [name for name in alarms if not any(p.fullmatch(name) for p in explained)]
    assert missing == []


def test_every_log_group_forgets(everything):
    """No log is kept for ever, in any stack."""
    for path in everything.glob("*.template.json"):
        for resource in json.loads(path.read_text())["Resources"].values():
            if resource["Type"] == "AWS::Logs::LogGroup":
                assert resource["Properties"]["RetentionInDays"] == 30


def test_everything_that_costs_is_tagged(found):
    """Stage and stack are on the resources, for cost allocation."""
    for stack, kind in (
        ("Fleet", "AWS::EC2::VPCEndpoint"),
        ("FleetStorage", "AWS::S3::Bucket"),
        ("Storage", "AWS::DynamoDB::Table"),
        ("Workflow", "AWS::Lambda::Function"),
    ):
        for resource in found(stack, kind).values():
            tags = {t["Key"]: t["Value"] for t in resource["Properties"]["Tags"]}
            assert tags["codeferry:stage"] == "prod"
            assert tags["codeferry:stack"] == f"Codeferry-prod-{stack}"
