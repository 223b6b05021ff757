"""Rollback: an earlier release made current again, by a run or because a new one is unhealthy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codeferry_agent.run.release import rollback
from codeferry_contracts.parameters import RollbackPayload
from codeferry_contracts.result import InstanceResult, parse_result
from tests.unit.agent.commands import Machine, Outcome, machine, wait_until
from tests.unit.agent.conftest import LAUNCH, Instance


@pytest.fixture
def here(instance: Instance) -> Machine:
    return machine(instance)


def pushed(there: Machine, content: bytes, run_id: str, **changes: Any) -> Outcome:
    command = changes.pop("command", ())
    payload = there.command(*command, tree={"f": content}, run_id=run_id, **changes)
    return there.steps(payload)


def released(there: Machine, content: bytes, run_id: str) -> str:
    assert pushed(there, content, run_id).first.status == "applied"
    return there.current_id


def restored(there: Machine, **fields: str) -> InstanceResult:
    """The answer of a rollback run on this instance."""
    found = {"run_id": "back-1", "project": there.project.name, **fields}
    environ = {
        "PATH": os.environ["PATH"],
        "CODEFERRY_ROOT": str(there.root),
        "CODEFERRY_RUN_ID": found["run_id"],
        "CODEFERRY_PAYLOAD": RollbackPayload(**found).encode(),
        "CODEFERRY_LOCK_SECONDS": "5",
    }
    done = subprocess.run(
        [sys.executable, str(LAUNCH), "rollback"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    result = parse_result(done.stdout)
    assert done.returncode == (1 if result.status == "failed" else 0)
    return result


def code(result: InstanceResult) -> str:
    assert result.error is not None
    return result.error["code"]


def test_the_payloads_fields_are_the_contracts() -> None:
    """Both sides name the same."""
    assert set(rollback.RollbackRun.fields) == set(RollbackPayload.__dataclass_fields__)


def test_the_release_before_is_current_again(here: Machine) -> None:
    """At once, without a download; and back, for the one that was left is still there."""
    one, two = released(here, b"1", "run-1"), released(here, b"2", "run-2")
    back = restored(here)
    assert (back.status, back.release_id, back.previous) == ("restored", one, two)
    assert here.current_id == one
    assert set(back.seconds) == {"lock", "activate"}
    assert restored(here, run_id="back-2").release_id == two


def test_a_release_is_named(here: Machine) -> None:
    """Any that is there; the current one is left as it is, a missing one is refused by name."""
    one, two, three = (released(here, bytes([n]), f"run-{n}") for n in (1, 2, 3))
    assert restored(here, release=one).release_id == one == here.current_id
    assert restored(here, run_id="back-2", release=one).status == "unchanged"
    missing = restored(here, run_id="back-3", release="0" * 20)
    assert code(missing) == "release_missing"
    assert missing.error is not None
    assert all(each in missing.error["message"] for each in (one, two, three))
    assert here.current_id == one


def test_only_the_release_that_is_meant_is_left(here: Machine) -> None:
    """An instance that has got another one since keeps it, and says so."""
    released(here, b"1", "run-1")
    two = released(here, b"2", "run-2")
    three = released(here, b"3", "run-3")
    kept = restored(here, leaving=two)
    assert (kept.status, kept.release_id, len(kept.warnings)) == ("unchanged", three, 1)
    assert restored(here, run_id="back-2", leaving=three).release_id == two


def test_where_there_is_nothing_to_go_back_to_it_is_said(here: Machine) -> None:
    """A first release, and a project that was never here, of which nothing is made."""
    assert code(restored(here)) == "project_missing"
    assert not here.project.exists()
    one = released(here, b"1", "run-1")
    assert code(restored(here, run_id="back-2")) == "release_missing"
    assert here.current_id == one


def test_a_rollback_delivered_twice_is_done_once(here: Machine) -> None:
    """The second answer comes from the record."""
    one = released(here, b"1", "run-1")
    released(here, b"2", "run-2")
    assert restored(here).replayed is False
    again = restored(here)
    assert (again.replayed, again.release_id, here.current_id) == (True, one, one)


@pytest.mark.parametrize(
    "fields",
    [{"release": "../x"}, {"release": "a" * 19}, {"leaving": "A" * 20}, {"project": "a/b"}],
)
def test_nonsense_is_refused(here: Machine, fields: dict[str, str]) -> None:
    """What is no release id or project never becomes a path."""
    assert code(restored(here, **fields)) == "payload_invalid"


# --- health


def sick(here: Machine, **changes: Any) -> Outcome:
    """A second release whose health command fails with exit code 3."""
    health = ("/bin/sh", "-c", "echo ill; exit 3")
    return pushed(here, b"2", "run-2", **{"returning": True, "health": health} | changes)


def test_a_release_that_is_well_stays(here: Machine) -> None:
    """The health command sees the release, as its owner and with the run's variables."""
    script = 'cat f; echo " $CODEFERRY_RUN_ID"; pwd -P'
    outcome = pushed(
        here, b"1", "run-1", returning=True, bake_seconds=1, health=("/bin/sh", "-c", script)
    )
    assert (outcome.exit, outcome.last.status, outcome.last.ran) == (0, "applied", None)
    assert outcome.output.startswith(b"1 run-1\n")
    assert outcome.output.decode().strip().endswith(f"releases/{here.current_id}")
    assert {"bake", "health"} <= set(outcome.last.seconds)
    assert outcome.last.seconds["bake"] >= 1


def test_a_release_that_is_ill_is_left_at_once(here: Machine) -> None:
    """The one before is current again, both are named, and no rollback leads to the ill one."""
    zero, one = released(here, b"0", "run-0"), released(here, b"1", "run-1")
    outcome = sick(here)
    assert outcome.code == "health_failed"
    assert here.current_id == one == outcome.last.returned == outcome.last.previous
    assert one in outcome.message
    assert outcome.last.release_id in outcome.message
    assert (outcome.ran.exit_code, outcome.ran.tail) == (3, "ill\n")
    assert restored(here).release_id == zero


def test_a_first_release_that_is_ill_stays_and_says_so(here: Machine) -> None:
    """There is nothing to go back to."""
    outcome = sick(here)
    assert (outcome.code, outcome.last.returned) == ("health_failed", "")
    assert "no release before" in outcome.message
    assert here.current_id == outcome.last.release_id


def test_a_release_that_was_current_before_stays_though_ill(here: Machine) -> None:
    """The run did not bring it, so the run does not take it away."""
    two = released(here, b"2", "run-1")
    outcome = sick(here)
    assert (outcome.code, outcome.last.returned, here.current_id) == ("health_failed", "", two)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"command": ("false",), "health": ("true",)}, "exit_code"),
        ({"command": ("true",)}, "health_failed"),
        ({"health": ("no-such-program",)}, "command_not_found"),
    ],
)
def test_whatever_fails_after_the_switch_leads_back(
    here: Machine, changes: dict[str, object], expected: str
) -> None:
    """The command as well as the health command, and one that does not start."""
    one = released(here, b"1", "run-1")
    outcome = sick(here, **changes)
    assert (outcome.code, outcome.last.returned, here.current_id) == (expected, one, one)


def test_without_a_roll_out_a_failed_command_keeps_its_release(here: Machine) -> None:
    """As ever: the release is good, its command was not."""
    one = released(here, b"1", "run-1")
    outcome = pushed(here, b"2", "run-2", command=("false",))
    assert (outcome.code, outcome.last.returned) == ("exit_code", "")
    assert here.current_id != one


def test_a_run_cancelled_while_it_bakes_goes_back(here: Machine) -> None:
    """Nobody has found the release healthy; the wait ends at once."""
    one = released(here, b"1", "run-1")
    payload = here.command(
        tree={"f": b"2"}, run_id="run-2", returning=True, bake_seconds=3000, health=("true",)
    )
    process = here.start(payload)
    wait_until(lambda: here.current_id != one and (here.root / ".results/run-2.working").exists())
    process.terminate()
    outcome = here.wait(process, payload)
    assert (outcome.code, outcome.last.returned, here.current_id) == ("cancelled", one, one)


def test_the_project_is_held_while_its_health_is_awaited(here: Machine) -> None:
    """Another run does not switch underneath: it is refused, by the run that holds it."""
    payload = here.command(tree={"f": b"1"}, returning=True, bake_seconds=3000)
    process = here.start(payload)
    try:
        wait_until(lambda: (here.root / ".results/run-1.working").exists())
        assert code(restored(here)) == "locked"
    finally:
        process.terminate()
        here.wait(process, payload)


def test_leaving_is_forgotten_on_disk(here: Machine) -> None:
    """activations.json has the releases that may be gone back to, and no other."""
    one = released(here, b"1", "run-1")
    sick(here)
    assert json.loads((here.project / "activations.json").read_text()) == [one]
    assert list(Path(here.project / "staging").iterdir()) == []
