"""Hostile strings through real executions: refused by name or carried to the letter."""

from __future__ import annotations

import json
import uuid

import pytest

from codeferry_contracts.names import inbox_run_id
from tests.e2e.test_ways_in import ended, plain_archive

pytestmark = pytest.mark.e2e

STRINGS = (
    *("$(touch {canary})", "`touch {canary}`", "; touch {canary} ;", "'; touch {canary}; '"),
    *('"; touch {canary}; "', "| touch {canary}", "&& touch {canary}", "${{HOME}}", "%s%n"),
    *("{{{{ payload }}}}", "{{{{runId}}}}", "-rf", "--help", "*", "?", "[a-z]", "a b", "it's"),
    *('say "x"', "back\\slash", "é", "e\u0301", "\u202egnp.sh", "\u2028", "\U0001f4a5", "~root"),
    *("CODEFERRY_END_OF_SOURCE", "$.error", "States.ALL", "<script>", "&amp;", "%2e%2e%2f", "%00"),
)


@pytest.fixture
def canary(tmp_path):
    """A file that exists only if something was executed."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@pytest.fixture
def hostile(canary):
    """The strings, their commands pointed at the canary; relative, so that all are paths."""
    return [text.format(canary=str(canary).lstrip("/")) for text in STRINGS]


def started(aws, request):
    answer = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine, input=json.dumps(request)
    )
    return answer["executionArn"].rpartition(":")[2]


def test_expected_paths_arrive_to_the_letter(aws, project, tmp_path, hostile):
    """Each instance looks for exactly these names, finds none and says so; nothing is run."""
    body = plain_archive(project, tmp_path / "a.tar.gz").read_bytes()
    for start in range(0, len(hostile), 12):
        asked = hostile[start : start + 12]
        key = f"archives/{uuid.uuid4().hex}.tar.gz"
        aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=body)
        request = {"archive": {"key": key}, "target": "demo", "project": project.name}
        run_id = started(aws, request | {"expect": {"files": asked}})
        assert ended(aws, run_id)["status"] == "SUCCEEDED"
        for outcome in aws.report(run_id)["instances"]:
            assert sorted(outcome["unmet"]) == sorted(asked)


def test_uploads_under_hostile_names(aws, project, tmp_path, hostile):
    """The key is found, run and deleted, however it is spelt."""
    body = plain_archive(project, tmp_path / "a.tar.gz").read_bytes()
    runs = []
    for text in hostile[::5]:
        key = f"inbox/tag:Name=demo-1/{uuid.uuid4().hex}{text.replace('/', '_')}.tar.gz"
        answer = aws.client("s3").put_object(Bucket=aws.bucket, Key=key, Body=body)
        runs.append(inbox_run_id(aws.bucket, key, answer["VersionId"]))
    assert [ended(aws, run)["status"] for run in runs] == ["SUCCEEDED"] * len(runs)
    assert aws.keys("inbox/") == []


@pytest.mark.parametrize("field", ["target", "project", "archive"])
def test_hostile_fields_are_refused_by_name(aws, hostile, field):
    """A target, a project, an archive spelt like this ends in plan with words for it."""
    right = {"archive": {"key": "archives/none.tar.gz"}, "target": "demo"}
    value = [{"key": text} if field == "archive" else text for text in hostile[::5]]
    runs = [started(aws, right | {field: each}) for each in value]
    for run_id in runs:
        assert ended(aws, run_id)["status"] == "FAILED"
        error = aws.report(run_id)["error"]
        assert error["phase"] == "plan"
        assert error["code"] in ("target_invalid", "request_invalid", "archive_missing")
