"""`ferry runs`, `status` and `cancel` against a stage."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from codeferry_cli.runs import source


@pytest.fixture
def begun(world: Any) -> Any:
    """Starts runs by hand, as in the console, and stops what still runs."""
    names = []

    def start(target: str, name: str = "") -> str:
        names.append(name or f"by-hand-{secrets.token_hex(6)}")
        world.start(names[-1], target)
        if target == "slow":
            world.await_state(names[-1], "AwaitLong")
        else:
            world.await_end(names[-1])
        return names[-1]

    yield start
    states = world.client("stepfunctions")
    for name in names:
        arn = world.machine.replace(":stateMachine:", ":execution:") + f":{name}"
        if states.describe_execution(executionArn=arn)["status"] == "RUNNING":
            states.stop_execution(executionArn=arn)


def test_runs_are_listed_newest_first_whoever_started_them(ferry: Any, begun: Any) -> None:
    """A run typed into the console is listed like any other."""
    older, newer = begun("fleet"), begun("partial")
    listed = ferry("runs", "--limit", "2", "--json").json()["runs"]
    assert [run["run_id"] for run in listed] == [newer, older]
    assert [run["status"] for run in listed] == ["failed", "succeeded"]
    assert {run["source"] for run in listed} == {"console"}
    assert listed[0]["target"] == "partial"


def test_runs_are_filtered_by_status_and_limited(ferry: Any, begun: Any) -> None:
    """--status asks for one status, --limit for so many rows."""
    begun("fleet")
    failed = begun("partial")
    begun("fleet")
    listed = ferry("runs", "--status", "failed", "--limit", "1", "--json").json()["runs"]
    assert [run["run_id"] for run in listed] == [failed]


def test_runs_for_people_are_a_table(ferry: Any, begun: Any) -> None:
    """One line a run, whole also when the id is long and stdout no terminal."""
    run_id = begun("fleet", "by-hand-" + "x" * 60 + secrets.token_hex(6))
    lines = ferry("runs", "--limit", "1").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:3] == [run_id, "succeeded", "fleet"]


def test_no_run_of_a_status_is_an_empty_answer(ferry: Any, world: Any) -> None:
    """Nothing to list is no failure."""
    answer = ferry("runs", "--status", "timed-out", "--json")
    assert (answer.exit, answer.json()["runs"]) == (0, [])


@pytest.mark.parametrize(
    ("run_id", "way"),
    [
        ("20261120-160400-demo-0123abcd", "cli"),
        ("inbox-demo-0123456789abcdef0123", "inbox"),
        ("my-run", "console"),
        ("7b0c4c3e-0000-4000-8000-000000000000", "console"),
    ],
)
def test_the_form_of_an_id_tells_the_way_in(run_id: str, way: str) -> None:
    """Ids of the CLI and of the inbox have a form of their own."""
    assert source(run_id) == way


def test_status_of_a_run_that_ended_shows_its_report(ferry: Any, begun: Any) -> None:
    """The same table as at its end, with exit 0: the run could be shown."""
    answer = ferry("status", begun("partial"))
    assert answer.exit == 0
    assert "Phases: plan" in answer.out
    assert "2/3 instances have release" in answer.out
    assert "Failed: 2/3 instances have the release." in answer.out


def test_status_of_a_running_run_says_its_phase(ferry: Any, begun: Any) -> None:
    """Phase and the instances so far, though there is no report yet."""
    document = ferry("status", begun("slow"), "--json").json()
    assert document["status"] == "running"
    assert document["phase"] == "apply"
    assert (document["instances"], document["report"]) == ([], None)


def test_status_of_a_run_that_died_early_has_its_cause(ferry: Any, begun: Any) -> None:
    """Without a report the execution's error stands in."""
    document = ferry("status", begun("dies"), "--json").json()
    assert document["report"] is None
    assert "plan broke" in document["failure"]["message"]


def test_a_run_is_found_by_the_beginning_of_its_id_or_as_latest(ferry: Any, begun: Any) -> None:
    """A prefix is enough when only one run has it."""
    mark = secrets.token_hex(4)
    run_id = begun("fleet", f"{mark}-first")
    assert ferry("status", mark, "--json").json()["run_id"] == run_id
    assert ferry("status", "latest", "--json").json()["run_id"] == run_id


def test_an_ambiguous_beginning_lists_the_candidates(ferry: Any, begun: Any) -> None:
    """Two runs with the same beginning: exit 2 and both names."""
    mark = secrets.token_hex(4)
    names = [begun("fleet", f"{mark}-{n}") for n in (1, 2)]
    answer = ferry("status", mark)
    assert answer.exit == 2
    assert all(name in answer.err for name in names)


def test_a_whole_id_wins_over_ids_that_begin_with_it(ferry: Any, begun: Any) -> None:
    """An id that is also the beginning of another means itself."""
    mark = secrets.token_hex(4)
    begun("fleet", f"{mark}")
    begun("fleet", f"{mark}-2")
    assert ferry("status", mark, "--json").json()["run_id"] == mark


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_unknown_run_is_exit_2_and_says_how_to_list_them(
    ferry: Any, world: Any, command: str
) -> None:
    """What is typed is named, and the command that shows what there is."""
    answer = ferry(command, "no-such-run")
    assert answer.exit == 2
    assert "no run 'no-such-run'" in answer.err
    assert "ferry runs --stage local" in answer.err


def test_cancel_stops_a_run(ferry: Any, begun: Any) -> None:
    """The execution is aborted."""
    run_id = begun("slow")
    answer = ferry("cancel", run_id, "--no-wait", "--json")
    assert answer.exit == 0
    assert answer.json()["cancelled"] is True
    assert ferry("status", run_id, "--json").json()["status"] == "cancelled"


def test_cancel_of_a_run_that_ended_says_so(ferry: Any, begun: Any) -> None:
    """Nothing to do is no failure, and the status stays what it was."""
    answer = ferry("cancel", begun("fleet"))
    assert answer.exit == 0
    assert "had already ended: succeeded" in answer.out


def test_cancel_dry_run_leaves_the_run_alone(ferry: Any, begun: Any) -> None:
    """--dry-run says what would happen to which run."""
    run_id = begun("slow")
    assert "would be cancelled" in ferry("cancel", run_id, "--dry-run").out
    assert ferry("status", run_id, "--json").json()["status"] == "running"


def test_cancel_waits_for_the_report_of_the_abort(
    ferry: Any, world: Any, begun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report that the abort function writes a moment later is shown."""
    from codeferry_cli import record

    run_id = begun("slow")
    finished = begun("fleet")
    s3 = world.client("s3")
    report = s3.get_object(Bucket=world.bucket, Key=f"runs/{finished}/report.json")["Body"].read()
    asked = []
    original = record.RunRecord.report

    def late(self: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            s3.put_object(Bucket=world.bucket, Key=f"runs/{run_id}/report.json", Body=report)
        return original(self)

    monkeypatch.setattr(record.RunRecord, "report", late)
    answer = ferry("cancel", run_id)
    assert answer.exit == 0
    assert "3/3 instances have release" in answer.out
    assert f"{run_id} is cancelled" in answer.out
