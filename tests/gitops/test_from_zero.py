"""docs/gitops.md, followed to the letter from an empty account to a deployed change.

``conftest.py`` says what stands in for what. The tests are one story and run in order: each of
the fixtures below goes on where the one before it stopped.
"""

from __future__ import annotations

import re

import pytest

from tests.gitops.cloud import TEST, job_key
from tests.gitops.conftest import PAGE
from tests.gitops.github import Event
from tests.gitops.page import boxes

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
]

ASSEMBLY = re.compile(r"Assembly `([0-9a-f]{64})`")
WORKFLOW_STACK = "Codeferry-prod-Workflow"
COMMAND_LOG = "/codeferry/prod/commands"
# AWS answers these to everybody, or refuses the plan role and the CDK goes on without.
UNCHECKED = {"sts:GetCallerIdentity", "sts:AssumeRole"}


@pytest.fixture(scope="module")
def set_up(following):
    following.through("Branch")
    return following


@pytest.fixture(scope="module")
def proposed(set_up):
    """A run of ``deploy`` for the pull request."""
    set_up.through("Propose")
    return latest(set_up, "pull_request")


@pytest.fixture(scope="module")
def proposed_again(set_up, proposed):
    """One more commit on the same branch."""
    set_up.paste("perl -pi -e 's/90,/60,/' cdk.json\ngit commit -qam 'For 60 days'\ngit push -q\n")
    return latest(set_up, "pull_request")


@pytest.fixture(scope="module")
def merged(set_up, proposed_again):
    set_up.through("Merge")
    run = latest(set_up, "push")
    return run, {name: job.state for name, job in run.jobs.items()}, retention(set_up)


@pytest.fixture(scope="module")
def deployed(set_up, merged):
    set_up.through("Deploy")
    return merged[0]


def latest(following, event):
    runs = [r for r in following.runner.runs if (r.workflow, r.event.name) == ("deploy.yml", event)]
    assert runs
    return runs[-1]


def retention(following):
    """Days that logs are kept, as CloudFormation last deployed it and as CloudWatch Logs has it."""
    cloud = following.runner.cloud
    template = cloud.client("cloudformation").get_template(StackName=WORKFLOW_STACK)
    resources = template["TemplateBody"]["Resources"].values()
    asked = {
        resource["Properties"]["RetentionInDays"]
        for resource in resources
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    found = cloud.client("logs").describe_log_groups(logGroupNamePrefix=COMMAND_LOG)
    (group,) = found["logGroups"]
    return asked | {group["retentionInDays"]}


def states(run):
    return {name: job.state for name, job in run.jobs.items()}


def comments(following):
    return following.runner.github.state["comments"]


# --- once -----------------------------------------------------------------------------------


def test_the_bootstrap_ends_well(set_up):
    """As the page says, with the settings that the workflows need."""
    assert "BOOTSTRAP SUCCESSFUL" in set_up.printed["Bootstrap"]


def test_the_workflows_have_every_variable_they_read(set_up):
    """Each that the page's table has, with the roles that were deployed."""
    variables = set_up.runner.github.state["variables"]
    assert set(variables) == set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert variables["AWS_DEPLOY_ROLE"].endswith(":role/codeferry-prod-eu-west-1-deploy")
    assert "github=acme/app" in variables["CODEFERRY_CONTEXT"]


# --- a pull request -------------------------------------------------------------------------


def test_a_pull_request_is_planned_and_nothing_more(proposed):
    """Nothing is deployed, nothing waits for a deployment."""
    assert states(proposed) == {
        "assembly": "success",
        "plan": "success",
        "comment": "success",
        "deploy": "skipped",
        "health": "skipped",
        "drift": "skipped",
    }, proposed.log


def test_the_comment_says_what_would_change(set_up, proposed):
    """The log groups, their new retention, and that nothing is lost or opened."""
    shown = set_up.printed["Propose"]
    assert "Plan for `prod`" in shown
    assert re.search(r"\[~\] AWS::Logs::LogGroup", shown)
    assert re.search(r"\[\+\] 90", shown)
    assert "CAUTION" not in shown


def test_another_push_updates_the_comment(set_up, proposed, proposed_again):
    """It stays one, of the workflow's own, and tells of the newest commit."""
    assert proposed_again is not proposed
    assert states(proposed_again)["comment"] == "success", proposed_again.log
    (comment,) = comments(set_up)
    assert comment["user"]["login"] == "github-actions[bot]"
    assert re.search(r"\[\+\] 60", comment["body"])
    assert "[+] 90" not in comment["body"]


# --- main -----------------------------------------------------------------------------------


def test_main_is_planned_and_waits_for_a_person(merged):
    """Until then nothing has changed."""
    run, then, kept = merged
    assert then == {
        "assembly": "success",
        "plan": "success",
        "comment": "skipped",
        "deploy": "waiting",
        "health": "pending",
        "drift": "skipped",
    }, run.log
    assert kept == {30}


def test_what_was_reviewed_is_what_main_deploys(proposed_again, merged, set_up):
    """The comment's digest is that of main's plan: the same sources give the same bytes."""
    run, *_ = merged
    (comment,) = comments(set_up)
    (reviewed,) = ASSEMBLY.findall(comment["body"])
    assert ASSEMBLY.findall(run.jobs["plan"].summary) == [reviewed]
    assert run.jobs["assembly"].outputs == {"sha256": reviewed}


def test_the_change_is_deployed_after_approval(set_up, deployed):
    """The stack has it, the service has it, and the page's last command ends well."""
    assert states(deployed)["deploy"] == "success", deployed.log
    assert retention(set_up) == {60}


def test_the_deployed_stage_is_healthy(deployed):
    """Its target can be reached, and the summary says so beside the digest."""
    health = deployed.jobs["health"]
    assert health.state == "success", health.log
    assert ASSEMBLY.findall(health.summary) == [deployed.jobs["assembly"].outputs["sha256"]]
    assert "workers" in health.summary


def test_every_box_of_the_page_was_pasted(set_up, deployed):
    """In order, and none is left."""
    assert set_up.left == []
    assert list(set_up.printed) == list(dict.fromkeys(b.heading for b in boxes(PAGE.read_text())))


# --- who did what ---------------------------------------------------------------------------


def test_only_three_jobs_got_credentials(deployed, proposed):
    """Each the role it is meant to have; the assembly is made and commented on without."""
    roles = {
        name: job.role.rpartition("-")[2]
        for run in (proposed, deployed)
        for name, job in run.jobs.items()
        if job.role
    }
    assert roles == {"plan": "plan", "deploy": "deploy", "health": "inspect"}


@pytest.mark.parametrize("name", ["plan", "health"])
def test_looking_needs_no_more_than_its_role_has(set_up, deployed, name):
    """Every call that was made meanwhile, but by functions and by this test, is allowed to it."""
    job, cloud = deployed.jobs[name], set_up.runner.cloud
    others = {*cloud.functions(), TEST}
    calls = [c for c in cloud.calls(job.began) if c["time"] <= job.ended]
    made = [c for c in calls if c["access_key"] not in others and c["action"] not in UNCHECKED]
    assert made
    assert [(c["action"], c["resource"]) for c in made if not cloud.may(job.role, c)] == []


def test_the_deploy_role_only_becomes_the_cdks_roles(set_up, deployed):
    """It does nothing itself, and those it takes are those it may take."""
    job, cloud = deployed.jobs["deploy"], set_up.runner.cloud
    calls = [c for c in cloud.calls(job.began) if c["access_key"] == job_key(job.role)]
    assert {c["action"] for c in calls} <= UNCHECKED
    taken = [c for c in calls if c["action"] == "sts:AssumeRole"]
    assert taken
    assert all(cloud.may(job.role, c) for c in taken)


# --- afterwards -----------------------------------------------------------------------------


def test_a_target_nobody_is_in_fails_the_run(set_up, deployed):
    """Asked again, with a target that has no instance."""
    set_up.paste("gh variable set CODEFERRY_TARGET --body nobody\n")
    try:
        health = set_up.runner.again(deployed, "health")
    finally:
        set_up.paste("gh variable set CODEFERRY_TARGET --body workers\n")
    assert health.state == "failure"
    assert "nobody" in health.log


def test_drift_is_looked_for_by_the_clock(set_up, deployed):
    """The daily run deploys nothing, and fails when something was changed by hand."""
    github = set_up.runner.github
    sha = github.branches()["main"]
    set_up.runner.start(Event("schedule", "refs/heads/main", sha, head=sha))
    set_up.runner.settle()
    run = latest(set_up, "schedule")
    assert states(run)["deploy"] == "skipped"
    assert states(run)["drift"] == "success", run.log
    logs = set_up.runner.cloud.client("logs")
    logs.put_retention_policy(logGroupName=COMMAND_LOG, retentionInDays=1)
    drift = set_up.runner.again(run, "drift")
    assert drift.state == "failure"
    assert "RetentionInDays" in drift.log
