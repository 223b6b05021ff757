from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from codeferry_local.ssm.faults import AGENT_RESTART_SECONDS
from codeferry_local.ssm.instances import InvocationContext, null_executor
from codeferry_local.ssm.scheduler import WORKER_LOST
from tests.unit.local.ssm.conftest import INSTANCE, OTHERS, Bench, alive, pid_in, until


def test_offline_instance_times_out_undelivered(bench: Bench) -> None:
    """A command to an offline instance is Delayed, then DeliveryTimedOut after TimeoutSeconds."""
    bench.document("true")
    bench.server.faults.set(offline=[INSTANCE])
    command_id = bench.send(TimeoutSeconds=200)
    until(lambda: bench.invocation(command_id)["Status"] == "Delayed")
    bench.server.advance(200)
    command = bench.ended(command_id)
    assert (command["Status"], command["StatusDetails"]) == ("TimedOut", "DeliveryTimedOut")
    assert (command["DeliveryTimedOutCount"], command["ErrorCount"]) == (1, 0)
    invocation = bench.invocation(command_id)
    assert (invocation["Status"], invocation["StatusDetails"]) == ("TimedOut", "DeliveryTimedOut")
    assert invocation["ResponseCode"] == -1


def test_instance_that_comes_back_in_time_runs_the_command(bench: Bench) -> None:
    """A command waits for an offline instance and runs when it is back."""
    bench.document("echo late")
    bench.server.faults.set(offline=[INSTANCE])
    command_id = bench.send()
    until(lambda: bench.invocation(command_id)["Status"] == "Delayed")
    bench.server.faults.clear()
    assert bench.ended(command_id)["Status"] == "Success"


def test_expired_command_never_runs_later(bench: Bench) -> None:
    """What timed out undelivered does not run when the instance returns."""
    trace = bench.root / "trace"
    bench.document(f"echo x >> {trace}")
    bench.server.faults.set(offline=[INSTANCE])
    bench.ended(bench.send(TimeoutSeconds=30))
    bench.server.faults.clear()
    assert bench.ran()["Status"] == "Success"
    assert trace.read_text() == "x\n"


def test_ping_status_follows_the_fault(bench: Bench) -> None:
    """An offline instance is ConnectionLost and can be filtered for."""
    bench.instance(OTHERS[0])
    bench.server.faults.set(offline=[INSTANCE])
    lost = bench.ssm.describe_instance_information(
        Filters=[{"Key": "PingStatus", "Values": ["ConnectionLost"]}]
    )["InstanceInformationList"]
    assert [(i["InstanceId"], i["PingStatus"]) for i in lost] == [(INSTANCE, "ConnectionLost")]


def test_removed_instance_is_undeliverable(bench: Bench) -> None:
    """An instance deregistered while a command waits ends it as Undeliverable."""
    bench.document("true")
    bench.instance(OTHERS[0])
    bench.server.faults.set(offline=[INSTANCE])
    command_id = bench.send(INSTANCE, OTHERS[0])
    bench.server.fleet.remove(INSTANCE)
    command = bench.ended(command_id)
    assert command["Status"] == "Success"  # one of two got it, which AWS calls success
    assert bench.invocations(command_id)[INSTANCE]["StatusDetails"] == "Undeliverable"


def test_lost_instance_leaves_the_invocation_in_progress(bench: Bench) -> None:
    """An instance lost mid-command: process killed, InProgress until the total timeout."""
    pid_file = bench.root / "pid"
    bench.document(f"echo $$ > {pid_file}; sleep 1000")
    given = {"TimeoutSeconds": 200, "Parameters": {"executionTimeout": ["150"]}}
    command_id = bench.send(**given)
    pid = pid_in(pid_file)
    bench.server.faults.set(lost={INSTANCE: 0})
    until(lambda: not alive(pid))
    assert bench.invocation(command_id)["Status"] == "InProgress"
    assert bench.server.faults.plan.offline == {INSTANCE}
    bench.server.advance(350)
    command = bench.ended(command_id)
    assert (command["Status"], command["StatusDetails"]) == ("TimedOut", "DeliveryTimedOut")


def test_an_agent_that_runs_out_of_memory_is_away_and_fails_what_it_finds(bench: Bench) -> None:
    """Killed with what it ran: InProgress while systemd waits (RestartSec=90), then Failed, in the
    agent's own words and with no second step run; what was sent meanwhile is delivered then."""
    pid_file, second = bench.root / "pid", bench.root / "second"
    first = {"name": "first", "inputs": {"runCommand": [f"echo $$ > {pid_file}; sleep 1000"]}}
    then = {"name": "second", "inputs": {"runCommand": [f"touch {second}"]}}
    steps = [{"action": "aws:runShellScript", **step} for step in (first, then)]
    bench.create({"schemaVersion": "2.2", "mainSteps": steps})
    command_id = bench.send(TimeoutSeconds=3_600)
    pid = pid_in(pid_file)
    bench.server.faults.set(oom={INSTANCE: 0})
    until(lambda: not alive(pid))
    assert bench.invocations(command_id)[INSTANCE]["Status"] == "InProgress"
    assert bench.server.faults.plan.offline == {INSTANCE}
    bench.document("true", name="other-doc")
    meanwhile = bench.send(DocumentName="other-doc", TimeoutSeconds=3_600)
    bench.server.advance(AGENT_RESTART_SECONDS)
    assert bench.ended(command_id)["StatusDetails"] == "Failed"
    first_step = bench.invocations(command_id)[INSTANCE]["CommandPlugins"][0]
    assert (first_step["Status"], first_step["Output"]) == ("Failed", WORKER_LOST)
    assert not second.exists()
    assert bench.ended(meanwhile)["StatusDetails"] == "Success"


def test_loss_can_be_armed_before_the_command(bench: Bench) -> None:
    """A loss armed beforehand strikes the given time after the step's start."""
    bench.document("echo started; sleep 1000")
    bench.server.faults.set(lost={INSTANCE: 5})
    command_id = bench.send(TimeoutSeconds=30, Parameters={"executionTimeout": ["60"]})
    until(lambda: bench.server.faults.plan.offline)
    bench.server.advance(90)
    assert bench.ended(command_id)["StatusDetails"] == "DeliveryTimedOut"


def test_disarmed_loss_does_not_strike(bench: Bench) -> None:
    """A loss that is cleared before its time leaves the running command alone."""
    go = bench.root / "go"
    bench.document(f"while [ ! -e {go} ]; do sleep 0.02; done")
    bench.server.faults.set(lost={INSTANCE: 200})
    command_id = bench.send()
    until(lambda: bench.invocation(command_id)["ExecutionStartDateTime"])
    bench.server.faults.clear()
    bench.server.faults.set(slow={OTHERS[0]: 250})
    bench.instance(OTHERS[0])
    bench.document("true", name="other-doc")
    other = bench.send(OTHERS[0], DocumentName="other-doc")
    until(lambda: bench.command(other)["Status"] == "InProgress")
    bench.server.advance(250)
    bench.ended(other)  # outlasts the loss
    assert bench.invocation(command_id)["Status"] == "InProgress"
    go.touch()
    assert bench.ended(command_id)["Status"] == "Success"


def test_slow_instance_starts_later(bench: Bench) -> None:
    """A slow instance starts the command after its delay, without holding the others."""
    bench.instance(OTHERS[0])
    bench.document("true")
    bench.server.faults.set(slow={INSTANCE: 200})
    command_id = bench.send(INSTANCE, OTHERS[0])
    until(lambda: bench.invocation(command_id, OTHERS[0])["Status"] == "Success")
    assert bench.invocation(command_id)["ExecutionStartDateTime"] == ""
    bench.server.advance(200)
    assert bench.ended(command_id)["Status"] == "Success"


def test_slower_than_the_delivery_timeout(bench: Bench) -> None:
    """An instance slower than the delivery timeout never starts the command."""
    bench.document("true")
    bench.server.faults.set(slow={INSTANCE: 60})
    command_id = bench.send(TimeoutSeconds=30)
    assert bench.ended(command_id)["StatusDetails"] == "DeliveryTimedOut"


def test_cancel_kills_what_runs(bench: Bench) -> None:
    """CancelCommand stops the process group and ends invocation and command as Cancelled."""
    pid_file = bench.root / "pid"
    bench.document(f"sh -c 'echo $$ > {pid_file}; exec sleep 1000' & wait")
    command_id = bench.send()
    child = pid_in(pid_file)
    bench.ssm.cancel_command(CommandId=command_id)
    assert bench.ended(command_id)["Status"] == "Cancelled"
    assert bench.invocation(command_id)["Status"] == "Cancelled"
    until(lambda: not alive(child))


def test_cancel_ends_what_waits_at_once(bench: Bench) -> None:
    """Invocations that wait for an instance or for their turn are Cancelled and never run."""
    bench.document("true")
    bench.instance(OTHERS[0])
    bench.server.faults.set(offline=[INSTANCE])
    command_id = bench.send(INSTANCE, OTHERS[0], MaxConcurrency="1")
    bench.ssm.cancel_command(CommandId=command_id)
    assert bench.ended(command_id)["Status"] == "Cancelled"
    statuses = {i["Status"] for i in bench.invocations(command_id).values()}
    assert statuses == {"Cancelled"}


def test_cancel_on_some_instances_only(bench: Bench) -> None:
    """CancelCommand with instance ids leaves the others running."""
    go = bench.root / "go"
    bench.instance(OTHERS[0])
    bench.document(f"while [ ! -e {go} ]; do sleep 0.02; done")
    command_id = bench.send(INSTANCE, OTHERS[0])
    bench.ssm.cancel_command(CommandId=command_id, InstanceIds=[INSTANCE])
    until(lambda: bench.invocation(command_id)["Status"] == "Cancelled")
    assert bench.command(command_id)["Status"] == "InProgress"
    go.touch()
    command = bench.ended(command_id)
    assert command["StatusDetails"] == "Incomplete"
    assert bench.invocation(command_id, OTHERS[0])["Status"] == "Success"


def test_cancel_after_the_end_changes_nothing(bench: Bench) -> None:
    """Cancelling an ended command is accepted and without effect."""
    bench.document("true")
    command_id = bench.ran()["CommandId"]
    bench.ssm.cancel_command(CommandId=command_id)
    assert bench.command(command_id)["Status"] == "Success"


def test_cancel_of_what_is_not_there(bench: Bench) -> None:
    """Unknown commands and instances not targeted are refused by name."""
    bench.document("true")
    with pytest.raises(bench.ssm.exceptions.InvalidCommandId):
        bench.ssm.cancel_command(CommandId="0" * 36)
    with pytest.raises(bench.ssm.exceptions.InvalidInstanceId):
        bench.ssm.cancel_command(CommandId=bench.send(), InstanceIds=[OTHERS[0]])


def test_expiry_starts_nothing_that_was_waiting_its_turn(bench: Bench) -> None:
    """At the total timeout the pending invocations end too, and none starts."""
    ran: list[str] = []
    release = threading.Event()

    def hang(context: InvocationContext) -> tuple[int, str, str]:
        ran.append(context.instance.instance_id)
        release.wait(30)
        return 0, "", ""

    bench.document("true")
    ids: list[Any] = [f"i-{number:08x}" for number in range(3)]
    for instance_id in ids:
        bench.server.add_instance(instance_id, Path("/nowhere"), executor=null_executor(hang))
    command_id = bench.send(
        *ids,
        MaxConcurrency="1",
        TimeoutSeconds=30,
        Parameters={"executionTimeout": ["30"]},
    )
    command = bench.ended(command_id)
    release.set()
    assert (command["StatusDetails"], command["DeliveryTimedOutCount"]) == ("DeliveryTimedOut", 3)
    assert ran == ids[:1]
