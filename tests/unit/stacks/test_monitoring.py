"""Every alarm is about something real and reaches somebody who knows what it means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNBOOK = ROOT / "docs" / "fleet.md"


@pytest.fixture
def alarms(everything):
    """Name to properties, of every alarm in any stack."""
    deployed = [
        resource["Properties"]
        for path in everything.glob("*.template.json")
        for resource in json.loads(path.read_text())["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    return {alarm["AlarmName"].removeprefix("codeferry-prod-"): alarm for alarm in deployed}


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
    from stacks.workflow.functions import FUNCTIONS

    functions = {Stage("prod").function(name) for name in FUNCTIONS}
    for name, alarm in alarms.items():
        (dimension,) = alarm.get("Dimensions") or [{}]
        if dimension.get("Name") == "FunctionName":
            assert dimension["Value"] in functions, name


@pytest.fixture
def searches(only):
    """Namespace and dimensions to the metrics that the dashboard looks for under them."""
    body = json.dumps(only("Monitoring", "AWS::CloudWatch::Dashboard")["DashboardBody"])
    wanted = {}
    for namespace, names, metric in re.findall(r"{([\w/]+),([\w,]+)} MetricName=\W+(\w+)", body):
        wanted.setdefault((namespace, frozenset(names.split(","))), set()).add(metric)
    return wanted


def test_the_dashboard_shows_runs_phases_bytes_functions_drain_and_fleet(searches):
    """One page of everything that a person asks first."""
    shown = set().union(*searches.values())
    assert shown == {
        *("RunsSucceeded", "RunsFailed", "InstancesSucceeded", "InstancesFailed"),
        *("DurationSeconds", "PhaseSeconds", "ArchiveBytes", "DeliveredBytes"),
        *("Errors", "Throttles", "PendingFiles", "UploadedBytes"),
        *("GroupDesiredCapacity", "GroupInServiceInstances"),
    }


def test_dashboard_and_alarms_name_the_stage_everywhere(only, alarms):
    """Two stages of one account have a dashboard and alarms of their own."""
    body = json.dumps(only("Monitoring", "AWS::CloudWatch::Dashboard")["DashboardBody"])
    for search in re.findall(r"SEARCH\(.+?\)", body):
        assert "prod" in search
    assert "codeferry-prod-gpu-workers" in body
    assert alarms["drain-stuck"]["Dimensions"] == [{"Name": "Stage", "Value": "prod"}]


def test_what_our_own_code_emits_is_what_is_looked_for(searches, alarms, capsys):
    """A metric's dimensions are part of its name: one more or less and nothing is found."""
    emitted = {}
    for directive in (*workflow_directives(capsys), drain_directive()):
        for names in directive["Dimensions"]:
            metrics = emitted.setdefault((directive["Namespace"], frozenset(names)), set())
            metrics |= {metric["Name"] for metric in directive["Metrics"]}
    ours = {key: found for key, found in searches.items() if key[0].startswith("Codeferry")}
    assert len(ours) == 3
    for key, metrics in ours.items():
        assert metrics <= emitted[key]
    assert "OldestAge" in emitted["Codeferry/Drain", frozenset({"Stage"})]
    assert alarms["drain-stuck"]["MetricName"] == "OldestAge"


def workflow_directives(capsys):
    """What CloudWatch gets of a run that has ended."""
    from codeferry_lambdas.runs.announce import count_run

    instance = {"seconds": {"extract": 1.0}}
    counts = {"total": 1, "succeeded": 1, "failed": 0, "skipped": 0}
    times = dict.fromkeys(("started_at", "finished_at"), "2026-11-12T00:00:00.000+00:00")
    report = {"stage": "prod", "workflow": "sync", "status": "SUCCEEDED", "counts": counts, **times}
    count_run({**report, "instances": [instance], "archive": {"size": 1}})
    for line in capsys.readouterr().out.splitlines():
        yield from json.loads(line)["_aws"]["CloudWatchMetrics"]


def drain_directive():
    from codeferry_agent.drain.status import embedded

    (directive,) = embedded({}, "i-1", "prod")["_aws"]["CloudWatchMetrics"]
    return directive


def test_the_runbook_is_of_the_alarms_that_there_are(alarms):
    """docs/fleet.md says what each means, under its name, and of no other."""
    rows = re.findall(
        r"^\| `([a-z*-]+)`", RUNBOOK.read_text().split("### What each alarm")[1], re.M
    )
    patterns = {row: re.compile(row.replace("*", "[a-z-]+")) for row in rows}
    assert [n for n in alarms if not any(p.fullmatch(n) for p in patterns.values())] == []
    assert [row for row, p in patterns.items() if not any(map(p.fullmatch, alarms))] == []


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
