"""`ferry runs`, `status` and `cancel` against a stage."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from codeferry_cli.runs.execution import Execution
from codeferry_cli.runs.find import as_run, source_of, workplace
from tests.unit.cli.stage_function import outcome


def put(world: Any, key: str, document: Any) -> None:
    body = json.dumps(document).encode()
    world.client("s3").put_object(Bucket=world.bucket, Key=key, Body=body)


@pytest.fixture
def begun(world: Any) -> Any:
    """Starts runs by hand, as in the console, and stops what still runs."""
    begun: list[tuple[str, str]] = []

    def start(target: str, name: str = "", workflow: str = "sync", **more: Any) -> str:
        name = name or f"by-hand-{secrets.token_hex(6)}"
        begun.append((name, workflow))
        world.start(name, target, workflow, **more)
        if target == "slow":
            world.await_state(name, "AwaitLong", workflow)
        else:
            world.await_end(name, workflow)
        return name

    yield start
    states = world.client("stepfunctions")
    for name, workflow in begun:
        arn = world.execution_arn(name, workflow)
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


def test_runs_of_all_workflows_are_one_list(ferry: Any, begun: Any) -> None:
    """By the time they started, and each says which workflow it is of."""
    names = [begun("fleet", workflow=workflow) for workflow in ("script", "sync", "script")]
    listed = ferry("runs", "--limit", "3", "--json").json()["runs"]
    assert [run["run_id"] for run in listed] == names[::-1]
    assert [run["workflow"] for run in listed] == ["script", "sync", "script"]


@pytest.mark.parametrize(
    ("key", "project"),
    [
        ("inbox/fleet/my-app-20261120-160400-0123abcd.tar.gz", "my-app"),
        ("inbox/fleet/whatever.tar.gz", ""),
        ("archives/my-app-20261120-160400-0123abcd.tar.gz", ""),
    ],
)
def test_the_project_of_an_upload_is_in_its_key(key: str, project: str) -> None:
    """Where `ferry upload` made the key; a name by somebody else may mean anything."""
    request = {"archive": {"key": key}, "target": "fleet"}
    execution = Execution("sync", "r", "RUNNING", datetime.now(UTC), input=json.dumps(request))
    assert as_run(execution).project == project


def test_runs_for_people_are_a_table(ferry: Any, begun: Any) -> None:
    """One line a run, whole also when the id is long and stdout no terminal."""
    run_id = begun("fleet", "by-hand-" + "x" * 60 + secrets.token_hex(6))
    lines = ferry("runs", "--limit", "1").out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:3] == [run_id, "✓", "succeeded"]


def test_no_run_of_a_status_is_an_empty_answer(ferry: Any, world: Any) -> None:
    """Nothing to list is no failure."""
    answer = ferry("runs", "--status", "timed-out", "--json")
    assert (answer.exit, answer.json()["runs"]) == (0, [])


@pytest.mark.parametrize(
    ("run_id", "way"),
    [
        ("20261120-160400-demo-0123abcd", "cli"),
        ("inbox-demo-0123456789abcdef0123", "inbox"),
        ("welcome-demo-0123456789abcdef0123", "workflow"),
        ("back-20260612-160400-demo-0123abcd", "workflow"),
        ("my-run", "console"),
        ("7b0c4c3e-0000-4000-8000-000000000000", "console"),
    ],
)
def test_the_form_of_an_id_tells_the_way_in(run_id: str, way: str) -> None:
    """Ids of the CLI, of the inbox, and of what a workflow starts have a form of their own."""
    assert source_of(run_id) == way


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


def test_a_run_is_found_by_the_beginning_of_its_id(ferry: Any, begun: Any) -> None:
    """A prefix is enough when only one run has it."""
    mark = secrets.token_hex(4)
    run_id = begun("fleet", f"{mark}-first")
    assert ferry("status", mark, "--json").json()["run_id"] == run_id


COLLEAGUE = {"user": "bob", "host": "elsewhere", "root": "/home/bob/train"}


def me(**changes: str) -> dict[str, str]:
    return asdict(workplace().by) | changes


@pytest.mark.parametrize("typed", [[], ["latest"]])
def test_latest_is_ones_own_newest_of_this_project(
    ferry: Any, begun: Any, clean_environment: Path, typed: list[str]
) -> None:
    """Neither a colleague's newer run of it nor one's own of another project; it is said which
    it is. Nobody's, such as an upload's, counts where it is of the project."""
    project = f"p{secrets.token_hex(4)}"
    mine = begun("fleet", project=project, started_by=me(root="/x"))
    begun("fleet", project="another", started_by=me(root="/y"))
    begun("fleet", project=project, started_by=COLLEAGUE)
    begun("fleet", project="another")
    answer = ferry("status", *typed, "--project", project)
    assert (answer.exit, f"Run {mine}: succeeded" in answer.out) == (0, True), answer.err
    assert f"Run {mine}, your newest of {project}, to fleet." in answer.err
    (clean_environment / "codeferry.toml").write_text(f'project = "{project}"')
    nobodys = begun("fleet", project=project)
    assert ferry("status", *typed, "--json").json()["run_id"] == nobodys


def test_a_run_from_this_directory_is_of_this_project(
    ferry: Any, begun: Any, clean_environment: Path
) -> None:
    """Such as a script's, whose project is the script's name."""
    script = begun("fleet", project="setup.sh", workflow="script", started_by=me())
    assert ferry("status", "--json").json()["run_id"] == script


def test_without_a_run_of_ones_own_there_is_none(ferry: Any, begun: Any) -> None:
    """Whose the newest is instead, and how to mean it."""
    theirs = begun("fleet", project="apart", started_by=COLLEAGUE)
    answer = ferry("logs", "latest", "--project", "apart")
    assert answer.exit == 2
    assert "You have no run of the project 'apart' on stage 'local'." in answer.err
    assert f"The newest of apart, by bob@elsewhere is {theirs}" in answer.err


def test_cancel_without_a_run_stops_ones_own_that_still_runs(ferry: Any, begun: Any) -> None:
    """Not the newest if that has ended, such as a push that the lock has refused; and never a
    colleague's."""
    project = f"p{secrets.token_hex(4)}"
    mine = begun("slow", project=project, started_by=me())
    begun("partial", project=project, started_by=me())
    theirs = begun("slow", project=project, started_by=COLLEAGUE)
    answer = ferry("cancel", "--project", project, "--no-wait", "--json")
    assert (answer.exit, answer.json()["run_id"]) == (0, mine)
    assert ferry("status", theirs, "--json").json()["status"] == "running"
    answer = ferry("cancel", "latest", "--project", project)
    assert (answer.exit, "no run that is still going on" in answer.err) == (2, True)


def test_another_persons_run_is_cancelled_by_its_id_or_by_yes(ferry: Any, begun: Any) -> None:
    """The beginning of an id may be a slip, so that asks; here nobody can answer."""
    mark = secrets.token_hex(4)
    theirs = begun("slow", f"{mark}-theirs", project="p", started_by=COLLEAGUE)
    answer = ferry("cancel", mark, "--no-wait")
    assert answer.exit == 2
    assert f"The run {theirs} of p was started by bob@elsewhere." in answer.err
    assert f"ferry cancel {theirs}" in answer.err
    assert ferry("status", theirs, "--json").json()["status"] == "running"
    assert ferry("cancel", mark, "--no-wait", "--yes", "--json").json()["cancelled"] is True
    other = begun("slow", project="p", started_by=COLLEAGUE)
    assert ferry("cancel", other, "--no-wait", "--json").json()["cancelled"] is True


def test_who_started_a_run_is_listed(ferry: Any, begun: Any) -> None:
    """In the table, in --json, and in the heading of `status`; nothing where nobody is named."""
    theirs, nobodys = begun("fleet", started_by=COLLEAGUE), begun("fleet")
    lines = {line.split()[0]: line for line in ferry("runs", "--limit", "2").out.splitlines()}
    assert "bob@elsewhere" in lines[theirs]
    assert "@" not in lines[nobodys]
    listed = ferry("runs", "--limit", "2", "--json").json()["runs"]
    assert [run["started_by"] for run in listed] == [None, COLLEAGUE]
    assert " by bob@elsewhere, took" in ferry("status", theirs).out


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


def test_the_running_one_of_two_runs_of_one_id_is_meant(ferry: Any, begun: Any) -> None:
    """Ids given by hand may repeat in another workflow."""
    name = begun("fleet")
    begun("slow", name, workflow="script")
    found = ferry("status", name, "--json").json()
    assert (found["workflow"], found["status"]) == ("script", "running")


def test_status_names_the_instances_at_work(ferry: Any, world: Any, begun: Any) -> None:
    """Those a command was sent to that have not answered; the phase is the command's."""
    run_id = begun("slow", command=["python", "train.py"])
    record = {"command_id": "c", "log_group": "g", "instances": ["i-1", "i-2"]}
    put(world, f"runs/{run_id}/commands/00000.json", record)
    put(world, f"runs/{run_id}/instances/i-1.json", outcome("fleet", "i-1", ["x"], "sync"))
    answer = ferry("status", run_id)
    assert "Now: run, since" in answer.out
    assert "✓ i-1" in answer.out
    assert "… i-2 at work" in answer.out
    assert ferry("status", run_id, "--json").json()["at_work"] == ["i-2"]


def test_status_of_a_command_that_failed_shows_how_and_its_last_words(
    ferry: Any, begun: Any
) -> None:
    """Exit code in the table, the end of the output below, phases under the command's name."""
    answer = ferry("status", begun("partial", command=["x"]))
    assert answer.exit == 0
    assert "exit code 3" in answer.out
    assert "printed last:\n  Traceback" in answer.out
    assert ", run " in answer.out
    assert "Command succeeded on 2/3 instances" in answer.out


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that notes what it is asked to open; the file it notes it in."""
    note, program = tmp_path / "opened", tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {note}.part && mv {note}.part {note}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return note


def test_the_report_page_is_fetched_and_opened(ferry: Any, begun: Any, browser: Path) -> None:
    """The file's path is printed, for where there is no browser."""
    answer = ferry("status", begun("fleet"), "--open")
    assert answer.exit == 0, answer.err
    path = Path(answer.out.strip())
    assert path.read_text() == '{"a": "page"}'
    deadline = time.monotonic() + 30
    while not browser.exists():
        assert time.monotonic() < deadline, "the browser was not called"
        time.sleep(0.01)
    assert browser.read_text() == str(path)


def test_a_missing_report_page_is_said_and_nothing_opened(
    ferry: Any, begun: Any, browser: Path
) -> None:
    """Of a run that goes on, and of one that left none."""
    answer = ferry("status", begun("slow"), "--open")
    assert (answer.exit, "still going on" in answer.err) == (1, True)
    answer = ferry("status", begun("dies"), "--open", "--json")
    assert answer.json()["error"]["code"] == "page_missing"
    assert not browser.exists()


@pytest.mark.parametrize("command", ["status", "cancel", "logs"])
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


def test_cancel_stops_a_script_too(ferry: Any, begun: Any) -> None:
    """The execution is found in whichever workflow it is."""
    run_id = begun("slow", workflow="script")
    assert ferry("cancel", run_id, "--no-wait", "--json").json()["cancelled"] is True
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
    from codeferry_cli.runs import record

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


def test_runs_as_csv_and_json_by_output(ferry: Any, begun: Any) -> None:
    """--output csv is the whole table for programs; --output json is --json."""
    run_id = begun("fleet")
    (row,) = csv.DictReader(io.StringIO(ferry("runs", "--limit", "1", "--output", "csv").out))
    assert (row["run"], row["status"], row["target"]) == (run_id, "succeeded", "fleet")
    assert datetime.fromisoformat(row["started"]).tzinfo is not None
    assert float(row["seconds"]) > 0
    answer = ferry("runs", "--limit", "1", "--output=json")
    assert answer.json()["runs"][0]["run_id"] == run_id


@pytest.mark.parametrize("typed", [("--output", "json"), ("--output=json",)])
def test_errors_are_json_by_output_as_well(ferry: Any, typed: tuple[str, ...]) -> None:
    """One document in every case, however it was asked for."""
    answer = ferry("runs", "--nonsense", *typed)
    assert (answer.exit, answer.json()["error"]["code"]) == (2, "usage")


def test_json_and_another_form_contradict_each_other(ferry: Any) -> None:
    """Nothing is guessed."""
    answer = ferry("runs", "--json", "--output", "csv")
    assert answer.exit == 2
    assert "contradict" in answer.json()["error"]["message"]


def test_a_report_as_csv_is_the_table_and_nothing_else(ferry: Any, begun: Any) -> None:
    """What is said beside it goes to stderr."""
    run_id = begun("fleet")
    answer = ferry("status", run_id, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert "Started" in answer.err


def test_times_are_utc_and_say_so(ferry: Any, begun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the ids are, wherever the reader is."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        run_id = begun("fleet")
        answer = ferry("status", run_id)
        started = ferry("status", run_id, "--json").json()["started_at"]
    finally:
        monkeypatch.undo()
        time.tzset()
    utc = datetime.fromisoformat(started).astimezone(UTC)
    assert f"Started {utc:%Y-%m-%d %H:%M:%S} UTC, took" in answer.out
