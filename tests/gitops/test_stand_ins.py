"""The stand-ins refuse what GitHub would, and stop at what they do not know."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from tests.gitops.actions import StepFailed, configure_aws_credentials
from tests.gitops.conftest import ROOT
from tests.gitops.expressions import NotUnderstood, evaluate, fill
from tests.gitops.github import NOTHING, REPOSITORY, Event, GitHub
from tests.gitops.github_api import Refused
from tests.gitops.page import Terminal, boxes
from tests.gitops.runner import Job, Run, parse, starts

REPO = f"repos/{REPOSITORY}"
PRODUCTION = {
    "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": 1}
}
WORKFLOW = """
name: one
on: {push: }
permissions: {}
jobs:
  it:
    name: it
    runs-on: ubuntu-24.04
    permissions: {contents: read}
    steps: [{run: "true"}]
"""


@pytest.fixture
def github(tmp_path):
    github = GitHub(tmp_path)
    github.save(NOTHING)
    return github


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{REPO}/branches", None),
        ("GET", "repos/mallory/app", None),
        ("POST", f"{REPO}/environments/production", {}),
        ("PUT", f"{REPO}/environments/production", {"reviewer": []}),
        ("PUT", f"{REPO}/environments/production", {"reviewers": [{"type": "Person", "id": 1}]}),
        ("PUT", f"{REPO}/environments/production", PRODUCTION),
        ("POST", f"{REPO}/environments/production/deployment-branch-policies", {"name": "main"}),
        ("PUT", f"{REPO}/actions/oidc/customization/sub", {"use_immutable_subject": True}),
        ("POST", f"{REPO}/rulesets", {"name": "main"}),
        ("POST", f"{REPO}/rulesets", {"name": "m", "enforcement": "active", "rules": [{}]}),
        ("POST", f"{REPO}/actions/runs/1/pending_deployments", {"state": "approved"}),
        ("POST", f"{REPO}/issues/1/comments", {"body": "x" * 65_537}),
    ],
)
def test_github_refuses(github, method, path, body):
    """An endpoint, a field or a value that it does not have, or not yet."""
    with pytest.raises(Refused, match="HTTP 4"):
        github.api(method, path, body)


def test_a_job_writes_only_what_its_permissions_say(github):
    """A comment with ``pull-requests: write``; settings never."""
    comments, body = f"{REPO}/issues/1/comments", {"body": "a plan"}
    with pytest.raises(Refused, match="403"):
        github.api("POST", comments, body, github.token({"contents": "read"}))
    token = github.token({"pull-requests": "write"})
    assert github.api("POST", comments, body, token)["user"]["login"] == "github-actions[bot]"
    with pytest.raises(Refused, match="403"):
        github.api("PUT", f"{REPO}/environments/production", {}, token)


@pytest.mark.parametrize(
    ("event", "environment", "subject"),
    [
        (Event("push", "refs/heads/main", "", ""), "", "ref:refs/heads/main"),
        (Event("push", "refs/heads/main", "", ""), "production", "environment:production"),
        (Event("pull_request", "refs/pull/1/merge", "", "", 1), "", "pull_request"),
    ],
)
def test_a_subject_has_the_numbers_once_they_are_turned_on(github, event, environment, subject):
    """As GitHub spells it."""
    assert github.subject(event, environment) == f"repo:acme/app:{subject}"
    switch = {"use_default": True, "use_immutable_subject": True}
    github.api("PUT", f"{REPO}/actions/oidc/customization/sub", switch)
    assert github.subject(event, environment) == f"repo:acme@12/app@34:{subject}"


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("id_token", ["write", "none"])
def test_credentials_take_a_token_and_trust(github, trusted, id_token):
    """One without the other is not enough."""
    job = SimpleNamespace(
        permissions={"id-token": id_token},
        github=github,
        run=SimpleNamespace(event=Event("push", "refs/heads/main", "", "")),
        environment_name="",
        environment={},
        cloud=SimpleNamespace(trusts=lambda *_: trusted, credentials=lambda role: {"KEY": role}),
    )
    wanted = {"role-to-assume": "arn:plan", "aws-region": "eu-west-1"}
    if trusted and id_token == "write":
        configure_aws_credentials(job, wanted)
        assert job.environment["KEY"] == "arn:plan"
    else:
        with pytest.raises(StepFailed):
            configure_aws_credentials(job, wanted)
        assert job.environment == {}


@pytest.mark.parametrize(
    ("head", "planned"), [(REPOSITORY, True), ("mallory/app", False), ("", False)]
)
def test_a_fork_gets_no_plan(head, planned):
    """The workflow's own condition, for a pull request from there."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    pull_request = {"head": {"repo": {"full_name": head}}}
    github = {"event_name": "pull_request", "repository": REPOSITORY}
    context = {"github": github | {"event": {"pull_request": pull_request}}}
    assert bool(evaluate(workflow["jobs"]["plan"]["if"], context)) is planned


def test_expressions():
    """Strings compare without case, what is not there is empty, braces stand in text."""
    context = {"vars": {"STAGE": "prod"}, "github": {"event_name": "push"}}
    assert fill("at ${{ vars.STAGE }}: ${{ vars.NONE }}", context) == "at prod: "
    assert evaluate("(github.event_name == 'PUSH' && vars.STAGE) || 'none'", context) == "prod"
    assert evaluate("vars.STAGE != 'prod'", context) is False


@pytest.mark.parametrize("text", ["always()", "vars.A == ", "secrets.KEY", "(vars.A", "vars.A[0]"])
def test_other_expressions_are_not_guessed(text):
    """They have to be written first."""
    with pytest.raises(NotUnderstood):
        evaluate(text, {"vars": {"A": "a"}})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("permissions: {}", "defaults: {run: {shell: bash}}"),
        ("    name: it", "    strategy: {matrix: {a: [1]}}"),
        ('run: "true"', 'uses: "mallory/action@main"'),
        ('run: "true"', 'run: "true", continue-on-error: true'),
        ("ubuntu-24.04", "self-hosted"),
    ],
)
def test_other_workflows_are_not_guessed(old, new):
    """A key, an action or a machine that the runner does not know stops it."""
    assert parse(WORKFLOW)
    with pytest.raises(AssertionError):
        parse(WORKFLOW.replace(old, new))


def test_a_workflow_starts_for_its_branches():
    """For a pull request that is the branch it goes into."""
    main = {"push": {"branches": ["main"]}, "pull_request": {"branches": ["main"]}}
    assert starts(main, Event("push", "refs/heads/main", "", ""))
    assert not starts(main, Event("push", "refs/heads/feature", "", ""))
    assert starts(main, Event("pull_request", "refs/pull/1/merge", "", "", 1))
    assert not starts(main, Event("schedule", "refs/heads/main", "", ""))


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("false", "failure"),
        ("false | true", "success"),
        ("set -o pipefail\nfalse | true", "failure"),
    ],
)
def test_a_step_runs_in_the_shell_that_github_takes(github, tmp_path, script, state):
    """``bash -e``: a pipe hides what fails in it unless the step says otherwise."""
    work = tmp_path / "work"
    work.mkdir()
    place = SimpleNamespace(checkout=work, keep_set_up=lambda: None)
    run = Run(1, "one.yml", Event("push", "refs/heads/main", "", ""), tmp_path / "artifacts")
    spec = {"name": "it", "permissions": {}, "steps": [{"run": script}]}
    job = Job("it", spec, run, github, None, place, {"PATH": "/usr/bin:/bin"})
    job.work()
    assert job.state == state


def test_a_page_is_its_boxes_of_shell():
    """Under their headings; other boxes are not shell, and a comment is no heading."""
    page = "# A\n```sh\n# one\ntrue\n```\n## B\n```json\n{}\n```\n```sh\nfalse\n```\n"
    assert [(b.heading, b.commands) for b in boxes(page)] == [
        ("A", "# one\ntrue\n"),
        ("B", "false\n"),
    ]


def test_a_terminal_remembers_and_stops_at_what_fails(tmp_path):
    """Directory and variables stay from box to box; an error shows what was printed."""
    (tmp_path / "below").mkdir()
    terminal = Terminal(tmp_path, {"PATH": "/usr/bin:/bin"})
    try:
        terminal.paste("NAME=value\ncd below\n")
        assert terminal.paste('echo "$NAME $(basename "$PWD")"\n') == "value below\n"
        with pytest.raises(AssertionError, match="so far"):
            terminal.paste("echo so far\nfalse | true\n")
    finally:
        terminal.close()
