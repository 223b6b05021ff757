"""The event that an instance is running, as EC2 sends it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from codeferry_local.ssm.server import SsmServer


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.events = []

    def deliver(self, event):
        self.events.append(event)

    def stop(self):
        pass


@pytest.fixture
def sink():
    return Kept()


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
