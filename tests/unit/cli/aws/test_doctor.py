"""`ferry doctor`: what it finds, and what it ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.aws import doctor


def by_name(answer: Any) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in answer.json()["checks"]}


def test_all_in_order_is_exit_0(ferry: Any, world: Any) -> None:
    """Each thing a push needs is named with what was found."""
    answer = ferry("doctor", "--json")
    checks = by_name(answer)
    assert answer.exit == 0
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert list(checks) == [
        "Python",
        "git",
        "configuration",
        "local stage",
        "credentials",
        "stage",
        "bucket",
        "state machine",
    ]


def test_a_target_lists_who_can_be_reached_and_how_to_reach_the_others(
    ferry: Any, world: Any
) -> None:
    """An instance that cannot be reached is a warning with its fix while another can."""
    answer = ferry("doctor", "fleet")
    assert answer.exit == 0
    assert "✓ target fleet: 1 of 2 instances can be reached" in answer.out
    assert "! i-00000000000000002: is stopped\n    Start it: aws ec2 start" in answer.out


def test_instances_open_to_every_stage_are_a_warning_with_how_to_close_that(
    ferry: Any, world: Any
) -> None:
    """A warning with the command that tags them; a stage of before says nothing of it."""
    answer = ferry("doctor", "open")
    assert answer.exit == 0
    assert "! stages: 1 without the tag codeferry:stage, which every stage can run" in answer.out
    assert "--resources i-00000000000000001 --tags Key=codeferry:stage,Value=local" in answer.out
    assert "-c require_stage_tag=true" in answer.out
    assert "stages" not in by_name(ferry("doctor", "fleet", "--json"))


def test_an_old_agent_is_a_warning_with_the_command_that_updates_it(ferry: Any, world: Any) -> None:
    """It needs an endpoint that AWS retires."""
    answer = ferry("doctor", "old")
    assert answer.exit == 0
    assert "! SSM agents: i-00000000000000001 (3.1.1): older than 3.3.40" in answer.out
    assert "AWS-UpdateSSMAgent --instance-ids i-00000000000000001" in answer.out


def test_a_target_without_a_reachable_instance_is_exit_1(ferry: Any, world: Any) -> None:
    """Everything else is in order, so the failure is the target's."""
    answer = ferry("doctor", "unreachable", "--json")
    assert answer.exit == 1
    assert answer.json()["error"]["code"] == "no_instances"
    assert by_name(answer)["i-00000000000000002"]["fix"] == "Start it: aws ec2 start"


def test_a_check_function_that_breaks_is_a_finding(ferry: Any, world: Any) -> None:
    """Its own error is shown; the stage needs mending, so exit 3."""
    answer = ferry("doctor", "broken")
    assert answer.exit == 3
    assert "✗ target broken: the check function broke" in answer.out


def test_without_credentials_the_fix_is_to_sign_in(ferry: Any) -> None:
    """Checks that need credentials are left out."""
    answer = ferry("doctor", "--region", "eu-west-1", "--json")
    assert answer.exit == 3
    checks = by_name(answer)
    assert checks["credentials"]["status"] == "fail"
    assert "aws sso login" in checks["credentials"]["fix"]
    assert "stage" not in checks


def test_without_a_region_the_fix_names_the_option(ferry: Any) -> None:
    """The region comes before anything that is in it."""
    answer = ferry("doctor")
    assert answer.exit == 3
    assert "No AWS region is configured." in answer.out
    assert "--region" in answer.out


def test_the_embedded_aws_not_running_is_exit_3_with_its_command(ferry: Any) -> None:
    """`--stage local` needs it."""
    answer = ferry("doctor", "--stage", "local")
    assert answer.exit == 3
    assert "ferry local up" in answer.out


def test_a_configuration_that_cannot_be_used_is_a_finding_not_the_end(
    ferry: Any, world: Any, clean_environment: Path
) -> None:
    """The other checks are made with the defaults."""
    (clean_environment / "codeferry.toml").write_text("stge = 1\n")
    answer = ferry("doctor", "--json")
    assert answer.exit == 3
    checks = by_name(answer)
    assert "codeferry.toml, line 1: unknown key 'stge'" in checks["configuration"]["said"]
    assert checks["bucket"]["status"] == "ok"


def test_the_files_in_use_are_named(ferry: Any, world: Any, clean_environment: Path) -> None:
    """Which file a setting came from is half of finding out why."""
    path = clean_environment / "codeferry.toml"
    path.write_text('project = "x"\n')
    assert str(path) in by_name(ferry("doctor", "--json"))["configuration"]["said"]


def test_missing_git_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing works without git, less exactly."""
    monkeypatch.setenv("PATH", "")
    assert doctor.git().status == "warn"


def test_an_old_python_is_a_failure() -> None:
    """The version is named with the one that is needed."""
    check = doctor.python_version((3, 10))
    assert (check.status, check.said) == ("fail", "3.10")
    assert "3.11" in check.fix
