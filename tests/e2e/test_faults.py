"""The run ends well when SSM does not: every way it can be told to misbehave."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request

import pytest

from tests.e2e.conftest import PATIENCE, until

pytestmark = pytest.mark.e2e


def outcomes(report):
    return {outcome["instance_id"]: outcome for outcome in report["instances"]}


def test_invocations_that_appear_late_are_waited_for(aws, project):
    """InvocationDoesNotExist for the first polls is normal after SendCommand."""
    aws.control("POST", "faults", {"hidden_polls": 2})
    assert aws.ferry("push", "demo", project).exit == 0


def test_throttling_is_outlasted(aws, project):
    """Half of all SSM calls are throttled; the run succeeds all the same."""
    aws.control("POST", "faults", {"throttle_probability": 0.5, "throttle_seed": 7})
    ran = aws.ferry("push", "demo", project)
    assert ran.exit == 0, ran.err


def test_a_status_event_that_never_comes_is_not_needed(aws, project):
    """The event gives speed, the sweep gives certainty."""
    slow = {record.instance_id: 50 for record in aws.state.instances}
    aws.control("POST", "faults", {"events": "suppress", "slow": slow})
    ran = aws.ferry("push", "demo", project)
    assert ran.exit == 0, ran.err


def test_a_lost_answer_to_send_command_applies_once(aws, project):
    """The command went out though its answer never came: it is found, not sent again."""
    aws.control("POST", "faults", {"drop_response": {"SendCommand": 1}})
    ran = aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    commands = aws.client("ssm").list_commands()["Commands"]
    sent = [c for c in commands if c["Comment"] == ran.json["run_id"]]
    assert len(sent) == 1


def test_an_instance_offline_fails_alone(aws, project):
    """The others have the release; the run says 2/3 and why."""
    off = aws.state.instances[1].instance_id
    aws.control("POST", "faults", {"offline": [off]})
    ran = aws.ferry("push", "demo", project)
    assert ran.exit == 1
    assert "2/3" in ran.err + ran.out
    assert off in ran.err + ran.out
    has = [(aws.root(r, project.name) / "current/main.py").exists() for r in aws.state.instances]
    assert has == [True, False, True]
    assert aws.keys("archives/") == []


def test_one_failing_instance_has_its_own_reason(aws, project):
    """A full explanation for the one, the release for the others."""
    broken = aws.state.instances[2]
    root = aws.root(broken, project.name)
    root.parent.mkdir(parents=True, exist_ok=True)
    root.write_text("a file where the project's directory should be")
    ran = aws.ferry("push", "demo", project, "--json")
    assert ran.exit == 1
    report = aws.report(ran.json["run_id"])
    assert report["status"] == "FAILED"
    assert report["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "skipped": 0}
    error = outcomes(report)[broken.instance_id]["error"]
    assert error["code"]
    assert error["message"]


def test_a_slow_instance_is_waited_for(aws, project):
    """One instance that takes longer does not fail the run."""
    slow = aws.state.instances[0].instance_id
    aws.control("POST", "faults", {"slow": {slow: 150}})
    assert aws.ferry("push", "demo", project).exit == 0


def test_an_instance_lost_in_the_middle_fails_alone(aws, project):
    """Its process is gone and no answer comes: SSM's timeout ends it, the others are done."""
    lost = aws.state.instances[0].instance_id
    aws.control("POST", "faults", {"lost": {lost: 0}})
    with aws.ferry_running("push", "demo", project, "--json") as push:
        until(lambda: done_with(aws, project) == 2)
        aws.control("POST", "clock", {"advance": 1600})  # delivery's timeout and the step's
        printed, _ = push.communicate(timeout=PATIENCE)
    assert push.returncode == 1
    answer = json.loads(printed[printed.index("{") :])
    found = outcomes(aws.report(answer["run_id"]))
    assert found[lost]["status"] == "failed"
    assert found[lost]["error"]["message"]
    others = {i: o["status"] for i, o in found.items() if i != lost}
    assert set(others.values()) == {"succeeded"}
    assert len(others) == 2


def done_with(aws, project):
    """On how many instances SSM has seen the end of the project's newest run."""
    commands = aws.client("ssm").list_commands()["Commands"]
    mine = [c for c in commands if f"-{project.name}-" in c["Comment"]]
    return mine and mine[0]["CompletedCount"]


def running_command(aws, run_id):
    commands = aws.client("ssm").list_commands()["Commands"]
    mine = [c for c in commands if c["Comment"] == run_id]
    return mine and mine[0]["Status"] == "InProgress" and mine[0]


@pytest.mark.parametrize("way", ["console", "ferry cancel"])
def test_stopping_a_run_stops_it_on_the_instances(aws, project, way):
    """The SSM command is cancelled, the archive is gone, the report says cancelled."""
    slow = {record.instance_id: 6000 for record in aws.state.instances}
    aws.control("POST", "faults", {"slow": slow})
    started = aws.ferry("push", "demo", project, "--no-wait", "--json")
    assert started.exit == 0, started.err
    run_id = started.json["run_id"]
    command = until(lambda: running_command(aws, run_id))
    if way == "console":
        arn = f"{aws.machine.replace(':stateMachine:', ':execution:')}:{run_id}"
        aws.client("stepfunctions").stop_execution(executionArn=arn)
    else:
        assert aws.ferry("cancel", run_id).exit == 0
    ssm = aws.client("ssm")
    found = until(
        lambda: [
            c
            for c in ssm.list_commands(CommandId=command["CommandId"])["Commands"]
            if c["Status"] == "Cancelled"
        ]
    )
    assert found
    until(lambda: f"archives/{run_id}.tar.gz" not in aws.keys("archives/"))
    report = until(lambda: any(k.endswith("report.json") for k in aws.keys(f"runs/{run_id}/")))
    assert report
    assert aws.report(run_id)["status"] == "CANCELLED"
    assert not (aws.root(aws.state.instances[0], project.name) / "current").exists()


def test_two_pushes_at_once_leave_a_whole_release(aws, project, tmp_path):
    """One waits for the other on the instance's lock; both end well."""
    other = tmp_path / "other" / project.name
    other.parent.mkdir()
    subprocess.run(["cp", "-r", project, other], check=True)
    (other / "main.py").write_text("print('other')\n")
    ends = []
    threads = [
        threading.Thread(target=lambda p=p: ends.append(aws.ferry("push", "demo", p, "--json")))
        for p in (project, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran.exit for ran in ends] == [0, 0], [ran.err for ran in ends]
    releases = {aws.report(r.json["run_id"])["verification"]["release_id"] for r in ends}
    for record in aws.state.instances:
        assert (aws.root(record, project.name) / "current").resolve().name in releases


def test_no_log_holds_a_signature(aws, project):
    """Neither a Lambda's log nor a record has the presigned URL in it."""
    run_id = aws.ferry("push", "demo", project, "--json").json["run_id"]
    s3 = aws.client("s3")
    text = "".join(
        s3.get_object(Bucket=aws.bucket, Key=key)["Body"].read().decode()
        for key in aws.keys(f"runs/{run_id}/")
    )
    logs = aws.client("logs")
    groups = [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]]
    for group in groups:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        text += "".join(e["message"] for page in pages for e in page["events"])
    assert run_id in text
    assert "X-Amz-Signature" not in text
    assert "X-Amz-Credential" not in text


def test_an_archive_that_expires_between_waves_fails_those_after_it(aws, project):
    """The lifecycle takes what a slow first wave has kept waiting: the first instance has the
    release, the others say that the archive is gone, and the run does not call itself a success."""
    first, *others = sorted(record.instance_id for record in aws.state.instances)
    aws.control("POST", "faults", {"slow": {first: 250}})
    with aws.ferry_running(
        "push", "demo", project, "--max-concurrency", "1", "--max-errors", "100%"
    ) as push:
        until(lambda: sent_to(aws, first))
        aged = {"bucket": aws.bucket, "days": 31, "prefix": "archives/"}
        assert aws.control("POST", "lifecycle", aged)["expired"]
        aws.control("POST", "clock", {"advance": 250})
        said, _ = push.communicate(timeout=PATIENCE)
    assert push.returncode == 1, said
    assert any(instance in said for instance in others)


def sent_to(aws, instance_id):
    """A command that the instance has not answered yet."""
    found = aws.client("ssm").list_command_invocations(InstanceId=instance_id)
    return [i for i in found["CommandInvocations"] if i["Status"] == "InProgress"]


def test_an_agent_out_of_memory_fails_its_instance_alone(aws, project):
    """Away for 90 s with what it ran, and then Failed; the others have done it."""
    starved = aws.state.instances[0].instance_id
    aws.control("POST", "faults", {"oom": {starved: 0}})
    ran = aws.ferry("run", "demo", project, "--", "sleep", "1", timeout=PATIENCE)
    assert ran.exit == 1
    assert "2/3" in ran.out + ran.err
    assert starved in ran.out + ran.err


def test_throttled_logs_are_read_all_the_same(aws, project):
    """CloudWatch Logs allows few looks a second; the next one comes later."""
    ran = aws.ferry("run", "demo", project, "--json", "--", "echo", "here")
    assert ran.exit == 0, ran.err
    request = urllib.request.Request(
        f"{aws.state.endpoints['aws']}/_codeferry/faults",
        data=json.dumps({"throttle_first": {"logs:FilterLogEvents": 2}}).encode(),
    )
    urllib.request.urlopen(request).close()
    logs = aws.ferry("logs", ran.json["run_id"])
    assert logs.exit == 0, logs.err
    assert "here" in logs.out
