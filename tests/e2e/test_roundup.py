"""Promises no other file here keeps watch on: a run's events, and the instances it reaches."""

from __future__ import annotations

import json
import uuid

import pytest

from codeferry_contracts.report import EVENT_RUN_FINISHED, EVENT_SOURCE
from tests.e2e.conftest import until

pytestmark = pytest.mark.e2e


def test_doctor_names_who_can_be_reached_and_why_others_cannot(aws):
    """The deployed check function tells the reachable from the offline one, with the fix."""
    off = aws.state.instances[1].instance_id
    aws.control("POST", "faults", {"offline": [off]})
    answer = aws.ferry("doctor", "demo", "--json").json
    found = {c["name"]: c for c in answer["checks"] if c["name"].startswith("i-")}
    assert {name: check["status"] for name, check in found.items()} == {
        record.instance_id: "warn" if record.instance_id == off else "ok"
        for record in aws.state.instances
    }
    assert "amazon-ssm-agent" in found[off]["fix"]


def test_all_reaches_every_tagged_instance(aws, project):
    """The target "all" is each instance with the tag, whatever its value."""
    ran = aws.ferry("push", "all", project, "--json")
    assert ran.exit == 0, ran.err
    reached = {outcome["instance_id"] for outcome in aws.report(ran.json["run_id"])["instances"]}
    assert reached == {record.instance_id for record in aws.state.instances}


@pytest.fixture
def finished(aws):
    """``finished()``: the "Codeferry Run Finished" events that came since, as a rule gets them."""
    events, sqs = aws.client("events"), aws.client("sqs")
    name = f"finished-{uuid.uuid4().hex[:8]}"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    wanted = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    pattern = {"source": [EVENT_SOURCE], "detail-type": [EVENT_RUN_FINISHED]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    target = {"Id": "queue", "Arn": wanted["Attributes"]["QueueArn"]}
    events.put_targets(Rule=name, Targets=[target])

    def receive():
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"])["detail"] for message in messages]

    yield receive
    events.remove_targets(Rule=name, Ids=["queue"])
    events.delete_rule(Name=name)
    sqs.delete_queue(QueueUrl=queue)


@pytest.mark.parametrize(("command", "status"), [("true", "SUCCEEDED"), ("false", "FAILED")])
def test_the_end_of_a_run_is_one_event(aws, project, finished, command, status):
    """Whoever has a rule for it hears how each run ended, once, with its counts."""
    run_id = aws.ferry("run", "demo", project, "--json", "--", command).json["run_id"]
    (detail,) = until(finished)
    assert (detail["run_id"], detail["status"]) == (run_id, status)
    assert detail["counts"] == aws.report(run_id)["counts"]
    assert finished() == []


def test_what_the_instances_print_is_in_the_stages_log_group(aws, project):
    """Run Command streams its output to the log group that the stack made."""
    ran = aws.ferry("run", "demo", project, "--json", "--", "echo", "hello")
    report = aws.report(ran.json["run_id"])
    logs = aws.client("logs")
    for outcome in report["instances"]:
        prefix = f"{outcome['command_id']}/{outcome['instance_id']}"
        streams = until(
            lambda prefix=prefix: logs.describe_log_streams(
                logGroupName="/codeferry/local/commands", logStreamNamePrefix=prefix
            )["logStreams"]
        )
        assert any(stream["logStreamName"].endswith("stdout") for stream in streams)
