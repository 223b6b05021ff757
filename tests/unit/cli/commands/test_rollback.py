"""`ferry rollback`, and what `push` and `run` say of a roll-out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.views.report_view import rollout_lines, summary_line, verification_lines

RELEASE = "41967ebe10bd78e4308c"


def rehearsed(ferry: Any, command: str, *arguments: str) -> Any:
    """The request of `--dry-run --json`."""
    answer = ferry(command, *arguments, "--dry-run", "--json")
    assert answer.exit == 0, answer.err + answer.out
    request = answer.json()["request"]
    assert request.pop("started_by")["user"]
    return request


def test_the_project_is_the_one_here_or_the_one_named(ferry: Any, project: Path) -> None:
    """By its directory as push does it, or by --project; nothing of it is packed."""
    for typed in (project, project / "pkg"):
        found = rehearsed(ferry, "rollback", "fleet", str(typed))
        assert found == {"target": "fleet", "project": typed.name}
    named = ["--project", "other", "--to", RELEASE, "--max-errors", "1"]
    assert rehearsed(ferry, "rollback", "fleet", *named) == {
        "target": "fleet",
        "project": "other",
        "release": RELEASE,
        "options": {"max_errors": "1"},
    }


def test_a_run_names_its_project_itself(ferry: Any, project: Path) -> None:
    """The directory one stands in has nothing to do with it."""
    assert rehearsed(ferry, "rollback", "run:run-1", str(project)) == {"target": "run:run-1"}


@pytest.mark.parametrize("release", ["", "0123", "../x", RELEASE.upper(), "0" * 65])
def test_what_is_no_release_is_a_usage_error(ferry: Any, release: str) -> None:
    """Before anything is asked of AWS."""
    answer = ferry("rollback", "fleet", "--to", release)
    assert answer.exit == 2
    assert "cannot be a release" in answer.err


def test_a_stage_without_rollback_is_told_to_be_deployed(
    ferry: Any, world: Any, project: Path
) -> None:
    """It was deployed by an older version."""
    answer = ferry("rollback", "fleet", str(project))
    assert answer.exit == 3
    assert "cdk deploy" in answer.err


@pytest.mark.parametrize("command", ["push", "run"])
def test_waves_bake_and_health_become_the_roll_out(ferry: Any, project: Path, command: str) -> None:
    """The health command as words, quotes understood; the time in seconds."""
    options = ["--waves", "1, 10%,100%", "--bake", "2m", "--health", "curl -fsS 'a b'"]
    behind = ["--", "true"] if command == "run" else []
    answer = ferry(command, "fleet", str(project), *options, "--dry-run", "--json", *behind)
    assert answer.exit == 0, answer.err
    assert answer.json()["request"]["options"]["rollout"] == {
        "waves": ["1", "10%", "100%"],
        "bake_seconds": 120,
        "health": ["curl", "-fsS", "a b"],
    }


def test_health_alone_is_one_wave_of_everybody(ferry: Any, project: Path) -> None:
    """And without any of the three there is no roll-out."""
    found = rehearsed(ferry, "push", "fleet", str(project), "--health", "true")
    assert found["options"]["rollout"] == {"waves": ["100%"], "health": ["true"]}
    assert "options" not in rehearsed(ferry, "push", "fleet", str(project))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--waves", "1,all"], "'all' cannot be a wave"),
        (["--waves", "0"], "'0' cannot be a wave"),
        (["--waves", ","], "'' cannot be a wave"),
        (["--bake", "2h"], "at most 3600 s"),
        (["--health", "it's"], "No closing quotation"),
    ],
)
def test_a_roll_out_that_cannot_be_is_refused_by_name(
    ferry: Any, project: Path, options: list[str], says: str
) -> None:
    """Exit 2 and nothing uploaded."""
    answer = ferry("push", "fleet", str(project), *options, "--dry-run")
    assert answer.exit == 2
    assert says in answer.err


def test_a_run_cannot_be_pushed_to(ferry: Any, project: Path) -> None:
    """What a run has changed is a target of rollbacks only."""
    answer = ferry("push", "run:run-1", str(project), "--dry-run")
    assert answer.exit == 2
    assert "rolled back" in answer.err


def report(**changes: Any) -> Any:
    counts = {"total": 3, "succeeded": 1, "failed": 1, "skipped": 1}
    verification = {"release_id": RELEASE, "verified": 1, "files": 0, "digest": ""}
    return {"counts": counts, "workflow": "sync", "verification": verification} | changes


def test_the_report_has_a_line_for_each_wave() -> None:
    """What became of it, how instances were asked, and the run that returned it; without a
    roll-out there is nothing."""
    statuses = ["done", "returned", "untouched"]
    waves = [{"instances": n, "succeeded": 1, "status": s} for n, s in enumerate(statuses, 1)]
    rollout = {"waves": waves, "bake_seconds": 90, "health": ["a b"], "rollback": "back-1"}
    assert rollout_lines(report(rollout=rollout)) == [
        "Wave 1 of 3: 1 instance has the release",
        "Wave 2 of 3: failed on 1 of 2 instances, and the release before is back",
        "Wave 3 of 3: 3 instances untouched",
        "Health command, 1 min 30 s after the switch: 'a b'",
        "The wave was returned by the run back-1",
    ]
    quiet = {"waves": waves, "bake_seconds": 0, "health": [], "rollback": ""}
    assert len(rollout_lines(report(rollout=quiet))) == 3
    assert rollout_lines(report(rollout=None)) == rollout_lines(report()) == []


def test_a_rollback_is_summed_up_as_one() -> None:
    """The release that is back, and no word of a verification: nothing was sent."""
    now = {"status": "succeeded", "release_id": RELEASE, "seconds": {}, "previous": ""}
    other = {**now, "status": "failed", "release_id": "", "seconds": {"activate": 1.0}}
    back = report(workflow="rollback", instances=[now, other, {**other, "seconds": {}}])
    assert (
        summary_line(back)
        == f"1/3 instances are known to have release {RELEASE} again, 1 did not say"
    )
    assert verification_lines(back) == []
