"""The three ways in: the CLI, an upload by any S3 client, an execution started by hand."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import uuid

import pytest

from codeferry_contracts.names import inbox_run_id
from tests.e2e.conftest import PATIENCE, until

pytestmark = pytest.mark.e2e


def ended(aws, run_id, seconds=PATIENCE):
    """The execution of a run once it has ended."""
    states = aws.client("stepfunctions")
    arn = f"{aws.machine.replace(':stateMachine:', ':execution:')}:{run_id}"

    def found():
        try:
            execution = states.describe_execution(executionArn=arn)
        except states.exceptions.ExecutionDoesNotExist:
            return None
        return execution["status"] != "RUNNING" and execution

    return until(found, seconds)


def plain_archive(project, path):
    """A tar.gz as GNU tar makes it: ./ prefixes, directories, no manifest."""
    subprocess.run(["tar", "czf", path, "-C", project, "--exclude=*.log", "."], check=True)
    return path


def put(aws, key, body):
    """Upload as any S3 client does; the id of the run it starts."""
    answer = aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=body)
    return inbox_run_id(aws.bucket, key, answer["VersionId"])


def test_a_plain_upload_starts_a_run(aws, project, tmp_path):
    """GNU tar and a bare PutObject are enough, and the instances are compared with each other."""
    archive = plain_archive(project, tmp_path / "a.tar.gz")
    run_id = put(aws, f"inbox/demo/{project.name}.tar.gz", archive.read_bytes())
    assert ended(aws, run_id)["status"] == "SUCCEEDED"
    report = aws.report(run_id)
    assert report["counts"]["succeeded"] == 3
    assert report["project"] == project.name
    assert report["verification"]["source"] == "instances"
    assert report["verification"]["files"] == 5
    for record in aws.state.instances:
        current = aws.root(record, project.name) / "current"
        assert (current / "main.py").read_text() == "print('hello')\n"
    assert aws.keys("inbox/") == []


def test_a_plain_archive_and_a_push_of_one_tree_are_one_release(aws, project, tmp_path):
    """The release is made of the content, not of who packed it."""
    pushed = aws.ferry("push", "demo", project, "--json").json["run_id"]
    archive = plain_archive(project, tmp_path / "a.tar.gz")
    run_id = put(aws, f"inbox/demo/{project.name}.tar.gz", archive.read_bytes())
    assert ended(aws, run_id)["status"] == "SUCCEEDED"
    reports = [aws.report(run)["verification"]["release_id"] for run in (pushed, run_id)]
    assert reports[0] == reports[1]


def test_ferry_upload_goes_through_the_inbox(aws, project):
    """The upload's arrival starts the run, and ferry follows it to its end."""
    ran = aws.ferry("upload", "demo", project, "--json")
    assert ran.exit == 0, ran.err
    run_id = ran.json["run_id"]
    assert run_id.startswith("inbox-")
    assert aws.report(run_id)["verification"]["source"] == "manifest"


def test_an_execution_started_by_hand_needs_key_and_target_only(aws, project, tmp_path):
    """What a person types at the console works, and the execution's name is the run id."""
    archive = plain_archive(project, tmp_path / "a.tar.gz")
    key = f"archives/{project.name}.tar.gz"
    aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=archive.read_bytes())
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine,
        input=json.dumps({"archive": {"key": key}, "target": "tag:Name=demo-2"}),
    )
    run_id = started["executionArn"].rpartition(":")[2]
    assert ended(aws, run_id)["status"] == "SUCCEEDED"
    report = aws.report(run_id)
    assert [outcome["name"] for outcome in report["instances"]] == ["demo-2"]
    assert key not in aws.keys("archives/")


def test_the_same_event_again_is_the_same_run(aws, project, tmp_path):
    """S3 delivers at least once; the second delivery starts nothing."""
    archive = plain_archive(project, tmp_path / "a.tar.gz")
    key = f"inbox/demo/{project.name}.tar.gz"
    answer = aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=archive.read_bytes())
    run_id = inbox_run_id(aws.bucket, key, answer["VersionId"])
    ended(aws, run_id)
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": aws.bucket},
            "object": {"key": key, "version-id": answer["VersionId"]},
        },
    }
    for _ in range(3):
        invoked = aws.client("lambda").invoke(
            FunctionName="codeferry-local-start", Payload=json.dumps(event)
        )
        assert "FunctionError" not in invoked
    executions = aws.client("stepfunctions").list_executions(stateMachineArn=aws.machine)
    named = [e["name"] for e in executions["executions"] if project.name in e["name"]]
    assert named == [run_id]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("inbox/i-123/x.tar.gz", ["i-123", "not a target"]),
        ("inbox/demo/x.zip", ["inbox/<target>/<name>.tar.gz"]),
        ("inbox/lonely.tar.gz", ["inbox/<target>/<name>.tar.gz"]),
    ],
)
def test_an_upload_that_makes_no_sense_becomes_a_run_that_says_why(aws, key, words):
    """An upload never vanishes silently: its run fails in plan with the reason."""
    unique = key.replace("x.", f"{uuid.uuid4().hex}.").replace("lonely", uuid.uuid4().hex)
    run_id = put(aws, unique, b"anything")
    found = ended(aws, run_id)
    assert found["status"] == "FAILED"
    error = aws.report(run_id)["error"]
    assert error["phase"] == "plan"
    for word in words:
        assert word in f"{error['message']} {error['hint']}"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"archive": {"key": "archives/not-there.tar.gz"}, "target": "demo"}, "archive_missing"),
        ({"target": "demo"}, "request_invalid"),
        ({"archive": {"key": "archives/a.tar.gz"}, "target": "vol-1"}, "target_invalid"),
        ({"archive": {"key": "archives/a.tar.gz"}, "target": "demo", "x": 1}, "request_invalid"),
        ([], "request_invalid"),
        ("text", "request_invalid"),
    ],
)
def test_a_bad_request_fails_in_plan_and_says_why(aws, request_, code):
    """A mistake typed at the console ends as FAILED with a report that names it."""
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine, input=json.dumps(request_)
    )
    run_id = started["executionArn"].rpartition(":")[2]
    found = ended(aws, run_id)
    assert found["status"] == "FAILED"
    assert found["error"] == code
    assert aws.report(run_id)["error"]["code"] == code


def test_an_upload_of_another_kind_is_called_what_it_is(aws, project, tmp_path):
    """A tar of another compression under an archive's name: no instance is bothered with it."""
    plain = gzip.decompress(plain_archive(project, tmp_path / "a.tar.gz").read_bytes())
    run_id = put(aws, f"inbox/demo/{uuid.uuid4().hex}.tar.gz", lzma.compress(plain))
    assert ended(aws, run_id)["status"] == "FAILED"
    error = aws.report(run_id)["error"]
    assert (error["phase"], error["code"]) == ("plan", "archive_format")
    assert "compressed with xz, not with gzip" in error["message"]


def test_a_foreign_archive_that_is_damaged_fails_on_the_instances(aws, project, tmp_path):
    """What only unpacking finds is refused on every instance, each with its reason."""
    body = plain_archive(project, tmp_path / "a.tar.gz").read_bytes()
    run_id = put(aws, f"inbox/demo/{uuid.uuid4().hex}.tar.gz", body[:-4])
    assert ended(aws, run_id)["status"] == "FAILED"
    report = aws.report(run_id)
    assert report["counts"]["failed"] == 3
    assert {outcome["error"]["code"] for outcome in report["instances"]} == {"archive_invalid"}


def test_runs_of_every_kind_are_listed(aws, project, tmp_path):
    """ferry runs shows a push and an upload alike; status tells of each."""
    pushed = aws.ferry("push", "demo", project, "--json").json["run_id"]
    archive = plain_archive(project, tmp_path / "a.tar.gz")
    uploaded = put(aws, f"inbox/demo/{project.name}.tar.gz", archive.read_bytes())
    ended(aws, uploaded)
    listed = aws.ferry("runs", "--json")
    assert listed.exit == 0, listed.err
    found = {run["run_id"] for run in listed.json["runs"]}
    assert {pushed, uploaded} <= found
    for run in (pushed, uploaded):
        status = aws.ferry("status", run, "--json")
        assert status.exit == 0
        assert status.json["status"] == "succeeded"
