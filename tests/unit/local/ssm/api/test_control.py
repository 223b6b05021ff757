"""The control endpoint: docs/local.md says what registers instances, and a start is announced."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import Bench, control

PAGE = Path(__file__).resolve().parents[5] / "docs" / "local.md"
SECTION = PAGE.read_text().partition("## Instances without a process\n")[2].partition("\n## ")[0]
EXAMPLE = json.loads(SECTION.partition("```json\n")[2].partition("```")[0])
KEYS = re.findall(r"^\| `(\w+)` \|", SECTION, re.MULTILINE)


def test_the_documented_example_is_accepted(bench: Bench) -> None:
    """It registers what it says, and a command of its tag's target succeeds there."""
    (entry,) = EXAMPLE["instances"]
    answer = control(bench.server.url, "POST", "instances", EXAMPLE)
    assert entry in answer["instances"]
    assert sorted(entry) == sorted(KEYS)
    bench.document("exit 1")
    targets = [{"Key": "tag:codeferry:target", "Values": [entry["tags"]["codeferry:target"]]}]
    command_id = bench.send(Targets=targets)
    assert bench.ended(command_id)["Status"] == "Success"
    invocation = bench.invocations(command_id)[entry["instance_id"]]
    assert invocation["InstanceName"] == entry["name"]


def test_every_key_is_documented(bench: Bench) -> None:
    """The refusal of an unknown key lists those there are: the table has the same."""
    body = {**EXAMPLE["instances"][0], "colour": "red"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(bench.server.url, "POST", "instances", body)
    message = json.load(refused.value)["message"]
    listed = re.fullmatch(r"An instance has (.+) \(.+\), not colour\.", message)
    assert listed
    assert listed[1].split(", ") == sorted(KEYS)


def test_only_the_keys_called_required_are(bench: Bench) -> None:
    """With what the table calls required an instance is registered, without either it is not."""
    required = re.findall(r"^\| `(\w+)` \| required", SECTION, re.MULTILINE)
    least = {key: EXAMPLE["instances"][0][key] for key in required}
    registered = control(bench.server.url, "POST", "instances", least)["instances"][-1]
    assert registered == {**least, "executor": "shell", "name": "", "tags": {}}
    for key in required:
        with pytest.raises(urllib.error.HTTPError):
            control(bench.server.url, "POST", "instances", {k: least[k] for k in least if k != key})


class RecordedEvents:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.events = []

    def deliver(self, event):
        self.events.append(event)

    def stop(self):
        pass


@pytest.fixture
def sink():
    return RecordedEvents()


@pytest.fixture
def server(sink):
    started = SsmServer(event_sink=sink, paced=False).start()
    yield started
    started.stop()


def post(server, path, body):
    request = urllib.request.Request(
        f"{server.url}/_codeferry/{path}", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_a_start_is_announced_when_it_is_asked_for(server, sink, tmp_path):
    """Registering alone says nothing: a fleet of a test is not ten thousand events."""
    post(server, "instances", {"instance_id": "i-1", "root": str(tmp_path)})
    assert sink.events == []
    post(server, "started/i-1", {})
    (event,) = sink.events
    assert (event["source"], event["detail-type"]) == (
        "aws.ec2",
        "EC2 Instance State-change Notification",
    )
    assert event["detail"] == {"instance-id": "i-1", "state": "running"}
    assert event["resources"][0].endswith(":instance/i-1")


def test_an_instance_that_is_not_there_does_not_start(server, sink):
    """It is refused by name."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(server, "started/i-9", {})
    assert "i-9" in raised.value.read().decode()
    assert sink.events == []
