"""Decisions of a bootstrap, without an AWS; tests/e2e/test_bootstrap.py runs it whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import steps
from bootstrap.__main__ import main, parse
from bootstrap.aws import NotThere, StepFailed, ToolMissing
from bootstrap.steps import Plan, check_tools, upload, verify
from codeferry_contracts.names import Stage

ROOT = Path(__file__).resolve().parents[3]
PLAN = Plan(Stage("dev"), "eu-west-1")
BUCKET = "codeferry-dev-models-1-eu-west-1"


class Account:
    """An AWS account: stacks with a status, objects with a size."""

    def __init__(self, **objects):
        stacks = ["CDKToolkit", *PLAN.stacks(), "Codeferry-dev-Fleet"]
        self.stacks = dict.fromkeys(stacks, "UPDATE_COMPLETE")
        self.objects = objects

    def account(self):
        return "1"

    def partition(self):
        return "aws"

    def parameter(self, stack, name):
        return "their-policy"

    def status(self, stack):
        return self.stacks.get(stack, "")

    def output(self, stack, name):
        return BUCKET

    def size(self, bucket, key):
        return self.objects.get(key)


@pytest.fixture
def programs(monkeypatch):
    """What would have been run."""
    seen = []
    monkeypatch.setattr(steps, "run", lambda command, *words: seen.append(command[1:]))
    return seen


def asked(line):
    return parse(line.split())


def test_the_shell_is_a_line_and_the_logic_is_python():
    """scripts/bootstrap.sh finds the Python that runs the rest."""
    lines = (ROOT / "scripts" / "bootstrap.sh").read_text().splitlines()
    assert len(lines) < 20
    assert not [line for line in lines if line.strip().startswith(("case", "for", "while"))]


def test_a_fleet_and_gitops_are_deployed_when_they_are_asked_for():
    """Everything else always is."""
    names = [s.rpartition("-")[2] for s in PLAN.stacks()]
    assert names == ["Storage", "Documents", "Workflow", "FleetStorage", "Monitoring"]
    plan = asked("--project dev --region r --fleet w --context github=a/b --leave-out Documents")
    names = [s.rpartition("-")[2] for s in plan.stacks()]
    assert names == ["Storage", "Workflow", "FleetStorage", "Monitoring", "Fleet", "GitOps"]


def test_the_settings_are_what_github_needs_too():
    """Among them the name by which the permanent bucket is found again."""
    plan = asked("--project dev --region eu-west-1 --fleet w --context fleet_max=5")
    named = [f"region={plan.region}", f"permanent_bucket={BUCKET}"]
    assert plan.settings("1") == [*named, "fleet_max=5", "fleet=w"]


def test_a_fleet_fetches_the_weights_that_come_with_it():
    """Its instances would otherwise be without them, and the weights without a use."""
    plan = asked("--project dev --region eu-west-1 --fleet w --model-path weights")
    assert plan.settings("1")[-1] == "fleet_models=models"


def test_the_fleet_is_deployed_when_its_weights_are_up(programs, monkeypatch):
    """An instance that finds nothing to fetch would fail, and the deployment with it."""
    monkeypatch.setattr(steps, "Aws", lambda region: Account())
    monkeypatch.setattr(steps, "_present", lambda *found: 1)
    list(steps.bootstrap(asked("--project dev --region eu-west-1 --fleet w")))
    kinds = [("fleet" if c[-1].endswith("-Fleet") else c[0]) for c in programs]
    assert kinds.index("fleet") > max(
        i for i, c in enumerate(programs) if c[:2] == ["s3", "upload"]
    )


@pytest.mark.parametrize(("option", "ours"), [("", False), ("--narrow", True)])
def test_cdk_and_app_learn_of_the_rights_that_were_decided(programs, monkeypatch, option, ours):
    """The policies go to `cdk bootstrap`, the boundary to the app and to GitHub's settings."""
    account = Account()
    account.put_policy = lambda *policy: None
    monkeypatch.setattr(steps, "Aws", lambda region: account)
    monkeypatch.setattr(steps, "_present", lambda *found: 1)
    told = list(steps.bootstrap(asked(f"--project dev --region eu-west-1 {option}")))
    (first,) = [c for c in programs if "bootstrap" in c]
    assert ("--cloudformation-execution-policies" in first) is ours
    boundary = "permissions_boundary=cdk-hnb659fds-codeferry-boundary-eu-west-1"
    (synthesis,) = [c for c in programs if "synth" in c]
    assert (boundary in synthesis) is ours
    assembly = synthesis[synthesis.index("--output") + 1]
    assert all(assembly in c for c in programs if "deploy" in c or "bootstrap" in c)
    assert (boundary in told[-1]) is ours
    assert any("--narrow leaves it what Codeferry needs" in line for line in told) is not ours


def test_a_project_that_cannot_be_a_stage_is_incomplete(capsys):
    """With what a stage looks like."""
    assert main(["--project", "My_App", "--region", "eu-west-1"]) == 1
    said = capsys.readouterr().out
    assert "'My_App' cannot be a stage" in said
    assert said.endswith("BOOTSTRAP INCOMPLETE\n")


def test_missing_weights_are_told_before_anything_is_made(capsys, tmp_path):
    """The path is looked at first."""
    path = tmp_path / "no-such-weights"
    assert main(["--project", "dev", "--region", "r", "--model-path", str(path)]) == 1
    said = capsys.readouterr().out
    assert f"There is nothing at {path}" in said
    assert "Correct --model-path." in said


def test_a_missing_tool_is_told_with_its_remedy(monkeypatch, tmp_path):
    """A checkout in which nothing has been set up."""
    monkeypatch.setattr(steps, "CDK_CLI", tmp_path / "cdk")
    with pytest.raises(ToolMissing, match="CDK CLI") as raised:
        check_tools(PLAN)
    assert raised.value.hint == "Run make setup."


def test_a_file_goes_up_under_its_name_and_a_directory_whole(programs, tmp_path):
    """Both through ferry s3, the agent beside them."""
    weights = tmp_path / "model.bin"
    weights.touch()
    upload(Plan(Stage("dev"), "eu-west-1", models=weights), Account())
    upload(Plan(Stage("dev"), "eu-west-1", models=tmp_path), Account())
    sources = [(c[2], c[3], "--recursive" in c) for c in programs]
    agent = (str(PLAN.agent), f"s3://{BUCKET}/agent/codeferry-agent.pyz", False)
    assert sources == [
        agent,
        (str(weights), f"s3://{BUCKET}/models/model.bin", False),
        agent,
        (str(tmp_path), f"s3://{BUCKET}/models/", True),
    ]


def test_every_file_of_a_directory_is_looked_for(programs, tmp_path):
    """One that is short or missing is named."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.bin").write_bytes(b"one")
    uploaded = {f"s3://{BUCKET}/models/": tmp_path}
    told = list(verify(PLAN, Account(**{"models/part/one.bin": 3}), uploaded))
    assert "✓ 1 objects are there" in told
    for objects in ({}, {"models/part/one.bin": 2}):
        with pytest.raises(NotThere, match=r"models/part/one\.bin"):
            list(verify(PLAN, Account(**objects), uploaded))


def test_a_stack_that_is_not_complete_is_named(programs):
    """Also one that is missing."""
    account = Account()
    account.stacks["Codeferry-dev-Workflow"] = "ROLLBACK_COMPLETE"
    with pytest.raises(NotThere, match="Codeferry-dev-Workflow is ROLLBACK_COMPLETE"):
        list(verify(PLAN, account, {}))
    del account.stacks["Codeferry-dev-Workflow"]
    with pytest.raises(NotThere, match="is missing"):
        list(verify(PLAN, account, {}))


def test_a_probe_gets_a_push(programs):
    """Only when there is one."""
    list(verify(PLAN, Account(), {}))
    assert [c[0] for c in programs] == ["doctor"]
    list(verify(Plan(Stage("dev"), "eu-west-1", probe="canary"), Account(), {}))
    assert programs[-1][:2] == ["push", "canary"]


def test_a_program_that_fails_is_quoted(capfd):
    """Its last words are in the message, all of them on stderr."""
    with pytest.raises(StepFailed, match="no space left") as raised:
        steps.run(["sh", "-c", "echo begun; echo no space left; exit 3"], "It failed.", "Free it.")
    assert raised.value.hint == "Free it."
    assert "begun" in capfd.readouterr().err
