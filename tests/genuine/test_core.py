"""The core of the end-to-end suite, with AWS's own agent between the workflow and the instances."""

from __future__ import annotations

import uuid

import pytest

from tests.e2e.conftest import until
from tests.e2e.test_run import kept, processes_of

pytestmark = pytest.mark.e2e


@pytest.fixture
def one(aws):
    return aws.state.instances[0].instance_id


@pytest.fixture
def waiting(aws, project, one):
    """A run whose command has begun and does not end by itself, nor by TERM."""
    (project / "wait.sh").write_text(
        "trap '' TERM; touch output/begun; (setsid sleep 600 &); sleep 600\n"
    )
    ran = aws.ferry("run", one, project, "--no-wait", "--json", "--", "sh", "wait.sh")
    assert ran.exit == 0, ran.err
    until(kept(aws, aws.state.instances[0], project, "begun").exists)
    return ran.json["run_id"]


def test_push_edit_and_rollback(aws, project):
    """Every instance has the release, then the next, then the first again."""
    assert aws.ferry("push", "demo", project).exit == 0
    roots = [aws.root(record, project.name) for record in aws.state.instances]
    first = {(root / "current").readlink() for root in roots}
    assert len(first) == 1
    (project / "main.py").write_text("print('edited')\n")
    assert aws.ferry("push", "demo", project).exit == 0
    assert not first & {(root / "current").readlink() for root in roots}
    back = aws.ferry("rollback", "demo", "--project", project.name)
    assert back.exit == 0, back.err
    assert {(root / "current").readlink() for root in roots} == first


def test_a_commands_output_is_shown(aws, project):
    """From both instances, while it runs and afterwards."""
    ran = aws.ferry("run", "demo", project, "--", "sh", "-c", "echo said; echo complained >&2")
    assert ran.exit == 0, ran.err
    shown = ran.out + ran.err
    for record in aws.state.instances:
        assert f"{record.instance_id} | said" in shown
        assert f"{record.instance_id} | complained" in shown


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 3", "exit code 3"), ("exit 168", "exit code 168"), ("kill -9 $$", "signal 9")],
)
def test_the_true_ending_is_reported(aws, project, one, script, words):
    """The agent sees 0 or 1; the report says how the command really ended, and the run failed."""
    ran = aws.ferry("run", one, project, "--", "sh", "-c", f"echo last words; {script}")
    assert ran.exit == 1
    assert words in ran.out
    assert "last words" in ran.out


def test_a_command_that_takes_too_long(aws, project, one):
    """It is ended with all it has started, by its own supervisor."""
    hard = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 600' &); sleep 600"
    ran = aws.ferry("run", one, project, "--timeout", "2", "--", "sh", "-c", hard)
    assert ran.exit == 1
    assert "timed out after 2 s" in ran.out
    run_id = aws.ferry("runs", "--limit", "1", "--json").json["runs"][0]["run_id"]
    until(lambda: not processes_of(run_id))


def test_cancel_ends_the_command(aws, waiting):
    """Also what has left its process group; the run is cancelled."""
    assert processes_of(waiting)
    ran = aws.ferry("cancel", waiting)
    assert ran.exit == 0, ran.err
    until(lambda: not processes_of(waiting))
    assert aws.ferry("status", waiting, "--json").json["status"] == "cancelled"


def test_variables_reach_the_command(aws, project, one):
    """And stand neither in what the agent keeps nor in what it logs."""
    secret = f"s3cr3t-{uuid.uuid4().hex}"
    check = "import os, sys; sys.exit(len(os.environ['TOKEN']) != 39)"
    ran = aws.ferry("run", one, project, "--env", f"TOKEN={secret}", "--", "python3", "-c", check)
    assert ran.exit == 0, ran.err
    for file in aws.home.path.rglob("*"):
        if file.is_file() and not file.is_symlink() and "ministack" not in file.parts:
            assert secret.encode() not in file.read_bytes(), file


def test_a_script_with_files(aws, tmp_path):
    """It runs on every instance with its files, and nothing of it stays."""
    script = tmp_path / f"deploy-{uuid.uuid4().hex[:6]}.sh"
    script.write_text('#!/bin/sh\ncat "$DEPLOY_FILES_DIR/data.txt"; echo "argument: $1"\n')
    script.chmod(0o755)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "data.txt").write_text("supporting data\n")
    ran = aws.ferry("script", "demo", script, "--", "it's")
    assert ran.exit == 0, ran.err
    assert "Script ran on 2/2 instances" in ran.out
    assert "supporting data" in ran.out + ran.err
    assert "argument: it's" in ran.out + ran.err
