from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from codeferry_local.ssm.events import COMMAND_EVENT, INVOCATION_EVENT
from tests.unit.local.ssm.conftest import INSTANCE, OTHERS, Bench, control, until


def code(call: Any) -> str:
    """The error code of a call, or ''."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_first_polls_do_not_see_the_invocation(bench: Bench) -> None:
    """For the first polls of a command Get raises and List is empty, then both see it."""
    bench.document("true")
    bench.server.faults.set(hidden_polls=3)
    command_id = bench.send()
    assert code(lambda: bench.invocation(command_id)) == "InvocationDoesNotExist"
    assert bench.ssm.list_command_invocations(CommandId=command_id)["CommandInvocations"] == []
    assert code(lambda: bench.invocation(command_id)) == "InvocationDoesNotExist"
    assert bench.invocation(command_id)["InstanceId"] == INSTANCE


def test_first_calls_are_throttled(bench: Bench) -> None:
    """The first N calls of an operation are ThrottlingException, others are not."""
    bench.server.faults.set(throttle_first={"ListCommands": 2})
    assert code(bench.ssm.list_documents) == ""
    codes = [code(bench.ssm.list_commands) for _ in range(3)]
    assert codes == ["ThrottlingException", "ThrottlingException", ""]


def test_throttling_at_random_is_reproducible(bench: Bench) -> None:
    """With a seed, the same calls are throttled each time, about as often as told."""

    def codes() -> list[str]:
        bench.server.faults.set(throttle_probability=0.5, throttle_seed=7)
        return [code(bench.ssm.list_commands) for _ in range(60)]

    first = codes()
    assert first == codes()
    assert 15 <= first.count("ThrottlingException") <= 45


def test_throttled_command_does_not_run(bench: Bench) -> None:
    """A throttled SendCommand has no effect."""
    bench.document("true")
    bench.server.faults.set(throttle_first={"SendCommand": 1})
    assert code(bench.send) == "ThrottlingException"
    assert bench.ssm.list_commands()["Commands"] == []


def test_accepted_command_whose_answer_is_lost(bench: Bench) -> None:
    """SendCommand runs the command and hangs up; the next call answers again."""
    bench.document("true")
    bench.server.faults.set(drop_response={"SendCommand": 1})
    with pytest.raises(ConnectionClosedError):
        bench.send()
    (command,) = bench.ssm.list_commands()["Commands"]
    assert bench.ended(command["CommandId"])["Status"] == "Success"
    bench.send()
    assert len(bench.ssm.list_commands()["Commands"]) == 2


def test_status_changes_are_events(bench: Bench) -> None:
    """A command's and its invocation's status changes are events with the documented detail."""
    bench.document("exit 1", parameters={"p": {"type": "String", "default": ""}})
    command_id = bench.send(Parameters={"p": ["x"]})
    bench.ended(command_id)
    assert bench.events.statuses(COMMAND_EVENT, command_id) == ["InProgress", "Failed"]
    assert bench.events.statuses(INVOCATION_EVENT, command_id) == ["InProgress", "Failed"]
    event = bench.events.events[-1]
    assert (event["source"], event["region"]) == ("aws.ssm", "us-east-1")
    assert event["resources"] == [f"arn:aws:ec2:us-east-1:000000000000:instance/{INSTANCE}"]
    detail = event["detail"]
    assert detail["document-name"] == "demo-doc"
    assert detail["parameters"] == {"p": ["x"]}
    assert detail["requested-date-time"] < detail["expire-after"]


def test_events_can_be_suppressed(bench: Bench) -> None:
    """With events suppressed a command runs and nobody is told."""
    bench.document("true")
    bench.server.faults.set(events="suppress")
    bench.ran()
    assert bench.events.events == []


def test_events_can_be_late(bench: Bench) -> None:
    """With an event delay the command has ended before its events come."""
    bench.document("true")
    bench.server.faults.set(event_delay=300)
    command_id = bench.ran()["CommandId"]
    assert bench.events.events == []
    bench.server.advance(300)
    until(lambda: "Success" in bench.events.statuses(COMMAND_EVENT, command_id))


def test_time_passes_at_once_by_http(bench: Bench) -> None:
    """Another process lets SSM's own waits pass, in its seconds; nothing but a number will do."""
    bench.document("true")
    bench.server.faults.set(offline=[INSTANCE])
    command_id = bench.send(TimeoutSeconds=2_000)
    assert control(bench.server.url, "POST", "clock", {"advance": 2_000}) == {"advanced": 2_000}
    assert bench.ended(command_id)["StatusDetails"] == "DeliveryTimedOut"
    for nonsense in ({"advance": "1"}, {"advance": -1}, {}, []):
        with pytest.raises(HTTPError, match="400"):
            control(bench.server.url, "POST", "clock", nonsense)


def test_faults_by_http(bench: Bench) -> None:
    """Another process sets, reads and clears faults; what it does not name stays."""
    url = bench.server.url
    control(url, "POST", "faults", {"offline": [INSTANCE]})
    plan = control(url, "POST", "faults", {"throttle_first": {"ListCommands": 1}})
    assert plan["offline"] == [INSTANCE]
    assert plan == control(url, "GET", "faults")
    assert code(bench.ssm.list_commands) == "ThrottlingException"
    assert control(url, "DELETE", "faults")["offline"] == []


@pytest.mark.parametrize(
    "plan", [{"coffee": 1}, {"offline": INSTANCE}, {"events": "maybe"}, {"hidden_polls": "1"}, []]
)
def test_nonsense_is_no_fault(bench: Bench, plan: Any) -> None:
    """An unknown or ill-typed fault is refused and changes nothing."""
    with pytest.raises(HTTPError, match="400"):
        control(bench.server.url, "POST", "faults", plan)
    assert bench.server.faults.plan.to_json() == control(bench.server.url, "DELETE", "faults")


def test_instances_by_http(bench: Bench) -> None:
    """Another process registers, lists and removes instances."""
    url = bench.server.url
    entry = {"instance_id": OTHERS[0], "root": str(bench.root), "tags": {"a": "b"}}
    listed = control(url, "POST", "instances", {"instances": [{**entry, "executor": "null"}]})
    assert [i["instance_id"] for i in listed["instances"]] == [INSTANCE, OTHERS[0]]
    bench.document("exit 1")
    assert bench.ran(OTHERS[0])["Status"] == "Success"  # null: nothing ran
    control(url, "DELETE", f"instances/{OTHERS[0]}")
    assert code(lambda: bench.send(OTHERS[0])) == "InvalidInstanceId"
    control(url, "POST", "instances", {"instances": [entry, {**entry, "instance_id": OTHERS[1]}]})
    left = control(url, "DELETE", "instances", {"instance_ids": OTHERS})["instances"]
    assert [i["instance_id"] for i in left] == [INSTANCE]
    with pytest.raises(HTTPError, match="400"):
        control(url, "POST", "instances", {"instance_id": OTHERS[0]})


def test_calls_by_http(bench: Bench) -> None:
    """Another process reads and clears the journal."""
    bench.ssm.list_documents()
    calls = control(bench.server.url, "GET", "calls")["calls"]
    assert [call["operation"] for call in calls] == ["ListDocuments"]
    control(bench.server.url, "DELETE", "calls")
    assert control(bench.server.url, "GET", "calls") == {"calls": []}
