"""Events and logs of the local SSM, in the real MiniStack."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from codeferry_local.ssm.events import COMMAND_EVENT
from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import INSTANCE, SCALE, Bench, RecordedEvents, until

pytestmark = pytest.mark.slow

ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/test"
HANDLER = """
import json, os
def handler(event, context):
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(json.dumps(event) + "\\n")
"""


def aws(service: str, endpoint: str) -> Any:
    """A client of MiniStack."""
    session = boto3.Session(ACCOUNT, "x", region_name="us-east-1")
    return session.client(service, endpoint_url=endpoint)


@pytest.fixture
def cloud(ministack: str, tmp_path: Path) -> Iterator[Bench]:
    """A local SSM that logs and delivers to MiniStack."""
    with SsmServer(
        aws_endpoint=ministack, account_id=ACCOUNT, time_scale=SCALE, paced=False
    ) as server:
        bench = Bench(server, tmp_path, RecordedEvents())
        bench.instance()
        yield bench


def function(endpoint: str, name: str, seen: Path) -> str:
    """A Lambda function that appends each event it gets to a file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("app.py", HANDLER)
    created = aws("lambda", endpoint).create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"SEEN": str(seen)}},
    )
    return str(created["FunctionArn"])


def rule(endpoint: str, name: str, pattern: dict[str, Any], arn: str) -> None:
    """A rule of the default bus with one target."""
    events = aws("events", endpoint)
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])


def seen_statuses(path: Path) -> list[str]:
    """The statuses a function saw."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["detail"]["status"] for line in lines]


def test_matching_rules_get_the_event_and_others_do_not(cloud: Bench, ministack: str) -> None:
    """A Lambda target sees exactly the events its rule's pattern matches."""
    wanted, unwanted = cloud.root / "wanted", cloud.root / "unwanted"
    pattern = {
        "source": ["aws.ssm"],
        "detail-type": [COMMAND_EVENT],
        "detail": {"status": ["Success", "Failed"], "document-name": ["demo-doc"]},
    }
    rule(ministack, "wanted", pattern, function(ministack, "wanted", wanted))
    other = {**pattern, "detail": {"document-name": ["other-doc"]}}
    rule(ministack, "unwanted", other, function(ministack, "unwanted", unwanted))
    cloud.document("exit 1")
    cloud.document("true", name="other-doc")
    cloud.ran()
    cloud.ran(DocumentName="other-doc")
    until(lambda: "Success" in seen_statuses(unwanted), 60)
    until(lambda: seen_statuses(wanted), 60)
    assert seen_statuses(wanted) == ["Failed"]


def messages(endpoint: str, group: str, stream: str) -> list[str]:
    """What a log stream holds; [] while it is not there."""
    logs = aws("logs", endpoint)
    try:
        events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events["events"]]


def test_output_is_streamed_while_the_step_runs(cloud: Bench, ministack: str) -> None:
    """With CloudWatch output, lines are in the log streams before the step has ended; of the
    last event the last line end is not (buildEventInfo of cloudwatchlogsservice.go)."""
    go = cloud.root / "go"
    cloud.document(f"echo one; echo oops >&2; while [ ! -e {go} ]; do sleep 0.02; done; echo two")
    command_id = cloud.send(CloudWatchOutputConfig={"CloudWatchOutputEnabled": True})
    stream = f"{command_id}/{INSTANCE}/apply"
    until(lambda: messages(ministack, "/aws/ssm/demo-doc", f"{stream}/stdout") == ["one\n"])
    until(lambda: messages(ministack, "/aws/ssm/demo-doc", f"{stream}/stderr") == ["oops\n"])
    assert cloud.command(command_id)["Status"] == "InProgress"
    go.touch()
    until(lambda: messages(ministack, "/aws/ssm/demo-doc", f"{stream}/stdout") == ["one\n", "two"])


def test_log_group_can_be_named(cloud: Bench, ministack: str) -> None:
    """A named log group is used, and a command without CloudWatch output logs nothing."""
    cloud.document("echo here")
    quiet = cloud.ran()["CommandId"]
    named = {"CloudWatchOutputEnabled": True, "CloudWatchLogGroupName": "/mine"}
    command_id = cloud.ran(CloudWatchOutputConfig=named)["CommandId"]
    until(lambda: messages(ministack, "/mine", f"{command_id}/{INSTANCE}/apply/stdout") == ["here"])
    assert messages(ministack, "/aws/ssm/demo-doc", f"{quiet}/{INSTANCE}/apply/stdout") == []


@pytest.mark.parametrize("how", ["throttle", "unreachable"])
def test_logs_can_be_out_of_reach(
    cloud: Bench, ministack: str, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The command succeeds, and nothing of it is logged; what comes later is."""
    cloud.document("echo here")
    logged = {"CloudWatchOutputEnabled": True, "CloudWatchLogGroupName": f"/{how}"}
    cloud.server.faults.set(logs=how)
    assert cloud.ran(CloudWatchOutputConfig=logged)["Status"] == "Success"
    until(lambda: "not logged" in caplog.text)
    cloud.server.faults.clear()
    command_id = cloud.ran(CloudWatchOutputConfig=logged)["CommandId"]
    until(lambda: messages(ministack, f"/{how}", f"{command_id}/{INSTANCE}/apply/stdout"))
    streams = aws("logs", ministack).describe_log_streams(logGroupName=f"/{how}")["logStreams"]
    assert {stream["logStreamName"].partition("/")[0] for stream in streams} == {command_id}


def test_unreachable_aws_never_fails_the_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without EventBridge and Logs the command succeeds, and the log says what was lost."""
    with SsmServer(aws_endpoint="http://127.0.0.1:9", time_scale=SCALE, paced=False) as server:
        bench = Bench(server, tmp_path, RecordedEvents())
        bench.instance()
        bench.document("echo x")
        invocation = bench.ran(CloudWatchOutputConfig={"CloudWatchOutputEnabled": True})
        assert invocation["Status"] == "Success"
        until(lambda: "not logged" in caplog.text and "rules not read" in caplog.text, 60)


def test_parameters_are_the_embedded_aws_own(cloud: Bench, ministack: str) -> None:
    """A parameter of the embedded AWS, as cdk bootstrap makes one, is read by way of the local
    SSM, and one that it does not have is refused as AWS refuses it."""
    name = "/cdk-bootstrap/hnb659fds/version"
    aws("ssm", ministack).put_parameter(Name=name, Value="32", Type="String", Overwrite=True)
    parameter = cloud.ssm.get_parameter(Name=name)["Parameter"]
    assert (parameter["Name"], parameter["Value"], parameter["Type"]) == (name, "32", "String")
    assert cloud.ssm.get_parameters(Names=[name, "absent"])["InvalidParameters"] == ["absent"]
    with pytest.raises(ClientError, match="ParameterNotFound"):
        cloud.ssm.get_parameter(Name="absent")
    cloud.ssm.put_parameter(Name="mine", Value="a secret", Type="SecureString")
    assert aws("ssm", ministack).get_parameter(Name="mine")["Parameter"]["Version"] == 1
    assert "a secret" not in json.dumps(cloud.server.journal.to_json())
