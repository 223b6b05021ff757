"""S3's events come more than once and in any order; the newest upload is what counts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from codeferry_contracts.names import inbox_run_id
from tests.e2e.test_ways_in import ended, plain_archive

pytestmark = pytest.mark.e2e

RULE_TARGET = "codeferry-local-start"


class Upload:
    """One version of an upload, its event and its run."""

    def __init__(self, aws, key, body):
        answer = aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=body)
        self.aws, self.key, self.version = aws, key, answer["VersionId"]
        self.run_id = inbox_run_id(aws.bucket, key, self.version)

    def deliver(self):
        """EventBridge's event, once more or at last."""
        found = {"key": self.key, "version-id": self.version}
        detail = {"bucket": {"name": self.aws.bucket}, "object": found}
        event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
        invoked = self.aws.client("lambda").invoke(
            FunctionName=RULE_TARGET, Payload=json.dumps(event)
        )
        assert "FunctionError" not in invoked

    def ended(self):
        return ended(self.aws, self.run_id)["status"]


@pytest.fixture
def silence(aws):
    """No upload's event is delivered but by the test."""
    events = aws.client("events")
    rules = events.list_rule_names_by_target(TargetArn=start_arn(aws))["RuleNames"]
    assert rules
    for rule in rules:
        events.disable_rule(Name=rule)
    yield
    for rule in rules:
        events.enable_rule(Name=rule)


def start_arn(aws):
    functions = aws.client("lambda")
    return functions.get_function(FunctionName=RULE_TARGET)["Configuration"]["FunctionArn"]


@pytest.fixture
def versions(project, tmp_path):
    """The archives of two versions of one project."""
    archives = []
    for number in (1, 2):
        (project / "main.py").write_text(f"print('version {number}')\n")
        archives.append(plain_archive(project, tmp_path / f"{number}.tar.gz").read_bytes())
    return archives


def mains(aws, project):
    """What each instance would run."""
    return {
        (aws.root(record, project.name) / "current" / "main.py").read_text()
        for record in aws.state.instances
    }


def runs(aws, project):
    found = aws.client("stepfunctions").list_executions(stateMachineArn=aws.machine)
    return sorted(e["name"] for e in found["executions"] if project.name in e["name"])


def test_ten_deliveries_of_one_event_are_one_run(aws, project, versions):
    """Together with its own delivery, while the run is on and after it has ended."""
    upload = Upload(aws, f"inbox/demo/{project.name}.tar.gz", versions[0])
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: upload.deliver(), range(5)))
    assert upload.ended() == "SUCCEEDED"
    for _ in range(5):
        upload.deliver()
    assert runs(aws, project) == [upload.run_id]
    commands = aws.client("ssm").get_paginator("list_commands").paginate()
    sent = [c for page in commands for c in page["Commands"] if c["Comment"] == upload.run_id]
    assert len(sent) == 1


def test_an_older_upload_again_after_a_newer_one(aws, project, versions):
    """Two quick uploads, then the older one's event once more: the newer one stays."""
    older, newer = (Upload(aws, f"inbox/demo/{project.name}.tar.gz", body) for body in versions)
    assert newer.ended() == "SUCCEEDED"
    older.ended()
    older.deliver()
    older.ended()
    assert mains(aws, project) == {"print('version 2')\n"}
    assert runs(aws, project) == sorted([older.run_id, newer.run_id])
    assert aws.keys("inbox/") == []


@pytest.mark.usefixtures("silence")
def test_an_older_upload_first_heard_of_after_the_newer_ones_run(aws, project, versions):
    """Its run fails in plan, says why, and removes what nobody will want."""
    older, newer = (Upload(aws, f"inbox/demo/{project.name}.tar.gz", body) for body in versions)
    newer.deliver()
    assert newer.ended() == "SUCCEEDED"
    older.deliver()
    assert older.ended() == "FAILED"
    error = aws.report(older.run_id)["error"]
    assert (error["code"], error["phase"]) == ("archive_superseded", "plan")
    assert mains(aws, project) == {"print('version 2')\n"}
    assert aws.keys("inbox/") == []
