"""Agents that poll the local SSM: payloads as a genuine agent makes them."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeferry_local.ssm.agent.polling import Message, Messages
from codeferry_local.ssm.instances import POLLING
from codeferry_local.ssm.server import SsmServer
from tests.unit.local.ssm.conftest import INSTANCE, Bench, RecordedEvents, control, document, until

DELIVERY = "EC2WindowsMessageDeliveryService."
TIMES = {"startDateTime": "2026-01-02T03:04:05.678Z", "endDateTime": "2026-01-02T03:04:07.000Z"}


class Refused(Exception):
    """An answer that is an error: its ``__type``."""


class PlayedAgent:
    """Calls what a genuine agent calls, in its words; nothing of ours is between."""

    def __init__(self, url: str, instance_id: str = INSTANCE) -> None:
        self._url = url
        self.instance_id = instance_id

    def call(self, target: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self._url,
            json.dumps(body).encode(),
            {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.headers["Content-Type"] == "application/x-amz-json-1.1"
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["__type"]) from error

    def register(self, **reported: Any) -> None:
        self.call(
            "AmazonSSM.UpdateInstanceInformation",
            InstanceId=self.instance_id,
            AgentName="amazon-ssm-agent",
            AgentVersion="3.3.987.0",
            PlatformType="Linux",
            **reported,
        )

    def poll(self, hidden: int = 10) -> list[dict[str, Any]]:
        number = str(uuid.uuid4())
        answer = self.call(
            f"{DELIVERY}GetMessages",
            Destination=self.instance_id,
            MessagesRequestId=number,
            VisibilityTimeoutInSeconds=hidden,
        )
        assert (answer["Destination"], answer["MessagesRequestId"]) == (self.instance_id, number)
        messages: list[dict[str, Any]] = answer["Messages"]
        return messages

    def acknowledge(self, message: dict[str, Any]) -> None:
        self.call(f"{DELIVERY}AcknowledgeMessage", MessageId=message["MessageId"])

    def reply(self, message: dict[str, Any], status: str, **given: Any) -> Any:
        payload = {
            "additionalInfo": {"agent": {"name": "amazon-ssm-agent"}, "runtimeStatusCounts": {}},
            "documentStatus": status,
            "documentTraceOutput": "",
            "runtimeStatus": None,
            **given,
        }
        return self.call(
            f"{DELIVERY}SendReply",
            MessageId=message["MessageId"],
            Payload=json.dumps(payload),
            ReplyId=str(uuid.uuid4()),
        )


def result(status: str, code: int, **outputs: str) -> dict[str, Any]:
    """One entry of a reply's runtimeStatus."""
    return {
        "status": status,
        "code": code,
        "name": "aws:runShellScript",
        "output": "",
        **TIMES,
        "outputS3BucketName": "",
        "outputS3KeyPrefix": "",
        "stepName": "",
        "standardOutput": "",
        "standardError": "",
        **outputs,
    }


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A server whose instance has an agent that polls; a poll with nothing to have ends at once."""
    events = RecordedEvents()
    with SsmServer(event_sink=events, executor=POLLING, poll_seconds=0.0) as server:
        made = Bench(server, tmp_path, events)
        made.instance()
        made.document("echo {{ word }}", parameters={"word": {"type": "String", "default": "x"}})
        yield made


@pytest.fixture
def agent(bench: Bench) -> PlayedAgent:
    played = PlayedAgent(bench.server.url)
    played.register()
    return played


def received(agent: PlayedAgent) -> dict[str, Any]:
    """The only message, once there is one."""
    (message,) = until(agent.poll)
    return dict(message)


def test_an_agent_that_registers_is_online(bench):
    """Until then its instance is ConnectionLost; afterwards it is what the agent reported."""
    agent = PlayedAgent(bench.server.url)

    def described() -> Any:
        return bench.ssm.describe_instance_information()["InstanceInformationList"][0]

    assert described()["PingStatus"] == "ConnectionLost"
    agent.register(PlatformName="Ubuntu", PlatformVersion="24.04", IPAddress="10.0.0.7")
    instance = described()
    assert instance["PingStatus"] == "Online"
    assert (instance["AgentVersion"], instance["IPAddress"]) == ("3.3.987.0", "10.0.0.7")
    assert (instance["PlatformName"], instance["PlatformVersion"]) == ("Ubuntu", "24.04")
    assert agent.call("AmazonSSM.ListInstanceAssociations", InstanceId=INSTANCE) == {
        "Associations": []
    }


def test_a_command_arrives_as_a_message(bench, agent):
    """Its id, its topic, the document as it was written, and the parameters that were given."""
    command_id = bench.send(
        Parameters={"word": ["you"]},
        CloudWatchOutputConfig={"CloudWatchOutputEnabled": True, "CloudWatchLogGroupName": "/g"},
    )
    message = received(agent)
    assert message["MessageId"] == f"aws.ssm.{command_id}.{INSTANCE}"
    assert message["Topic"].startswith("aws.ssm.sendCommand")
    assert message["Destination"] == INSTANCE
    assert len(message["CreatedDate"]) == 24
    payload = json.loads(message["Payload"])
    assert payload["CommandId"] == command_id
    assert payload["DocumentName"] == "demo-doc"
    assert payload["DocumentContent"] == document(
        "echo {{ word }}", parameters={"word": {"type": "String", "default": "x"}}
    )
    assert payload["Parameters"] == {"word": "you"}
    assert (payload["CloudWatchOutputEnabled"], payload["CloudWatchLogGroupName"]) == ("true", "/g")


def test_replies_become_the_invocation(bench, agent):
    """In progress, one step's result, and the document's: as SSM shows them to others."""
    command_id = bench.send()
    message = received(agent)
    agent.reply(message, "InProgress")
    agent.acknowledge(message)
    assert bench.invocations(command_id)[INSTANCE]["Status"] == "InProgress"
    outputs = {"standardOutput": "said", "standardError": "complained", "output": "said (cut)"}
    step = result("Failed", 3, **outputs)
    agent.reply(message, "InProgress", runtimeStatus={"apply": step})
    seen = bench.invocation(command_id)
    assert (seen["Status"], seen["ResponseCode"]) == ("Failed", 3)
    assert bench.command(command_id)["Status"] == "InProgress"
    agent.reply(message, "Failed")
    assert bench.ended(command_id)["Status"] == "Failed"
    seen = bench.invocation(command_id)
    assert (seen["StandardOutputContent"], seen["StandardErrorContent"]) == ("said", "complained")
    assert seen["ExecutionElapsedTime"] == "PT1.322S"
    plugin = bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]
    assert plugin["Output"] == "said (cut)"


@pytest.mark.parametrize(
    ("word", "status", "detail"),
    [
        ("Success", "Success", "Success"),
        ("Failed", "Failed", "Failed"),
        ("TimedOut", "TimedOut", "ExecutionTimedOut"),
        ("Cancelled", "Cancelled", "Cancelled"),
    ],
)
def test_an_agents_words_for_an_outcome(bench, agent, word, status, detail):
    """Each outcome of a document is an outcome of the invocation."""
    command_id = bench.send()
    message = received(agent)
    agent.reply(message, word, runtimeStatus={"apply": result(word, 0)})
    bench.ended(command_id)
    seen = bench.invocations(command_id)[INSTANCE]
    assert (seen["Status"], seen["StatusDetails"]) == (status, detail)


def test_what_is_not_acknowledged_comes_again(bench, agent):
    """After the visibility timeout, the same message; once acknowledged, never."""
    bench.send()
    (message,) = until(lambda: agent.poll(hidden=0))
    assert agent.poll(hidden=0) == [message]
    agent.acknowledge(message)
    assert agent.poll() == []


def test_a_message_is_hidden_while_an_agent_has_it() -> None:
    """It is visible again when its time is over, and not before; once removed, never."""
    messages = Messages()
    messages.put(Message(message_id="m", destination=INSTANCE, topic="t", payload="{}"))
    assert len(messages.receive(INSTANCE, hidden=3600, wait=0)) == 1
    assert messages.receive(INSTANCE, hidden=3600, wait=0) == []
    messages.put(Message(message_id="n", destination=INSTANCE, topic="t", payload="{}"))
    assert messages.receive("another", hidden=0, wait=0) == []
    for _ in range(2):
        assert [m.message_id for m in messages.receive(INSTANCE, hidden=0, wait=0)] == ["n"]
    messages.remove("n")
    assert messages.receive(INSTANCE, hidden=0, wait=0) == []


def test_a_poll_is_held_until_there_is_a_message() -> None:
    """Neither an empty answer nor a second poll is needed."""
    messages, got = Messages(), []
    poll = threading.Thread(
        target=lambda: got.extend(messages.receive(INSTANCE, hidden=10, wait=600))
    )
    poll.start()
    messages.put(Message(message_id="m", destination=INSTANCE, topic="t", payload="{}"))
    poll.join(timeout=30)
    assert [message.message_id for message in got] == ["m"]


def test_stopping_ends_the_polls() -> None:
    """An agent that waits does not hold the server up."""
    messages = Messages()
    poll = threading.Thread(target=lambda: messages.receive(INSTANCE, hidden=10, wait=600))
    poll.start()
    messages.stop()
    poll.join(timeout=30)
    assert not poll.is_alive()


def test_cancelling_is_a_message(bench, agent):
    """It names the command's message; what the agent replies is the outcome."""
    command_id = bench.send()
    message = received(agent)
    agent.acknowledge(message)
    bench.ssm.cancel_command(CommandId=command_id)
    cancel = received(agent)
    assert cancel["Topic"].startswith("aws.ssm.cancelCommand")
    assert cancel["MessageId"].endswith(f".{INSTANCE}")
    assert cancel["MessageId"] != message["MessageId"]
    assert json.loads(cancel["Payload"]) == {"CancelMessageId": message["MessageId"]}
    agent.reply(cancel, "InProgress")
    agent.acknowledge(cancel)
    assert bench.command(command_id)["Status"] == "Cancelling"
    agent.reply(message, "Cancelled", runtimeStatus={"apply": result("Cancelled", 137)})
    assert bench.ended(command_id)["Status"] == "Cancelled"
    assert bench.invocation(command_id)["ResponseCode"] == 137


def test_a_command_that_no_agent_has_fetched_is_cancelled_at_once(bench, agent):
    """Its message is withdrawn."""
    command_id = bench.send()
    bench.ssm.cancel_command(CommandId=command_id)
    assert bench.ended(command_id)["Status"] == "Cancelled"
    assert agent.poll() == []


def test_a_command_that_no_agent_fetches_in_time_is_not_delivered(bench, agent):
    """Its message goes; one that an agent has fetched is its agent's."""
    fetched = bench.send(TimeoutSeconds=30)
    message = received(agent)
    agent.acknowledge(message)
    waiting = bench.send(TimeoutSeconds=30)
    until(lambda: bench.command(waiting)["Status"] == "InProgress")
    bench.server.advance(31)
    bench.ended(waiting)
    assert bench.invocations(waiting)[INSTANCE]["StatusDetails"] == "DeliveryTimedOut"
    assert bench.command(fetched)["Status"] == "InProgress"
    until(lambda: agent.poll(hidden=0) == [])


def test_a_refused_message_fails_its_invocation(bench, agent):
    """FailMessage ends it, and says why."""
    command_id = bench.send()
    message = received(agent)
    agent.call(
        f"{DELIVERY}FailMessage",
        MessageId=message["MessageId"],
        FailureType="InternalHandlerException",
    )
    assert bench.ended(command_id)["Status"] == "Failed"
    seen = bench.invocations(command_id)[INSTANCE]
    assert "InternalHandlerException" in seen["TraceOutput"]
    assert agent.poll() == []


def test_what_an_agent_says_of_the_document_is_its_trace(bench, agent):
    """A document that cannot be run fails before any step."""
    command_id = bench.send()
    agent.reply(received(agent), "Failed", documentTraceOutput="parameter is not allowed")
    bench.ended(command_id)
    seen = bench.invocations(command_id)[INSTANCE]
    assert (seen["Status"], seen["TraceOutput"]) == ("Failed", "parameter is not allowed")
    assert bench.invocation(command_id)["ResponseCode"] == -1


def test_a_deleted_message_does_not_come_again(bench, agent):
    """DeleteMessage leaves the invocation to its timeouts."""
    command_id = bench.send()
    message = received(agent)
    agent.call(f"{DELIVERY}DeleteMessage", MessageId=message["MessageId"])
    assert agent.poll(hidden=0) == []
    assert bench.command(command_id)["Status"] == "InProgress"


def test_a_late_reply_changes_nothing(bench, agent):
    """The first outcome counts; agents repeat replies that they take for lost."""
    command_id = bench.send()
    message = received(agent)
    agent.reply(message, "Success", runtimeStatus={"apply": result("Success", 0)})
    bench.ended(command_id)
    answer = agent.reply(message, "Failed", runtimeStatus={"apply": result("Failed", 1)})
    assert answer["MessageId"] == message["MessageId"]
    assert bench.invocation(command_id)["Status"] == "Success"


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("GetMessages", {"Destination": "i-unknown-000"}, "InvalidDestinationException"),
        ("GetMessages", {}, "ValidationException"),
        ("AcknowledgeMessage", {}, "InvalidMessageIdException"),
        ("DeleteMessage", {}, "InvalidMessageIdException"),
        ("FailMessage", {"FailureType": "NoHandlerExists"}, "InvalidMessageIdException"),
        ("SendReply", {"Payload": "{}", "ReplyId": "r" * 16}, "InvalidMessageIdException"),
        ("GetEndpoint", {"Destination": "i-unknown-000"}, "InvalidDestinationException"),
    ],
)
def test_wrong_calls_are_refused_by_name(bench, agent, operation, body, code):
    """Unknown instances and messages, and what lacks a member."""
    known = {"MessageId": f"aws.ssm.{uuid.uuid4()}.{INSTANCE}", "MessagesRequestId": "n" * 16}
    with pytest.raises(Refused, match=code):
        agent.call(DELIVERY + operation, **known, **body)


def test_a_reply_that_is_no_json_is_refused(bench, agent):
    """And the invocation goes on."""
    command_id = bench.send()
    message = received(agent)
    for payload in ("no json", "[]"):
        with pytest.raises(Refused, match="ValidationException"):
            agent.call(
                f"{DELIVERY}SendReply",
                MessageId=message["MessageId"],
                Payload=payload,
                ReplyId="r" * 16,
            )
    assert bench.command(command_id)["Status"] == "InProgress"


def test_the_endpoint_is_this_server(bench, agent):
    """Where an agent is to poll."""
    answer = agent.call(f"{DELIVERY}GetEndpoint", Destination=INSTANCE)
    assert answer == {"Endpoint": bench.server.url}


def test_instances_that_join_later_have_the_same_kind_of_agent(bench, tmp_path):
    """One that is registered without a word of its executor gets what the server was told."""
    body = {"instance_id": "i-0000000000000009a", "root": str(tmp_path)}
    joined = control(bench.server.url, "POST", "instances", body)["instances"][-1]
    assert joined["executor"] == POLLING
