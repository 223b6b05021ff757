"""Releases that go out in waves, go back, and reach who comes later: nobody is mocked."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path

import pytest

from codeferry_contracts.layout import ReleaseKeys, RunKeys
from codeferry_local.instances import launch_more
from tests.e2e.conftest import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Fails on an instance that has a file "sick" where its projects are.
HEALTH = """sh -c 'echo looking; test ! -e "$CODEFERRY_ROOT/sick"'"""


class Fleet:
    """Instances of one target that no other test knows."""

    def __init__(self, aws):
        self.aws, self.target, self.records = aws, f"t-{uuid.uuid4().hex[:8]}", []

    def launch(self, count=1):
        more = launch_more(self.aws.home, count=count, target=self.target)
        self.records = sorted([*self.records, *more], key=lambda record: record.instance_id)
        return more

    def current(self, project):
        """The current release by instance, in the order in which instances are sent to."""
        return [current(self.aws, record, project) for record in self.records]

    def end(self):
        ids = [record.instance_id for record in self.records]
        self.aws.client("ec2").terminate_instances(InstanceIds=ids)
        self.aws.control("DELETE", "instances", {"instance_ids": ids})
        for record in self.records:
            shutil.rmtree(record.root)


def current(aws, record, project):
    """The release on one instance; empty while there is none."""
    link = aws.root(record, project.name) / "current"
    return link.readlink().name if link.is_symlink() else ""


@pytest.fixture
def fleet(aws):
    found = Fleet(aws)
    found.launch(4)
    yield found
    found.end()


@pytest.fixture
def lone(aws):
    """A target of one instance."""
    found = Fleet(aws)
    found.launch()
    yield found
    found.end()


@pytest.fixture
def push(aws, fleet, project):
    """``push(*options)`` after an edit: how it ended, and the release it was."""

    def pushed(*options, text=None):
        (project / "main.py").write_text(f"print({text or uuid.uuid4().hex!r})\n")
        return aws.ferry("push", fleet.target, project, *options, "--json")

    return pushed


def released(done):
    return done.json["report"]["verification"]["release_id"]


def kept(aws, fleet, project):
    return aws.record(ReleaseKeys(fleet.target, project.name).record)


def welcomes(aws, project):
    """The runs that were started for who joined."""
    runs = aws.ferry("runs", "--limit", "100", "--json").json["runs"]
    return [r for r in runs if r["run_id"].startswith(f"welcome-{project.name}-")]


def test_who_joins_late_gets_the_last_good_release(aws, fleet, project, push):
    """An instance that starts is given its target's release, once, and is on the record; the
    kept archive outlives the runs that read it."""
    done = push()
    assert done.exit == 0, done.err
    (late,) = fleet.launch()
    assert until(lambda: current(aws, late, project)) == released(done)
    until(lambda: late.instance_id in kept(aws, fleet, project)["instances"])
    (run,) = until(lambda: [r for r in welcomes(aws, project) if r["status"] == "succeeded"])
    assert aws.report(run["run_id"])["counts"]["total"] == 1
    aws.control("POST", f"started/{late.instance_id}", {})
    aws.control("POST", f"started/{fleet.records[0].instance_id}", {})
    again = fleet.launch()[0]  # its event comes after those
    until(lambda: again.instance_id in kept(aws, fleet, project)["instances"])
    assert len(welcomes(aws, project)) == 2
    assert kept(aws, fleet, project)["archive"]["key"] in aws.keys("releases/")
    assert [key for key in aws.keys("archives/") if project.name in key] == []


def test_who_joins_late_gets_the_dependencies_too(aws, lone, project):
    """What was installed with the release is installed with it there; it counts only then."""
    (project / "requirements.txt").write_text("# none, but an environment all the same\n")
    # Time runs fast here, and making an environment does not.
    done = aws.ferry("push", lone.target, project, "--install", "--timeout", "12h", "--json")
    assert done.exit == 0, done.err
    (late,) = lone.launch()
    until(lambda: late.instance_id in kept(aws, lone, project)["instances"])
    assert (aws.root(late, project.name) / "shared/venv/bin/python").exists()


def test_a_rollback_switches_and_is_what_who_joins_then_gets(aws, fleet, project, push):
    """Without an upload every instance has the release before again, and so has the next one;
    also where the agent itself has been lost, which is checked when it comes again."""
    first, second = push(), push()
    assert (first.exit, second.exit) == (0, 0), first.err + second.err
    (lost, agent), (damaged, _) = [
        (path, path.read_bytes())
        for record in fleet.records[:2]
        for path in (aws.root(record, project.name).parent / ".agent").iterdir()
    ]
    lost.unlink()
    damaged.write_bytes(agent[:-1])
    back = aws.ferry("rollback", fleet.target, project, "--json")
    assert back.exit == 0, back.err
    assert {o["change"] for o in back.json["report"]["instances"]} == {"restored"}
    assert lost.read_bytes() == damaged.read_bytes() == agent
    assert hashlib.sha256(agent).hexdigest() == lost.name
    assert set(fleet.current(project)) == {released(first)}
    (late,) = fleet.launch()
    assert until(lambda: current(aws, late, project)) == released(first)

    refused = aws.ferry("rollback", fleet.target, project, "--to", "0" * 20)
    assert refused.exit == 1
    assert f"no release {'0' * 20}" in refused.err + refused.out
    assert released(first) in refused.err + refused.out
    assert set(fleet.current(project)) == {released(first)}

    one = next(record for record in fleet.records if record != late)
    forward = aws.ferry("rollback", one.instance_id, project, "--to", released(second))
    assert forward.exit == 0, forward.err
    assert current(aws, one, project) == released(second)
    assert kept(aws, fleet, project)["release_id"] == released(first)


def test_a_rollback_of_what_was_never_there_says_so(aws, fleet, project):
    """Nothing is made on an instance that does not know the project."""
    refused = aws.ferry("rollback", fleet.target, project, "--json")
    assert refused.exit == 1
    errors = {o["error"]["code"] for o in refused.json["report"]["instances"]}
    assert errors == {"project_missing"}
    assert not aws.root(fleet.records[0], project.name).exists()


def test_a_wave_that_fails_goes_back_and_stops_the_rest(aws, fleet, project, push):
    """Wave one keeps the release, wave two has the one before again, the last was not touched;
    who joins gets the one before, and undoing the run returns wave one as well."""
    healthy = push("--waves", "1,3", "--health", HEALTH)
    assert healthy.exit == 0, healthy.err
    assert [w["status"] for w in healthy.json["report"]["rollout"]["waves"]] == ["done"] * 3
    old = released(healthy)

    (Path(fleet.records[1].root) / "opt/codeferry/sick").touch()
    failed = push("--waves", "1,3", "--bake", "1", "--health", HEALTH)
    assert failed.exit == 1
    report = failed.json["report"]
    new = report["verification"]["release_id"]
    assert fleet.current(project) == [new, old, old, old]
    assert [w["status"] for w in report["rollout"]["waves"]] == ["done", "returned", "untouched"]
    assert report["error"]["code"] == "wave_failed"
    errors = {o["instance_id"]: (o["error"] or {}).get("code") for o in report["instances"]}
    assert [errors[record.instance_id] for record in fleet.records] == [
        None,
        "health_failed",
        "wave_returned",
        "error_budget_spent",
    ]
    assert [o["wave"] for o in report["instances"]] == [1, 2, 2, 3]
    told = aws.ferry("status", report["run_id"]).out
    assert "Wave 2 of 3: failed on 1 of 2 instances, and the release before is back" in told
    page = aws.client("s3").get_object(Bucket=aws.bucket, Key=RunKeys(report["run_id"]).page)
    assert b"failed on 1 of 2 instances, and the release before is back" in page["Body"].read()
    assert kept(aws, fleet, project)["release_id"] == old
    assert [key for key in aws.keys("archives/") if project.name in key] == []

    undone = aws.ferry("rollback", f"run:{report['run_id']}", "--json")
    assert undone.exit == 0, undone.err
    assert undone.json["report"]["counts"]["total"] == 1
    assert set(fleet.current(project)) == {old}
    assert kept(aws, fleet, project)["release_id"] == old


def test_a_first_wave_that_fails_leaves_nothing_behind(aws, fleet, project, push):
    """When the only instance of the wave went back by itself, no rollback run is needed."""
    assert push().exit == 0
    old = fleet.current(project)
    (Path(fleet.records[0].root) / "opt/codeferry/sick").touch()
    failed = push("--waves", "1,100%", "--health", HEALTH)
    report = failed.json["report"]
    assert (failed.exit, report["rollout"]["rollback"]) == (1, "")
    assert [w["status"] for w in report["rollout"]["waves"]] == ["returned", "untouched"]
    assert fleet.current(project) == old


def test_a_command_that_fails_in_a_rollout_goes_back_too(aws, fleet, project, push):
    """`run` with waves: the command decides as the health command does."""
    assert push().exit == 0
    old = fleet.current(project)
    (project / "main.py").write_text("raise SystemExit(7)\n")
    failed = aws.ferry(
        "run", fleet.target, project, "--waves", "2", "--json", "--", "python3", "main.py"
    )
    report = json.loads(failed.out)["report"]
    assert failed.exit == 1
    assert fleet.current(project) == old
    assert report["rollout"]["waves"][0]["status"] == "returned"
